"""Clients that are slow, silent, malformed or too many."""

from __future__ import annotations

import asyncio
import struct

import pytest

from kitmsg import Service, endpoint
from tests.gateways.stubborn import keeps_sending
from tests.gateways.thrift.messages import call, number, text
from tests.gateways.thrift.services import Greeter


async def test_a_message_may_drip_in(hub, start):
    """Byte by byte, framed or not, it is the same message."""
    await hub.serve(Greeter())
    outside = await start(hub)
    message = call(b"hello", 1, text("Ann") + b"\0")
    expected = call(b"hello", 1, text("Hello, Ann!", 0) + b"\0", kind=2)
    frame = struct.pack(">i", len(message)) + message
    for data, answer in (
        (message, expected),
        (frame, struct.pack(">i", len(expected)) + expected),
    ):
        reader, writer = await outside.connect()
        for byte in data + data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(2 * len(answer)) == answer + answer


@pytest.mark.parametrize(
    ("options", "data", "reason"),
    [
        ({"idle_timeout": 0.05}, b"", "idle"),
        ({"idle_timeout": 0.05}, call(b"nothing"), "idle"),
        ({"message_timeout": 0.05}, call(b"hello")[:-1], "slow"),
    ],
)
async def test_silent_and_slow_clients_are_closed(hub, start, options, data, reason):
    """One that says nothing, or does not finish what it began."""
    await hub.serve(Greeter())
    outside = await start(hub, **options)
    await outside.raw(data, 0)
    assert outside.server.metrics.closed[reason] == 1


async def test_a_message_that_drips_gets_no_more_time(hub, start):
    """Each byte does not start the clock anew."""
    await hub.serve(Greeter())
    outside = await start(hub, message_timeout=0.1)
    reader, writer = await outside.connect()
    writer.write(call(b"hello", 1, b"")[:-2])

    async def drip() -> None:
        writer.write(struct.pack(">hbhi", 1, 11, 1, 1000))
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    except ConnectionError:
        pass
    finally:
        dripping.cancel()
    assert outside.server.metrics.closed["slow"] == 1


async def test_a_client_that_takes_no_answers_is_closed(hub, start, until):
    """What it does not read is not piled up: it is read no more, then closed."""

    class Echo(Service):
        name = "echo"

        @endpoint
        async def twice(self, value: str) -> str:
            return value * 2

    await hub.serve(Echo())
    outside = await start(hub, write_timeout=0.2)
    _, writer = await outside.connect()
    message = call(b"twice", 1, text("x" * 200_000) + b"\0")

    async def send() -> None:
        while True:
            writer.write(message)
            await writer.drain()

    sending = asyncio.create_task(send())
    await until(lambda: outside.server.metrics.closed["slow"] == 1)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    done = outside.server.metrics.count("echo.twice", "ok")
    assert done < 128


async def test_connections_are_bounded(hub, start, until):
    """One too many is closed at once; room that is free again is given again."""
    await hub.serve(Greeter())
    outside = await start(hub, max_connections=1)
    _, first = await outside.connect()
    await until(lambda: outside.server.connections.open == 1)
    assert await outside.raw(call(b"hello"), 0) == b""
    assert outside.server.connections.refused == 1
    first.close()
    await until(lambda: outside.server.connections.open == 0)
    assert await outside.raw(call(b"crash")) != b""


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (struct.pack(">bhi", 11, 1, 2000), "a length of 2000 bytes"),
        (struct.pack(">bhi", 11, 1, -1), "a length of -1 bytes"),
        (struct.pack(">bhbi", 15, 9, 10, 11), "a container of 11 items"),
        (struct.pack(">bhbbi", 13, 9, 10, 10, 11), "a container of 11 items"),
        (struct.pack(">bh", 12, 9) * 9, "nested deeper than 8 levels"),
        (struct.pack(">bh", 1, 9), "a field of type 1, which does not exist"),
        (b"\x0b\x00\x01\x00\x00\x00\x01\xff\x00", "a text is not UTF-8"),
    ],
)
async def test_what_is_malformed_or_over_a_limit_ends_the_connection(
    hub, start, args, why
):
    """Nothing is made of a length before it is checked; the answer says what was wrong."""
    await hub.serve(Greeter())
    outside = await start(hub, max_message_bytes=1000, max_items=10, max_depth=8)
    answer = await outside.raw(call(b"hello", 5, args), 0)
    assert answer[:4] == b"\x80\x01\x00\x03"
    assert why.encode() in answer
    assert outside.server.metrics.closed["malformed"] == 1


async def test_what_was_wrong_is_not_taken_back(hub, start):
    """A client that is still sending reads it, and what it was answered before."""
    await hub.serve(Greeter())
    outside = await start(hub)
    endless = call(b"hello", 2, struct.pack(">bhi", 11, 1, -1))
    begin = call(b"hello", 1, text("A") + b"\0") + endless
    answer = await keeps_sending(outside.server.port, begin, b"more" * 20_000)
    assert b"Hello, A!" in answer
    assert b"a length of -" in answer


async def test_a_frame_over_the_limit_ends_the_connection(hub, start):
    """Its length is enough to know."""
    await hub.serve(Greeter())
    outside = await start(hub, max_message_bytes=1000)
    assert await outside.raw(b"\0\0\x10\0\x80\x01", 0) == b""
    assert outside.server.metrics.closed["malformed"] == 1


async def test_an_unframed_message_over_the_limit_ends_the_connection(hub, start):
    """Many small fields add up."""
    await hub.serve(Greeter())
    outside = await start(hub, max_message_bytes=1000)
    await outside.raw(call(b"hello", 5, number(1, 9) * 200)[:-1], 0)
    assert outside.server.metrics.closed["malformed"] == 1


async def test_a_reply_is_no_call(hub, start):
    """Only calls are taken."""
    await hub.serve(Greeter())
    outside = await start(hub)
    assert await outside.raw(call(b"hello", 1, kind=2), 0) == b""
