"""The line that a gateway logs when it is ready: what it serves, and where."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from examples.greeter import Greeter
from kitmsg_gateways import grpc, http

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus


@pytest.mark.parametrize(
    ("door", "events", "said"),
    [
        (http, ("orders.placed",), "HTTP gateway, 1 event, ready at http://"),
        (grpc, ("a.b:read", "a.b:publish", "c"), "gRPC gateway, 2 events, ready at"),
        (http, (), "HTTP gateway, 0 endpoints, ready at"),
    ],
)
async def test_a_gateway_that_serves_only_events_says_so(
    memory_bus: MemoryBus,
    door: Any,
    events: tuple[str, ...],
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with kitmsg.connect(bus=memory_bus) as kit:
        server = await door.serve(kit, door.GatewayOptions(port=0, events=events))
        await server.stop()
    assert said in caplog.text


async def test_a_gateway_says_how_many_endpoints_and_events_it_serves(
    memory_bus: MemoryBus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with kitmsg.connect(bus=memory_bus) as kit:
        await kit.serve(Greeter)
        options = http.GatewayOptions(port=0, events=("orders.placed",))
        server = await http.serve(kit, options)
        await server.stop()
    assert "HTTP gateway, 1 endpoint and 1 event, ready at" in caplog.text
