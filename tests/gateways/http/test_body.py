"""Bodies that are longer than one message on the bus, and what they may take."""

from __future__ import annotations

import gzip
import hashlib
import io
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.bus.memory import MemoryBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OCTETS = {"Content-Type": "application/octet-stream"}


class Files(Service):
    """Takes and gives what is long."""

    @endpoint
    async def digest(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    @endpoint
    async def zeros(self, size: int) -> bytes:
        return bytes(size)

    @endpoint
    async def length(self, text: str) -> int:
        return len(text)


@pytest.fixture
async def small():
    """A kit on a bus that carries 64 kB at most, with the service on it."""
    bus = MemoryBus(max_payload=1 << 16)
    async with kitmsg.connect(bus=bus) as kit:
        await kit.serve(Files())
        yield kit
    await bus.close()


async def send(call: Any, data: bytes, headers: dict[str, str]) -> Any:
    """Post a body without the client's warning for long ones; return what comes back."""
    return await call("POST", "/files/digest", data=io.BytesIO(data), headers=headers)


@pytest.mark.parametrize("size", [1000, 1 << 16, 3 << 20])
async def test_a_body_may_be_longer_than_a_message(small, start, size):
    """A kitmsg service gets it whole, up to the gateway's own limit."""
    call = await start(small, max_body_bytes=4 << 20)
    data = bytes(range(256)) * (size // 256)
    response, body = await send(call, data, OCTETS)
    assert response.status == 200
    assert hashlib.sha256(data).hexdigest().encode() in body
    packed = {**OCTETS, "Content-Encoding": "gzip"}
    _, body = await send(call, gzip.compress(data), packed)
    assert hashlib.sha256(data).hexdigest().encode() in body
    assert call.server.budget.held == 0


async def test_an_answer_may_be_longer_than_a_message(small, start):
    """It is fetched in parts from the service."""
    call = await start(small)
    response, body = await call("POST", "/files/zeros", json={"size": 3 << 20})
    assert response.status == 200
    assert len(body) > 3 << 20


async def test_a_json_rpc_call_may_be_long_too(small, start):
    """By the same way."""
    call = await start(small)
    asked = {"jsonrpc": "2.0", "method": "length", "params": ["a" * 200_000], "id": 1}
    assert (await call("POST", "/rpc", json=asked))[1]["result"] == 200_000


async def test_a_body_over_the_limit_is_refused(small, start):
    """Announced or found out."""
    call = await start(small, max_body_bytes=100_000)
    response, body = await send(call, bytes(100_001), OCTETS)
    assert response.status == 413
    assert "option max_body_bytes" in body["detail"]

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield bytes(10_000)

    response, _ = await call("POST", "/files/digest", data=parts(), headers=OCTETS)
    assert response.status == 413
