"""Which events are open at an HTTP gateway, to whom, and what stands in front of them."""

from __future__ import annotations

import asyncio
import json
import logging
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.auth.basic import make_hash
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.errors import PermissionDenied
from kitmsg_gateways.http import GatewayOptions
from kitmsg_gateways.http.streams.formats import SSE
from tests.gateways.http.events.conftest import (
    OPEN,
    OrderPlaced,
    Orders,
    event,
    make_streams,
)

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus

PATH = "/events/orders.placed"
JSON = {"Content-Type": "application/cloudevents+json"}


@pytest.fixture
async def kit(memory_bus: MemoryBus) -> Any:
    async with kitmsg.connect(bus=memory_bus) as kit:
        await make_streams(kit, OrderPlaced)
        await kit.serve(Orders)
        yield kit


async def post(call: Any, path: str = PATH, **kwargs: Any) -> Any:
    headers = JSON | kwargs.pop("headers", {})
    body = json.dumps(event(**kwargs))
    return await call("POST", path, data=body, headers=headers)


async def test_none_is_open_by_default(kit, start):
    """There are no such paths then."""
    call = await start(kit)
    for method in ("GET", "POST"):
        response, _ = await call(method, PATH)
        assert response.status == 404


async def test_an_event_that_is_not_open(kit, start):
    """404, as for one that does not exist; whatever its name."""
    call = await start(kit, events=("orders.placed",))
    names = ("orders.shipped", "x", "", "orders.placed/x", "%00", "orders.*", "..%2f")
    for name in names:
        for method in ("GET", "POST"):
            response, _ = await call(method, f"/events/{name}")
            assert response.status == 404, name


async def test_an_event_may_be_open_one_way_only(kit, start):
    """405 says which way; OPTIONS too."""
    call = await start(kit, events=("orders.placed:read", "orders.shipped:publish"))
    response, _ = await post(call)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"
    response, _ = await call("GET", "/events/orders.shipped")
    assert response.status == 405
    assert response.headers["Allow"] == "POST, OPTIONS"
    response, _ = await call("OPTIONS", PATH)
    assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_an_event_that_nobody_has_spoken_of(kit, start, caplog):
    """503; no warning yet, as services may start beside their gateway."""
    with caplog.at_level(logging.WARNING, "kitmsg_gateways"):
        call = await start(kit, events=("orders.place",))
    assert not caplog.messages
    response, problem = await post(call, "/events/orders.place")
    assert response.status == 503
    assert "no service on the bus" in problem["detail"]


async def test_an_event_is_there_as_soon_as_its_service_is(memory_bus, start, until):
    """And is no event of a door that hides the service."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        await make_streams(kit, OrderPlaced)
        call = await start(kit, events=("orders.placed",))
        hiding = await start(kit, events=("orders.placed",), hide=("orders",))
        only = await start(kit, events=("orders.placed",), only=("billing",))
        assert (await post(call))[0].status == 503
        await kit.serve(Orders)
        await until(call.server.events.listed)
        assert (await post(call))[0].status == 202
        for other in (hiding, only):
            await until(lambda other=other: other.server.catalogue.found.events)
            assert (await post(other))[0].status == 404
            assert (await other("GET", PATH))[0].status == 404
            document = (await other("GET", "/openapi.json"))[1]
            assert PATH not in document["paths"]


async def test_middlewares_of_the_gateway_stand_around_its_events(kit, start, tmp_path):
    """As around its calls: they see who publishes and who follows, and may refuse."""
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('secret')}\nbob:{make_hash('secret')}\n")

    def only_ann(endpoint: Any, /) -> Any:
        async def call(ctx: Any, request: Any) -> Any:
            if ctx.principal.name != "ann":
                raise PermissionDenied(f"{ctx.endpoint} is for ann")
            return await endpoint(ctx, request)

        return call

    call = await start(kit, events=OPEN, basic_file=str(users), middleware=(only_ann,))
    ann, bob = (
        {"Authorization": f"Basic {b64encode(f'{name}:secret'.encode()).decode()}"}
        for name in ("ann", "bob")
    )
    assert (await post(call, headers=ann))[0].status == 202
    log = f"{PATH}?since=1&follow=false"
    assert (await call("GET", log, headers=ann))[0].status == 200
    for method, path in (("POST", PATH), ("GET", log)):
        headers = bob | (JSON if method == "POST" else {})
        data = json.dumps(event()) if method == "POST" else None
        response, problem = await call(method, path, headers=headers, data=data)
        assert response.status == 403
        assert problem["detail"] == "events.orders.placed is for ann"


async def test_strangers_get_nothing(kit, start, tmp_path):
    """401 before anything else; who published is noted by the gateway, not by the client."""
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('secret')}\n")
    call = await start(kit, events=OPEN, basic_file=str(users))
    assert (await post(call))[0].status == 401
    assert (await call("GET", PATH))[0].status == 401
    assert (await call("GET", "/events/unknown"))[0].status == 401
    basic = {"Authorization": "Basic YW5uOnNlY3JldA=="}
    response, _ = await post(call, headers=basic, authid="bob", authtype="user")
    assert response.status == 202
    stored = await (await kit.jetstream.stream("orders")).get(1)
    assert stored.headers["ce-authid"] == "ann"
    assert "Authorization" not in stored.headers
    async with call.session.get(
        f"{PATH}?since=1&follow=false", headers=basic
    ) as response:
        assert b"ann" not in await response.read()


async def test_a_trace_goes_on_in_what_is_stored(kit, start):
    """As with what a service publishes."""
    call = await start(kit, events=OPEN)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    await post(call, headers={"traceparent": trace, "X-Request-Id": "r-1"})
    stored = await (await kit.jetstream.stream("orders")).get(1)
    assert stored.headers["traceparent"] == trace
    assert stored.headers["Kit-Request-Id"] == "r-1"


async def test_calls_are_counted_and_logged_by_the_name_of_the_event(
    kit, start, caplog
):
    """And never by one that a client made up."""
    with caplog.at_level(logging.INFO):
        call = await start(kit, events=OPEN, access_log=True)
        await post(call)
        await call("GET", "/events/made-up")
    assert "POST /events/orders.placed 202" in caplog.text
    text = (await call("GET", "/metrics"))[1].decode()
    assert 'endpoint="/events/orders.placed",code="ok"' in text
    assert "made-up" not in text


async def test_a_gateway_that_is_full(kit, start):
    """429, as for any call."""
    call = await start(kit, events=OPEN, max_concurrent=1, max_held_bytes=64)
    response, problem = await post(call)
    assert response.status == 429, problem


async def test_no_service_can_have_these_paths(kit, start):
    """Where events are open; elsewhere it keeps its routes."""

    class Hall(Service):
        name = "hall"

        @endpoint(http="GET /events/{id}")
        async def one(self, id: str) -> str:  # noqa: A002
            return id

    await kit.serve(Hall)
    call = await start(kit, events=OPEN)
    assert (await call("GET", "/events/7"))[0].status == 404
    assert any("gateway's own" in each for each in call.server.table.conflicts)
    other = await start(kit)
    assert (await other("GET", "/events/7"))[1] == "7"


async def test_the_document_has_the_open_events(kit, start):
    """Valid OpenAPI, with the fields of the event and the parameters of its log."""
    call = await start(kit, events=("orders.placed", "orders.shipped:read"))
    _, document = await call("GET", "/openapi.json")
    validate(document)
    path = document["paths"][PATH]
    assert set(path) == {"get", "post"}
    assert set(document["paths"]["/events/orders.shipped"]) == {"get"}
    names = [each.get("name") for each in path["get"]["parameters"]]
    assert {"since", "follow", "Last-Event-ID", "order_id"} <= {*names}
    content = path["post"]["requestBody"]["content"]
    assert set(content) == {
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
    }
    assert "OrderPlaced" in document["components"]["schemas"]
    assert "202" in path["post"]["responses"]


async def test_a_gateway_that_stops(kit, start):
    """Followers are told to come back, and no new ones are taken."""
    call = await start(kit, events=OPEN, drain_timeout=10)
    async with asyncio.timeout(8):
        async with (
            call.session.get(PATH, headers={"Accept": SSE}) as events,
            call.session.get(PATH) as lines,
        ):
            await call.server.stop()
            assert b"retry: " in await events.content.read()
            assert json.loads(await lines.content.read())["code"] == "unavailable"


async def test_a_bus_that_is_away(start, until):
    """503 in time; followers wait for it, and miss nothing."""
    with EmbeddedServer() as server:
        async with (
            kitmsg.connect(server.url, makes_streams=True) as kit,
            kitmsg.connect(server.url) as own,
        ):
            await make_streams(kit, OrderPlaced)
            await kit.serve(Orders)
            call = await start(own, events=OPEN)
            async with call.session.get(PATH, headers={"Accept": SSE}) as response:
                server.kill()
                await until(lambda: not own.bus.is_connected)
                answer, _ = await post(call, headers={"Request-Timeout": "0.5"})
                assert answer.status in (503, 504)
                server.restart()
                await until(lambda: kit.bus.is_connected and own.bus.is_connected)
                await kit.publish(OrderPlaced("back"))
                async with asyncio.timeout(20):
                    async for line in response.content:
                        if line.startswith(b"data:"):
                            break
                assert b'"back"' in line


@pytest.mark.parametrize(
    "text", ["", "a:b", "a b", "orders.*", "orders.placed:", ":read", "a..b", "/x"]
)
def test_options_that_do_not_fit(text):
    """A sentence says how to write it."""
    with pytest.raises(ValueError, match="orders.placed:read"):
        GatewayOptions(events=(text,))
