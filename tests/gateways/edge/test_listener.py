"""Listening sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from kitmsg_gateways.edge.admission import Connections
from kitmsg_gateways.edge.listener import Listener, bind


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Run on both loops: each sets up connections in its own way."""
    return "asyncio", {"use_uvloop": request.param}


async def test_an_answer_in_two_parts_waits_for_no_acknowledgement():
    """Nagle's algorithm would hold the second part up, 40 ms as a rule."""
    made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.set_result(transport.get_extra_info("socket"))

    listener = Listener(bind("127.0.0.1", 0), lambda _: Protocol(), Connections(10))
    listener.start()
    port = listener.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        found = await made
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    writer.close()
    await listener.stop()
