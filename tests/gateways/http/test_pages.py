"""What the gateway itself serves."""

from __future__ import annotations

import asyncio

import pytest


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/openapi.json", "/asyncapi.json", "/docs"]
)
async def test_pages_are_read_only(memory_bus, start, path):
    """GET and HEAD work, OPTIONS tells, anything else is 405."""
    call = await start(memory_bus)
    assert (await call("GET", path))[0].status == 200
    response, body = await call("HEAD", path)
    assert (response.status, body) == (200, b"")
    response, _ = await call("OPTIONS", path)
    assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    response, _ = await call("POST", path)
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


async def test_the_root_leads_to_the_docs(memory_bus, start):
    """A person who types the address finds something."""
    call = await start(memory_bus)
    response, _ = await call("GET", "/")
    assert (response.status, response.headers["Location"]) == (302, "/docs")


async def test_readiness_follows_the_bus(memory_bus, start):
    """Alive all the time; ready only with a connection."""
    call = await start(memory_bus)
    assert (await call("GET", "/readyz"))[1] == {"status": "ok", "services": 0}
    memory_bus.disconnect()
    response, body = await call("GET", "/readyz")
    assert (response.status, body["detail"]) == (503, "not connected to the bus")
    assert (await call("GET", "/healthz"))[0].status == 200
    memory_bus.reconnect()
    assert (await call("GET", "/readyz"))[0].status == 200


async def test_it_is_not_ready_before_it_has_looked_around(memory_bus, start):
    """A gateway that starts without a bus is alive, and ready when the bus is there."""
    memory_bus.disconnect()
    call = await start(memory_bus)
    assert (await call("GET", "/healthz"))[0].status == 200
    assert (await call("GET", "/readyz"))[0].status == 503
    memory_bus.reconnect()
    async with asyncio.timeout(10):
        while (await call("GET", "/readyz"))[0].status != 200:
            pass
