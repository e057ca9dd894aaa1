"""Calls in flight: order, bounds, deadlines, and the end of a connection or gateway."""

from __future__ import annotations

import asyncio

import pytest
from thriftpy2.thrift import TApplicationException

from tests.gateways.thrift.messages import call, number
from tests.gateways.thrift.services import Slow


async def test_answers_come_in_the_order_of_the_calls(hub, start, until):
    """Calls of one connection run at once; their answers keep the order."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub)
    reader, writer = await outside.connect()
    for n in range(20):
        writer.write(call(b"wait", n, number(n) + b"\0"))
    await until(lambda: len(service.running) == 20)
    for n in reversed(range(20)):
        service.running[n].set()
    for n in range(20):
        expected = call(b"wait", n, number(n, 0) + b"\0", kind=2)
        assert await reader.readexactly(len(expected)) == expected


async def test_what_comes_beyond_the_bound_waits_unread(hub, start, until):
    """No more than `max_pipelined` calls of a connection run at once; none is lost."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, max_pipelined=2)
    reader, writer = await outside.connect()
    for n in range(7):
        writer.write(call(b"wait", n, number(n) + b"\0"))
    await until(lambda: len(service.running) == 2)
    for n in range(7):
        assert len(service.running) <= n + 2
        await until(lambda n=n: n in service.running)
        service.running[n].set()
        expected = call(b"wait", n, number(n, 0) + b"\0", kind=2)
        assert await reader.readexactly(len(expected)) == expected


async def test_an_endpoint_that_hangs_is_a_deadline_exceeded(hub, start):
    """The time is the endpoint's own."""
    await hub.serve(Slow())
    client, _ = await (await start(hub)).client("Slow")
    with pytest.raises(TApplicationException, match="deadline_exceeded: "):
        await client.hang()


async def test_the_gateway_s_time_counts_where_the_endpoint_says_none(hub, start):
    """`timeout` is for endpoints that do not say."""
    await hub.serve(Slow())
    client, _ = await (await start(hub, timeout=0.1)).client("Slow")
    with pytest.raises(TApplicationException, match="deadline_exceeded: "):
        await client.wait(1)


async def test_a_client_that_vanishes_cancels_its_turns(hub, start, until):
    """Nobody works for nobody, and nothing is left behind."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub)
    _, writer = await outside.connect()
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    writer.transport.abort()
    await until(lambda: service.cancelled == [1])
    await until(lambda: outside.server.connections.open == 0)
    await until(lambda: outside.server.metrics.in_flight == 0)
    assert outside.server.metrics.count("slow.wait", "cancelled") == 1


@pytest.mark.parametrize("is_whole", [True, False])
async def test_the_end_of_a_connection_ends_its_calls(hub, start, until, is_whole):
    """A client that closes its half has gone, in the middle of a message or after one."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub)
    reader, writer = await outside.connect()
    message = call(b"wait", 1, number(1) + b"\0")
    writer.write(message if is_whole else message[:-1])
    if is_whole:
        await until(lambda: 1 in service.running)
    writer.write_eof()
    assert await reader.read() == b""
    await until(lambda: outside.server.connections.open == 0)
    await until(lambda: service.cancelled == [1] * is_whole)


async def test_calls_in_flight_are_bounded(hub, start, until):
    """What is too much is refused at once."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, max_concurrent=1)
    _, writer = await outside.connect()
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    answer = await outside.raw(call(b"wait", 2, number(2) + b"\0"))
    assert b"resource_exhausted: the gateway is full: 1 calls are in flight" in answer


async def test_stop_finishes_what_is_in_flight(hub, start, until):
    """Idle connections end at once, others when they are answered; none is accepted."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, drain_timeout=10.0)
    idle, _ = await outside.connect()
    reader, writer = await outside.connect()
    port = outside.server.port
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    stopping = asyncio.create_task(outside.server.stop())
    assert await idle.read() == b""
    with pytest.raises(OSError, match="refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)
    service.running[1].set()
    assert await reader.read() == call(b"wait", 1, number(1, 0) + b"\0", kind=2)
    await stopping
    assert outside.server.connections.open == 0


async def test_stop_cancels_what_does_not_finish(hub, start, until):
    """After `drain_timeout` the turns are cancelled."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, drain_timeout=0.05)
    _, writer = await outside.connect()
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    await outside.server.stop()
    await until(lambda: service.cancelled == [1])
    assert outside.server.metrics.closed["stopped"] == 1


async def test_an_endpoint_s_time_has_the_gateway_s_bound(hub, start):
    """As at every door."""
    await hub.serve(Slow())
    outside = await start(hub, timeout=30.0, max_timeout=0.05)
    answer = await outside.raw(call(b"wait", 1, number(1) + b"\0"))
    assert b"deadline_exceeded" in answer
