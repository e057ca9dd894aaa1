"""``grpc.health.v1`` as grpcio's own health client sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.gateways.grpc.services import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    import kitmsg
    from tests.gateways.grpc.conftest import Outside

Status = health_pb2.HealthCheckResponse


async def status(outside: Outside, service: str) -> Any:
    """Return the status of a service."""
    stub = health_pb2_grpc.HealthStub(outside.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return answer.status


async def test_tells_of_the_gateway_and_of_each_service(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """A service is known by its gRPC name and by its own; one that left is not serving."""
    host = await hub.serve(Shop())
    outside: Outside = await start(hub)
    assert await status(outside, "") == Status.SERVING
    assert await status(outside, "shop.Shop") == Status.SERVING
    assert await status(outside, "shop") == Status.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await status(outside, "nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    await host.drain(0)
    await until(lambda: not outside.server.table.methods)
    assert await status(outside, "") == Status.SERVING
    assert await status(outside, "shop.Shop") == Status.NOT_SERVING


async def test_a_watch_sees_every_change_and_the_end(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """From unknown to serving, to not serving, until the gateway stops."""
    outside: Outside = await start(hub)
    stub = health_pb2_grpc.HealthStub(outside.channel)
    request = health_pb2.HealthCheckRequest(service="shop.Shop")
    watch = outside.keep(stub.Watch(request))
    assert (await watch.read()).status == Status.SERVICE_UNKNOWN
    host = await hub.serve(Shop())
    assert (await watch.read()).status == Status.SERVING
    await host.drain(0)
    assert (await watch.read()).status == Status.NOT_SERVING
    again = await hub.serve(Shop())
    assert (await watch.read()).status == Status.SERVING
    last = asyncio.ensure_future(watch.read())
    await outside.server.stop()
    assert (await last).status == Status.NOT_SERVING
    assert await watch.read() is grpc.aio.EOF
    await again.drain(0)


async def test_a_watch_does_not_hold_up_a_stop(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Watches end at once, however long the drain may take."""
    outside: Outside = await start(hub, drain_timeout=50)
    stub = health_pb2_grpc.HealthStub(outside.channel)
    watch = outside.keep(stub.Watch(health_pb2.HealthCheckRequest()))
    await watch.read()
    async with asyncio.timeout(10):
        await outside.server.stop()


async def test_without_a_bus_it_is_not_well(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A lost bus is seen by who watches the gateway, and so is its return."""
    outside: Outside = await start(hub)
    stub = health_pb2_grpc.HealthStub(outside.channel)
    watch = outside.keep(stub.Watch(health_pb2.HealthCheckRequest()))
    assert (await watch.read()).status == Status.SERVING
    bus: Any = hub.bus
    bus.disconnect()
    assert (await watch.read()).status == Status.NOT_SERVING
    bus.reconnect()
    assert (await watch.read()).status == Status.SERVING
