"""The gateway over NATS itself, its services behind another connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import PermissionDenied
from tests.gateways.grpc.services import Shop, Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.gateways.grpc.conftest import Outside


@pytest.fixture
async def services(
    nats_server: EmbeddedServer,
) -> AsyncIterator[tuple[Shop, Streams]]:
    """The services, on a connection of their own."""
    shop, streams = Shop(), Streams()
    bus = await NatsBus.connect(nats_server.url)
    async with kitmsg.connect(bus=bus) as kit:
        await kit.serve(shop)
        await kit.serve(streams)
        yield shop, streams


async def test_calls_streams_and_long_messages(
    nats_bus: NatsBus, services: tuple[Shop, Streams], start: Callable[..., Any]
) -> None:
    """What works in memory works over NATS."""
    outside: Outside = await start(nats_bus)
    assert (await outside("shop.Shop/Price", name="tea")).value == 2.5
    failure = await outside.failure("shop.Shop/Buy", name="tea")
    assert failure.code() is grpc.StatusCode.FAILED_PRECONDITION
    data = bytes(3 << 20)
    assert (await outside("shop.Shop/Echo", data=data)).value == data
    path = "streams.Streams/Count"
    items = outside.stub(path)(outside.request(path, to=2000))
    assert sum([item.value async for item in items]) == 2000 * 2001 // 2


async def test_cancellation_and_vanishing_cross_it(
    nats_bus: NatsBus,
    services: tuple[Shop, Streams],
    start: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    """Who gives up ends the turn and the stream on the other side of the bus."""
    shop, streams = services
    outside: Outside = await start(nats_bus)
    call = outside.stub("shop.Shop/Wait")(outside.request("shop.Shop/Wait"))
    waiting = asyncio.ensure_future(call)
    await shop.started.wait()
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    path = "streams.Streams/Forever"
    stream = outside.stub(path)(outside.request(path))
    await stream.read()
    stream.cancel()
    await until(lambda: shop.ended == ["wait"] and streams.ended == ["forever"])


DENIED = """
authorization { users: [
  { user: all, password: x }
  { user: edge, password: x, permissions: {
      publish: { deny: ["shop.price", "streams.count"] } } }
] }
"""


async def test_what_this_gateway_may_not_do_is_for_its_log(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Strangers learn no subject and no user; what a service denies still passes."""

    class Guarded(kitmsg.Service):
        @kitmsg.endpoint
        async def enter(self) -> None:
            raise PermissionDenied("not you")

    with EmbeddedServer(jetstream=False, config=DENIED) as server:
        bus = await NatsBus.connect(server.url, user="all", password="x")
        edge = await NatsBus.connect(server.url, user="edge", password="x")
        async with kitmsg.connect(bus=bus) as kit, kitmsg.connect(bus=edge):
            for service in (Shop(), Streams(), Guarded()):
                await kit.serve(service)
            outside: Outside = await start(edge)
            path = "streams.Streams/Count"
            items = outside.stub(path)(outside.request(path, to=2))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await items.read()
            for failure in (
                await outside.failure("shop.Shop/Price", name="tea"),
                caught.value,
            ):
                assert failure.code() is grpc.StatusCode.INTERNAL
                assert "NATS" not in str(failure.details())
            denied = await outside.failure("guarded.Guarded/Enter")
            assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
            assert denied.details() == "not you"
            await outside.server.stop()
    for subject in ("shop.price", "streams.count"):
        assert f"this NATS user may not send to '{subject}'" in caplog.text
