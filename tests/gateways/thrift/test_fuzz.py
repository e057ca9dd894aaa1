"""Bad input, on real connections: some 2,000 messages, cut, bent, or made of nothing.

Each ends in an answer of Thrift's, or in a closed connection that is counted; afterwards
the gateway serves as before and nothing of them is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
from typing import Any

import pytest

from kitmsg import Service, endpoint
from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.protocol import protocols
from kitmsg_gateways.thrift.protocol.base import Cursor, Kind, Limits, Malformed, skip
from kitmsg_gateways.thrift.protocol.binary import BinaryProtocol
from kitmsg_gateways.thrift.protocol.compact import CompactProtocol
from kitmsg_gateways.thrift.protocol.framing import Inbox
from tests.gateways.thrift.messages import call

IDL = """
struct Part { 1: string name, 2: list<Part> parts, 3: map<string, i64> sizes, 4: bool on }
service Deep { Part same(1: Part part), i64 sum(1: list<i64> values, 2: double d) }
"""
VALUE = {
    "part": {
        "name": "a part",
        "parts": [{"name": "é", "parts": []}, {"sizes": {"x": 1, "": -1}, "on": True}],
        "on": False,
    }
}
LIMITS = Limits(max_bytes=4096, max_items=100, max_depth=16)
PROTOCOLS = [BinaryProtocol(LIMITS), CompactProtocol(LIMITS)]
METHOD = parse(IDL, "deep").services["Deep"].methods["same"]


def message(protocol: Any, name: bytes = b"same") -> bytes:
    """Return a good message."""
    out = bytearray(protocol.head(name, Kind.CALL, 1))
    protocol.writer(METHOD.args)(out, VALUE)
    return bytes(out)


def bad(rng: random.Random, good: bytes) -> bytes:
    """Return a message that is cut, bent, repeated or made up."""
    data = bytearray(good)
    kind = rng.randrange(6)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    elif kind == 1:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice(
                [0, 1, 0x7F, 0x80, 0xFF, 11, 12]
            )
    elif kind == 2:
        at = rng.randrange(len(data))
        data[at:at] = rng.randbytes(rng.randint(1, 8))
    elif kind == 3:
        at = rng.randrange(len(data))
        del data[at : at + rng.randint(1, 8)]
    elif kind == 4:
        at = rng.randrange(max(1, len(data) - 4))
        data[at : at + 4] = struct.pack(
            ">i", rng.choice([-1, 2**31 - 1, 5000, 1 << 20])
        )
    else:
        data = bytearray(rng.randbytes(rng.randint(0, 200)))
    return bytes(data)


class Deep(Service):
    name = "deep"

    @endpoint
    async def same(self, part: dict[str, Any]) -> dict[str, Any]:
        return part

    @endpoint
    async def sum(self, values: list[int], d: float = 0.0) -> int:
        return sum(values)


@pytest.mark.parametrize("is_framed", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda each: each.name)
async def test_bad_messages_do_no_harm(hub, start, write, until, protocol, is_framed):
    """500 for each way to speak, 20 at a time, each on a connection of its own."""
    rng = random.Random(f"{protocol.name} {is_framed}")
    await hub.serve(Deep())
    own = write(IDL.replace("Part same(1: Part part), ", ""))
    outside = await start(
        hub,
        thrift=(own,),
        max_message_bytes=4096,
        max_items=100,
        max_depth=16,
        message_timeout=0.2,
        idle_timeout=0.2,
    )

    async def one(data: bytes) -> None:
        if is_framed:
            data = len(data).to_bytes(4) + data
        reader, writer = await asyncio.open_connection("127.0.0.1", outside.server.port)
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            if rng.random() < 0.5:
                writer.write_eof()
            async with asyncio.timeout(20):
                answer = await reader.read()
            assert answer == b"" or is_answer(protocol, answer, is_framed)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    for _ in range(25):
        names = [rng.choice([b"same", b"sum", b"Deep:sum"]) for _ in range(20)]
        await asyncio.gather(*(one(bad(rng, message(protocol, n))) for n in names))
    await until(lambda: outside.server.connections.open == 0)
    assert outside.server.metrics.in_flight == 0
    assert not outside.server.clients
    values = struct.pack(">bhbiq", 15, 1, 10, 1, 7) + b"\0"
    assert await outside.raw(call(b"sum", 1, values)) == call(
        b"sum", 1, struct.pack(">bhq", 10, 0, 7) + b"\0", kind=2
    )


def is_answer(protocol: Any, data: bytes, is_framed: bool) -> bool:
    """Tell whether bytes begin with an answer in the client's own way to speak."""
    begin = protocol.begin(data, 4 if is_framed else 0)
    return begin.kind in (Kind.REPLY, Kind.EXCEPTION)


def test_what_bent_bytes_are_read_as_does_not_depend_on_how_they_come():
    """1,000 streams, at once and in pieces: the same messages, the same end."""
    rng = random.Random(7)
    known = protocols(LIMITS)

    def read(protocol: Any, data: bytes, position: int) -> tuple[Any, int]:
        begin = protocol.begin(data, position)
        end = skip(protocol.scan_struct(Cursor(data, begin.position, LIMITS), 16))
        return (begin.name, data[begin.position : end]), end

    def fed(pieces: list[bytes]) -> tuple[list[Any], bool]:
        inbox, found = Inbox(LIMITS), []
        try:
            for piece in pieces:
                inbox.feed(piece)
                while (taken := inbox.take(known, read)) is not None:
                    found.append(taken)
        except Malformed:
            return found, False
        return found, True

    for _ in range(1000):
        protocol = rng.choice(PROTOCOLS)
        many = [message(protocol) for _ in range(3)]
        many[rng.randrange(3)] = bad(rng, many[0])
        if rng.random() < 0.5:
            many = [len(one).to_bytes(4) + one for one in many]
        whole = b"".join(many)
        cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(rng.randint(0, 30)))
        pieces = [
            whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)
        ]
        assert fed([p for p in pieces if p]) == fed([whole])


async def test_a_length_that_is_claimed_is_not_allocated(hub, start):
    """A list of two billion items in a few bytes ends at once."""
    await hub.serve(Deep())
    outside = await start(hub)
    claims = struct.pack(">bhbi", 15, 9, 99, 2**31 - 1)
    answer = await outside.raw(call(b"sum", 1, claims), 0)
    assert b"a container of 2147483647 items" in answer


async def test_http_on_the_port_is_closed(hub, start):
    """A browser that comes to the wrong port is told nothing, and counted."""
    await hub.serve(Deep())
    outside = await start(hub)
    assert await outside.raw(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0) == b""
    assert outside.server.metrics.closed["malformed"] == 1


async def test_many_idle_connections_are_held(hub, start, until):
    """400 of them, and a call in between."""
    await hub.serve(Deep())
    outside = await start(hub)
    streams = [await outside.connect() for _ in range(400)]
    await until(lambda: outside.server.connections.open == 400)
    values = struct.pack(">bhbiq", 15, 1, 10, 1, 7) + b"\0"
    assert await outside.raw(call(b"sum", 1, values))
    for _, writer in streams:
        writer.close()
    await until(lambda: outside.server.connections.open == 0)
