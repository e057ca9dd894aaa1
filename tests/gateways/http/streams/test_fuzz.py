"""Broken frames, bodies and clients: each gets an answer or a closed connection.

The inputs are the same in each run; how many there were is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg_gateways.http.streams.protocol import FrameReader, Opcode, frame
from tests.gateways.http.streams.test_protocol import masked
from tests.gateways.http.streams.test_websocket import handshake

if TYPE_CHECKING:
    from collections.abc import Awaitable

PATHS = ("/echo", "/echo?prefix=", "/feed/total", "/count/3", "/wait?items=0")
CODES = {1000, 1002, 1003, 1007, 1009, 4400}
SOCKETS = 400
BODIES = 300


def broken(chance: random.Random) -> bytes:
    """Return what a client should not send over a WebSocket."""
    opcode = chance.choice([*Opcode, 3, 7, 11, 15])
    payload = chance.choice(
        [b"", b"1", b'"a"', b"{}", b"\xff\xfe", b"[" * 500, chance.randbytes(80)]
    )
    whole = masked(opcode, payload, final=chance.random() < 0.8)
    spoilt = bytearray(whole)
    spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
    return chance.choice(
        [
            whole,
            bytes(spoilt),
            whole[: chance.randrange(len(whole))],
            frame(opcode, payload),  # not masked
            b"\x81\xff" + chance.randbytes(12),  # a huge one
            chance.randbytes(chance.randrange(1, 60)),
        ]
    )


async def end(reader: asyncio.StreamReader) -> int:
    """Read to the end; return the code that the connection was closed with, or 0."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    code = 0
    with contextlib.suppress(ConnectionError):
        data = bytearray(await reader.read())
        while data:  # server frames are not masked, so a reader of our own
            size, start = data[1] & 0x7F, 2
            if size > 125:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start])
            if data[0] & 0x0F == Opcode.CLOSE:
                code = int.from_bytes(data[start : start + 2])
            del data[: start + size]
    return code


async def attack(call: Any, seed: int) -> int:
    """Send broken frames over one WebSocket, and leave in one of several ways."""
    chance = random.Random(seed)
    reader, writer = await handshake(call, chance.choice(PATHS))
    try:
        for _ in range(chance.randrange(1, 5)):
            writer.write(broken(chance))
            if chance.random() < 0.3:
                await asyncio.sleep(0)
        way = chance.randrange(3)
        if way == 0:
            writer.transport.abort()
            return -1
        if way == 1:
            writer.write_eof()
        else:
            writer.write(masked(Opcode.CLOSE, b"\x03\xe8") * 2)
            writer.write(b"\0" * 2000)  # ends whatever frame was begun
        return await end(reader)
    except ConnectionError:
        return -1
    finally:
        writer.close()


@pytest.mark.filterwarnings("error")
async def test_websockets_that_break_the_rules(hub, feed, start, nothing_left, caplog):
    """Each ends, with a code of its own kind; nothing is left, and nothing is logged."""
    call = await start(hub, max_body_bytes=1000, body_timeout=1.0)
    outcomes: Counter[int] = Counter()
    async with asyncio.timeout(60):
        for first in range(0, SOCKETS, 20):
            codes = [attack(call, seed) for seed in range(first, first + 20)]
            outcomes.update(await asyncio.gather(*codes))
    print(f"{SOCKETS} WebSockets: {dict(outcomes)}")
    assert set(outcomes) <= CODES | {0, -1}
    assert outcomes[1002] > SOCKETS // 10
    await nothing_left()
    ended = call.server.api.live.ended
    assert ended["websocket", "protocol"] >= outcomes[1002]
    assert len(call.server.api.live) == 0
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]


async def upload(call: Any, seed: int) -> bytes:
    """Send a broken body, and leave in one of several ways; return the status line."""
    chance = random.Random(seed)
    path = chance.choice(["/feed/total", "/upload/a", "/feed/echo", "/feed/refuse"])
    kind = chance.choice(
        [
            "application/x-ndjson",
            "application/octet-stream",
            "multipart/form-data; boundary=x",
            "multipart/form-data; boundary=" + "x" * 200,
            "text/plain",
        ]
    )
    body = chance.choice(
        [
            b'--x\r\nContent-Disposition: form-data; name="d"; filename="f"\r\n\r\nab',
            b"1\n2\n" * 50,
            b"\n" * 2000,
            b"[" * 2000,
            chance.randbytes(300),
        ]
    )
    length = chance.choice([len(body), len(body) + 100, None])
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
    if length is None:
        sizes = chance.choice([b"%x\r\n%b\r\n0\r\n\r\n", b"%x\r\n%b\r\n", b"%xz\r\n%b"])
        body = sizes % (len(body), body)
        head += "Transfer-Encoding: chunked\r\n\r\n"
    else:
        head += f"Content-Length: {length}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    try:
        writer.write(head.encode() + body)
        way = chance.randrange(3)
        if way == 0:
            await asyncio.sleep(chance.random() / 50)
            writer.transport.abort()
            return b""
        if way == 1:
            writer.write_eof()
        return await reader.readline()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_uploads_that_are_broken(hub, feed, start, nothing_left, caplog):
    """Each gets an answer or a closed connection; nothing is left, and nothing logged."""
    call = await start(hub, max_body_bytes=1000, body_timeout=0.2, timeout=1.0)
    outcomes: Counter[bytes] = Counter()
    async with asyncio.timeout(60):
        for first in range(0, BODIES, 20):
            lines = [limited(upload(call, s)) for s in range(first, first + 20)]
            outcomes.update(line[9:12] for line in await asyncio.gather(*lines))
    print(f"{BODIES} uploads: {dict(outcomes)}")
    known = {b"", b"200", b"400", b"406", b"408", b"409", b"413", b"415"}
    assert set(outcomes) <= known
    await nothing_left()
    assert len(call.server.api.live) == 0
    assert not [r for r in caplog.records if r.levelname in ("ERROR", "CRITICAL")]


async def limited(working: Awaitable[bytes]) -> bytes:
    """Wait, but not for ever: a stream of lines may last as long as its client likes."""
    try:
        return await asyncio.wait_for(working, 2)
    except TimeoutError:
        return b""


def test_a_reader_keeps_no_more_than_one_message():
    """Whatever comes, and however long."""
    chance = random.Random(1)
    most = 0
    for _ in range(2000):
        reader = FrameReader(1000)
        with contextlib.suppress(Exception):
            for _ in range(20):
                list(reader.read(broken(chance)))
                most = max(most, len(reader._rest) + sum(map(len, reader._parts)))
    assert most < 3000
