"""Deadlines of calls over HTTP, and clients that go away."""

from __future__ import annotations

import asyncio

import pytest


async def test_the_deadline_crosses(call, shop):
    """Both headers, the endpoint's own and the cap reach the service."""
    for headers, most in (
        ({"Request-Timeout": "2.5"}, 2.5),
        ({"X-Request-Timeout-Ms": "1500"}, 1.5),
        ({"Request-Timeout": "9", "X-Request-Timeout-Ms": "700"}, 0.7),
        ({"Request-Timeout": "100000"}, 60.0),
        ({}, 5.0),
    ):
        _, left = await call("POST", "/shop/look", headers=headers)
        assert most - 1.0 < left <= most


async def test_a_callers_deadline_ends_the_call(call, shop):
    """As 504, and the service's turn with it."""
    headers = {"X-Request-Timeout-Ms": "150"}
    response, body = await call("POST", "/shop/wait", headers=headers)
    assert (response.status, body["code"]) == (504, "deadline_exceeded")
    async with asyncio.timeout(10):
        await shop.cancelled.wait()


async def test_an_endpoints_timeout_ends_the_call(call):
    """As 504, without the caller asking for it."""
    response, body = await call("POST", "/shop/slow")
    assert (response.status, body["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Request-Timeout", "soon"),
        ("Request-Timeout", "0"),
        ("Request-Timeout", "-1"),
        ("Request-Timeout", "nan"),
        ("Request-Timeout", "1e3"),
        ("Request-Timeout", ""),
        ("X-Request-Timeout-Ms", "1.5"),
        ("X-Request-Timeout-Ms", "0"),
        ("X-Request-Timeout-Ms", "9" * 40),
    ],
)
async def test_a_deadline_that_is_no_number_is_refused(call, name, value):
    """The header is named."""
    response, body = await call("POST", "/shop/look", headers={name: value})
    assert (response.status, body["field"]) == (400, name)


async def test_a_client_that_goes_away_cancels_the_turn(call, shop, until):
    """The service's handler is cancelled when the connection closes."""
    _, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    writer.write(b"POST /shop/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(10):
        await shop.entered.wait()
        writer.close()
        await shop.cancelled.wait()
    await until(lambda: call.server.metrics.count("shop.wait", "cancelled") == 1)
