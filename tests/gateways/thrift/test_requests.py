"""Requests as clients of generated code make them: one struct, absent fields, constants."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import pytest
from thriftpy2.thrift import TApplicationException

import kitmsg_gateways.thrift
from kitmsg import Service, endpoint
from kitmsg.errors import Unavailable
from kitmsg.idl.lock import Lock
from kitmsg.idl.service import shape_service
from kitmsg_gateways.thrift.generate import generate
from tests.gateways.thrift.test_clients import compiled, connected, load

if TYPE_CHECKING:
    from collections.abc import Callable

    import kitmsg
    from tests.gateways.thrift.conftest import Outside

__all__ = ["load"]  # a fixture


class Order(msgspec.Struct):
    sku: str
    count: int = 1
    request: str | None = None


class Desk(Service):
    """Takes orders."""

    @endpoint
    async def place(self, order: Order) -> str:
        return f"{order.count} {order.sku} {order.request}"

    @endpoint
    async def find(self, sku: str, limit: int = 10, near: str | None = None) -> str:
        return f"{sku} {limit} {near}"

    @endpoint
    async def drop(self, sku: str) -> str:
        return sku


async def test_one_struct_and_optional_parameters_are_one_parameter(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A method takes the struct that the endpoint takes; else a struct of its fields."""
    await hub.serve(Desk())
    outside: Outside = await start(hub)
    text = outside.idl()
    assert "string place(1: Order the_request)" in text
    assert "string find(1: FindRequest request)" in text
    assert "2: optional i64 limit" in text
    assert "string drop(1: string sku)" in text
    client, module = await outside.client("Desk")
    assert await client.place(module.Order(sku="tea", count=2)) == "2 tea None"
    assert await client.find(module.FindRequest(sku="tea")) == "tea 10 None"
    with pytest.raises(TApplicationException, match="invalid_argument"):
        await client.find(module.FindRequest())


@pytest.mark.parametrize("protocol", ["binary", "compact"])
async def test_apache_s_clients_may_leave_a_field_out(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    tmp_path: Any,
    load: Any,
    protocol: str,
) -> None:
    """The service's own default counts, not the zero of the client's language."""
    await hub.serve(Desk())
    outside: Outside = await start(hub)
    await compiled(tmp_path, "desk_gen", outside.idl())
    service = load("desk_gen", "Desk")
    types = importlib.import_module("desk_gen.ttypes")

    def talk() -> None:
        client, around = connected(
            service.Client, outside.server.port, protocol, "framed"
        )
        assert client.find(types.FindRequest(sku="tea")) == "tea 10 None"
        assert client.place(types.Order(sku="tea")) == "1 tea None"
        around.close()

    await asyncio.to_thread(talk)


async def test_an_upstream_by_its_class_speaks_the_same(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Requests that are one struct arrive as they went."""
    await hub.serve(Desk())
    outside: Outside = await start(hub)
    desk = kitmsg_gateways.thrift.Upstream(outside.server.address, Desk)
    client = desk.client(Desk)
    assert await client.place(Order("tea", 3, "now")) == "3 tea now"
    assert await client.find("tea", near="x") == "tea 10 x"
    assert await client.drop("tea") == "tea"


async def test_a_method_keeps_the_form_that_clients_know(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A parameter that becomes optional changes nothing for those made before."""

    class First(Service):
        name = "desk"

        @endpoint
        async def find(self, sku: str) -> str:
            return sku

    lock = Lock()

    async def text(service: Service) -> str:
        host = await hub.serve(service)
        outside: Outside = await start(hub)
        found = list(outside.server.catalogue.found.endpoints)
        await outside.server.stop()
        await host.drain(0)
        return generate([shape_service("desk", found)], lock)

    assert "find(1: string sku)" in await text(First())
    assert "find(1: string sku, 2: i64 limit, 3: string near)" in await text(Desk())


class Shape(msgspec.Struct):
    kind: Literal["circle"]
    size: int


class Shapes(Service):
    """Knows shapes of one kind."""

    @endpoint
    async def grow(self, it: Shape) -> Shape:
        return Shape("circle", it.size + 1)


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("string kind", "circle", "square"),
        ("Kind kind", 1, 2),
    ],
)
async def test_a_field_with_one_value_may_be_in_an_idl(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    write: Callable[..., str],
    kind: str,
    right: Any,
    wrong: Any,
) -> None:
    """It is filled where it is not set, checked where it is, and there in replies."""
    text = f"""
        enum Kind {{ CIRCLE = 1, SQUARE = 2 }}
        struct Shape {{ 1: optional {kind}, 2: i64 size }}
        service Shapes {{ Shape grow(1: Shape it) }}
    """
    await hub.serve(Shapes())
    outside: Outside = await start(hub, thrift=(write(text),))
    client, module = await outside.client("Shapes", text)
    for given in ({}, {"kind": right}):
        found = await client.grow(module.Shape(size=1, **given))
        assert (found.kind, found.size) == (right, 2)
    with pytest.raises(TApplicationException, match="has to be 'circle'"):
        await client.grow(module.Shape(size=1, kind=wrong))


@pytest.mark.parametrize(
    "data",
    [
        b'\x00\x00\x00\x1e[1,"hello",1,1,{"1":{"str":"x"}}]',
        b'[1,"hello",1,1,{"1":{"str":"x"}}]',
        b"\x00\x00\x00\x1e{",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_another_protocol_is_closed_at_once(
    hub: kitmsg.Kit, start: Callable[..., Any], data: bytes
) -> None:
    """Thrift's JSON protocol too: it is not waited for until a message is too slow."""
    outside: Outside = await start(hub, message_timeout=600, idle_timeout=600)
    assert await outside.raw(data, answers=0) == b""
    assert outside.server.metrics.closed["malformed"] == 1


async def test_an_upstream_that_is_not_reached_has_begun_nothing(
    hub: kitmsg.Kit,
) -> None:
    """The error says so across the bus, so that `retry` may repeat the call."""
    await hub.serve(kitmsg_gateways.thrift.Upstream("127.0.0.1:1", Desk, name="far"))
    with pytest.raises(Unavailable) as caught:
        await hub.call("far.drop", {"sku": "x"})
    assert caught.value.refused == "far.drop"
