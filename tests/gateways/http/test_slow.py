"""Clients that send a byte now and then, and credentials that are none: real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest

from kitmsg import Service, endpoint
from tests.auth.tokens import SECRET, sign
from tests.gateways.stubborn import keeps_sending


class Echo(Service):
    """Gives back."""

    @endpoint
    async def size(self, text: str) -> int:
        return len(text)


HEAD = b"POST /echo/size HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def trickle(call: Any, begin: bytes, more: bytes, step: float = 0.01) -> bytes:
    """Send `begin`, then `more` byte by byte for ever; return what the gateway says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", call.server.port)

    async def drip() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                for at in range(len(more)):
                    writer.write(more[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(step)

    writer.write(begin)
    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(10):
            answer = b""
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65536):
                    answer += part
                    if b" 408 " in answer:
                        break
            return answer
    finally:
        dripping.cancel()
        writer.close()


@pytest.fixture
async def slow(hub, start):
    """A gateway with short times."""
    await hub.serve(Echo())
    return await start(
        hub, header_timeout=0.15, body_timeout=0.15, keepalive_timeout=0.4
    )


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"G"),
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n"),
        (b"GET / HTTP/1.1\r\nHost: ", b"x"),
        (b"\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n", b"A: b\r\n"),
    ],
)
async def test_headers_that_trickle(slow, begin, more):
    """The clock is for all of them, not for the next byte."""
    assert (await trickle(slow, begin, more)).split(b" ")[1] in (b"408", b"400")


async def test_empty_lines_that_trickle(slow):
    """They are no request, and hold nothing longer than an idle connection may."""
    assert b" 200 " not in await trickle(slow, b"", b"\r\n")


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        (b"Content-Length: 100000\r\n\r\n", b"x"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n1;", b"x=y;"),
    ],
)
async def test_a_body_that_trickles(slow, headers, more):
    """Likewise, chunks or not."""
    answer = await trickle(slow, HEAD + headers, more)
    assert answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    ("begin", "more", "status"),
    [
        (b"GET / HTTP/1.1\r\n", b"X-A: b\r\n", b"408"),  # headers, after a while
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000, b"x" * 65536, b"431"),
        (b"GET\0/ HTTP/1.1\r\n\r\n", b"X-A: b\r\n", b"400"),
        (HEAD + b"Content-Length: 999999999\r\n\r\nx", b"x" * 65536, b"413"),
        (HEAD + b"Content-Length: 1000\r\n\r\nx", b"x", b"408"),  # a body
    ],
)
async def test_an_answer_is_not_taken_back(slow, begin, more, status):
    """A client that is still sending when it is turned away reads why."""
    answer = await keeps_sending(slow.server.port, begin, more)
    assert answer.split(b" ")[1] == status
    assert answer.count(b"HTTP/1.") == 1


async def test_no_clock_goes_on_behind_an_answer(slow, caplog):
    """One answer is enough for headers that are too long, and come too slowly."""
    reader, writer = await asyncio.open_connection("127.0.0.1", slow.server.port)
    writer.write(b"GET / HTTP/1.1\r\n")
    await asyncio.sleep(0.05)  # the clock runs
    writer.write(b"X: " + b"x" * 300_000)
    answer = await reader.read()
    await asyncio.sleep(0.3)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.count(b"HTTP/1.") == 1
    assert "Exception" not in caplog.text
    writer.close()


async def test_many_slow_ones_do_not_hold_up_others(slow):
    """A hundred of them at once."""
    begin = b"GET / HTTP/1.1\r\n"
    tasks = [
        asyncio.create_task(trickle(slow, begin, b"X-A: b\r\n")) for _ in range(100)
    ]
    await asyncio.sleep(0)
    for _ in range(20):
        response, body = await slow("POST", "/echo/size", json={"text": "abc"})
        assert (response.status, body) == (200, 3)
    for answer in await asyncio.gather(*tasks):
        assert b" 408 " in answer


async def test_any_credentials_are_refused_in_the_protocols_terms(
    hub, start, tmp_path, caplog
):
    """Broken in every way: 401, or 400 for bytes that are no header; never more."""
    await hub.serve(Echo())
    key = tmp_path / "secret"
    key.write_text(SECRET)
    call = await start(hub, jwt_key=str(key), jwt_algorithms=("HS256",))
    reader, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    dice, tried = random.Random(7), 0
    good = f"Bearer {sign(SECRET, 'HS256', exp=4102444800)}".encode()  # always the same
    async with asyncio.timeout(30):
        for _ in range(600):
            value = _spoil(good, dice)
            if b" ".join(value.split(b" ")[:1] + value.split()[1:]) == good:
                continue  # more spaces are fine
            writer.write(
                b"GET /x HTTP/1.1\r\nHost: x\r\nAuthorization: " + value + b"\r\n\r\n"
            )
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            assert status in (400, 401), value
            assert b"HTTP/1.1 5" not in head
            tried += 1
            if status == 400:
                writer.close()
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", call.server.port
                )
            else:
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(length)
    writer.close()
    print(f"{tried} credentials")
    assert tried > 500
    assert "Traceback" not in caplog.text


def _spoil(good: bytes, dice: random.Random) -> bytes:
    """Return credentials with something wrong in them."""
    data = bytearray(good)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(7, len(data)) if len(data) > 7 else 0
        match dice.randrange(5):
            case 0 if data:
                data[at : at + 1] = bytes([dice.randrange(0x21, 0x100)])
            case 1:
                del data[at : at + dice.randint(1, 20)]
            case 2:
                data[at:at] = b"." * dice.randint(1, 3)
            case 3:
                data[at:at] = dice.randbytes(2).replace(b"\r", b"").replace(b"\n", b"")
            case _:
                data[at:at] = b" "
    return bytes(data)
