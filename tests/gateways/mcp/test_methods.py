"""Endpoints as tools."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest

from kitmsg import Service, endpoint
from kitmsg.schema.live import document_hash
from tests.gateways.mcp.services import Shop


class Notes(Service):
    """Keeps notes."""

    @endpoint
    async def add(self, text: str) -> None: ...


async def tools_of(outside: Any, mode: str = "auto") -> dict[str, Any]:
    """Return the tools by name, as a client lists them."""
    async with outside.client(mode) as client:
        return {tool.name: tool for tool in (await client.list_tools()).tools}


async def test_every_endpoint_is_a_tool(hub, start, mode):
    """By the name it has everywhere, with what its docstring says."""
    await hub.serve(Shop())
    await hub.serve(Notes())
    tools = await tools_of(await start(hub), mode)
    assert set(tools) == {
        "notes.add",
        *(
            f"shop.{name}"
            for name in (
                *("get", "put", "buy", "forget", "scan", "wait", "echo"),
                *("count", "watch", "total", "double"),
            )
        ),
    }
    assert tools["shop.get"].description == "Return an order."
    assert tools["shop.get"].title == "shop.get"


async def test_schemas_are_those_of_the_types(hub, start, mode):
    """Arguments and results fit them, and what does not fit is told."""
    await hub.serve(Shop())
    tools = await tools_of(await start(hub), mode)
    put = tools["shop.put"]
    order = {"id": "A1", "items": [{"sku": "tea", "count": 2}]}
    jsonschema.validate(order, put.input_schema)
    jsonschema.validate(order, put.output_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"items": []}, put.input_schema)
    get = tools["shop.get"].output_schema
    jsonschema.validate({"result": None}, get)
    jsonschema.validate({"result": order}, get)
    assert tools["shop.forget"].output_schema is None
    assert tools["shop.forget"].input_schema["properties"] == {}


async def test_streams_are_lists(hub, start):
    """Under a name that no parameter has; out, with their count and whether they ended."""
    await hub.serve(Shop())
    tools = await tools_of(await start(hub))
    total = tools["shop.total"].input_schema
    jsonschema.validate({"items": "x", "items_": [{"sku": "tea"}]}, total)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"items": "x", "items_": [{"sku": 5}]}, total)
    found = {"count": 1, "complete": True, "items": [{"sku": "tea", "count": 1}]}
    jsonschema.validate(found, tools["shop.count"].output_schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "items": [5]}, tools["shop.count"].output_schema)


async def test_hints_say_what_a_call_does(hub, start, mode):
    """A GET reads only; what is idempotent may be called again."""
    await hub.serve(Shop())
    tools = await tools_of(await start(hub), mode)

    def hints(name: str) -> tuple[Any, Any]:
        found = tools[name].annotations
        return found.read_only_hint, found.idempotent_hint

    assert hints("shop.get") == (True, True)
    assert hints("shop.put") == (None, True)
    assert hints("shop.buy") == (None, None)


async def test_characters_that_names_refuse_are_encoded(hub, start, foreign):
    """So a service of another language has tools too."""
    foreign("files", "files.a/b", endpoint="a/b")
    tools = await tools_of(await start(hub))
    assert tools["files.a_x2f_b"].title == "files.a/b"
    assert tools["files.a_x2f_b"].input_schema["type"] == "object"


async def test_of_two_tools_of_one_name_the_first_stays(
    hub, start, foreign, until, caplog
):
    """The other is refused, with a warning: it takes no client's calls away."""
    foreign("b_c", "one.d", endpoint="d")
    outside = await start(hub, separator="_")
    before = await tools_of(outside)
    assert before["b_c_d"].title == "b_c.d"
    foreign("b", "two.c_d", endpoint="c_d")  # sorts before the first
    await until(lambda: "b.c_d is not served" in caplog.text)
    assert (await tools_of(outside))["b_c_d"].title == "b_c.d"
    assert "the name 'b_c_d' belongs to b_c.d" in caplog.text


async def test_names_that_are_too_long_are_refused(hub, start, foreign, caplog):
    """With a warning that says how long they may be."""
    name = "n" * 130
    foreign("long", f"long.{name}")
    assert await tools_of(await start(hub)) == {}
    assert "is longer than 128 characters" in caplog.text


async def test_only_chosen_endpoints_are_tools(hub, start):
    """Patterns say which; others cannot be called either."""
    await hub.serve(Shop())
    await hub.serve(Notes())
    outside = await start(hub, tools=("notes.*", "shop.get"))
    assert set(await tools_of(outside)) == {"notes.add", "shop.get"}
    async with outside.client() as client:
        with pytest.raises(Exception, match="there is no 'shop.buy' here"):
            await client.call_tool("shop.buy", {"sku": "tea"})


async def test_a_schema_that_clients_cannot_read_spoils_no_other(
    hub, start, foreign, mode
):
    """Such a tool takes any object."""
    await hub.serve(Notes())

    bad = {"request": {"type": "object", "properties": {"x": 5}}}
    hash_ = document_hash(bad)
    told = msgspec.json.encode({"go": {**bad, "hash": hash_}})
    hub.bus.subscribe("liar._schema", lambda m: hub.bus.publish(m.reply, told))
    foreign("liar", "liar.go", schema=hash_)
    tools = await tools_of(await start(hub), mode)
    assert tools["liar.go"].input_schema == {"type": "object"}
    assert "text" in tools["notes.add"].input_schema["properties"]


async def test_initialize_says_what_is_here(hub, start, mode):
    """Services with their descriptions, after what the operator says."""
    await hub.serve(Shop())
    outside = await start(hub, name="our shop", instructions="Be kind.")
    async with outside.client(mode) as client:
        assert client.instructions == "Be kind.\nServices:\n- shop: Sells things."
        assert client.server_info.name == "our shop"
