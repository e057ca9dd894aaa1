"""Anything may come in: each call has a right status, and the gateway goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from tests.gateways.grpc.services import Shop, Streams

if TYPE_CHECKING:
    from collections.abc import Callable

    import kitmsg
    from tests.gateways.grpc.conftest import Outside

IS_LONG = bool(os.environ.get("KITMSG_LONG"))
MESSAGES = 20_000 if IS_LONG else 600
CONNECTIONS = 2000 if IS_LONG else 120
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# What a caller may do wrong; never INTERNAL or UNKNOWN, which would be our mistake.
FAIR = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}


def mangled(chance: random.Random, data: bytes) -> bytes:
    """Return a message with some bytes changed, cut, doubled or made up."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        act = chance.randrange(4)
        if act == 0:
            found[at:at] = chance.randbytes(chance.randint(1, 6))
        elif act == 1:
            del found[at : at + chance.randint(1, 6)]
        elif act == 2 and at < len(found):
            found[at] = chance.randrange(256)
        else:
            found += found[:at]
    return bytes(found)


async def test_messages_of_any_bytes_get_a_fair_status(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    record_property: Callable[[str, object], None],
) -> None:
    """600 mangled messages, 20,000 in the long form, for every kind of method."""
    await hub.serve(Shop())
    await hub.serve(Streams())
    outside: Outside = await start(hub)
    cup = {"name": "mug", "size": "SIZE_LARGE", "price": 2.0, "tags": ["a", "b"]}
    seeds: dict[str, dict[str, Any]] = {
        "shop.Shop/Make": {"cup": cup, "when": "2026-01-02T03:04:05Z"},
        "shop.Shop/Price": {"name": "tea", "count": 3},
        "shop.Shop/Buy": {"name": "tea"},
        "streams.Streams/Total": {"value": 7},
        "streams.Streams/Scaled": {"request": {"factor": 3}},
    }
    chance = random.Random(7)
    whole = {p: outside.request(p, **f).SerializeToString() for p, f in seeds.items()}
    seen: dict[grpc.StatusCode, int] = {}
    for number in range(MESSAGES):
        path = chance.choice(list(whole))
        data = mangled(chance, whole[path])
        # For the wire, every kind of method is a stream of messages both ways.
        call = outside.channel.stream_stream(f"/{path}")(iter([data]), timeout=10)
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in call:
                pass
        code = await call.code()
        assert code in FAIR, (number, path, data, await call.details())
        seen[code] = seen.get(code, 0) + 1
    record_property("messages", MESSAGES)
    assert seen[grpc.StatusCode.OK] > MESSAGES // 30
    assert seen[grpc.StatusCode.INVALID_ARGUMENT] > MESSAGES // 8
    assert (await outside("shop.Shop/Price", name="tea")).value == 2.5
    await until(lambda: outside.server.metrics.in_flight == 0)


async def test_metadata_of_any_kind_is_harmless(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """300 calls with odd keys and values are answered; none forges a header."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub, forward_authorization=True)
    chance = random.Random(7)
    keys = ["traceparent", "baggage", "x-request-id", "authorization", "x-y", "z-bin"]
    for _ in range(300):
        metadata = []
        for key in chance.sample(keys, chance.randint(1, 4)):
            text = "".join(chr(chance.randint(32, 126)) for _ in range(20)).strip()
            value = chance.randbytes(20) if key.endswith("-bin") else text
            metadata.append((key, value or "v"))
        call = outside.stub("shop.Shop/Look")(
            outside.request("shop.Shop/Look"), metadata=metadata, timeout=10
        )
        await call
        assert {"Kit-Timeout", "Kit-Request-Id", "Kit-Caller"} <= shop.seen.keys()
        assert shop.seen["Kit-Caller"] == "gateway.grpc"


async def test_any_bytes_on_the_port_are_answered_or_closed(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    record_property: Callable[[str, object], None],
) -> None:
    """120 connections (2,000) with HTTP/2 frames of random kinds; calls go on beside them."""
    await hub.serve(Shop())
    outside: Outside = await start(hub, handshake_timeout=0.5)
    chance = random.Random(7)

    async def strange() -> None:
        data = PREFACE if chance.random() < 0.8 else chance.randbytes(24)
        for _ in range(chance.randint(0, 5)):
            body = chance.randbytes(chance.randint(0, 40))
            length = len(body) if chance.random() < 0.7 else chance.randrange(1 << 24)
            kind, flags = chance.randrange(12), chance.randrange(256)
            number = chance.choice([0, 1, 3, 5, 2**31 - 1])
            data += length.to_bytes(3) + bytes([kind, flags])
            data += number.to_bytes(4) + body
        _, writer = await asyncio.open_connection("127.0.0.1", outside.server.port)
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    for _ in range(CONNECTIONS // 20):
        await asyncio.gather(*(strange() for _ in range(20)))
        assert (await outside("shop.Shop/Price", name="tea")).value == 2.5
    record_property("connections", CONNECTIONS)
    await until(lambda: outside.server.metrics.in_flight == 0)
