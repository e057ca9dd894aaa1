"""What the gateway itself serves."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs"])
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


async def test_metrics_count_by_template(memory_bus, start, foreign):
    """Not by path, which anybody can make up."""
    foreign("far", "far.do")
    call = await start(memory_bus)
    await call("POST", "/far/do")
    for n in range(3):
        await call("GET", f"/nothing/{n}")
    response, text = await call("GET", "/metrics")
    assert response.content_type == "text/plain"
    count = "kitmsg_http_request_duration_seconds_count"
    assert f'{count}{{method="GET",route="(none)",status="404"}} 3.0'.encode() in text
    assert f'{count}{{method="POST",route="/far/do",status="503"}} 1.0'.encode() in text
    assert b"kitmsg_http_in_flight 1.0" in text
    assert b"kitmsg_http_endpoints 1.0" in text


async def test_without_prometheus_metrics_say_what_to_install(
    memory_bus, start, monkeypatch
):
    """Not a traceback."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    call = await start(memory_bus)
    response, body = await call("GET", "/metrics")
    assert response.status == 501
    assert "pip install 'kitmsg[prometheus]'" in body["detail"]


async def test_the_docs_page_needs_nothing_from_outside(memory_bus, start):
    """No address of another host in it, and a policy that lets none in."""
    call = await start(memory_bus)
    response, page = await call("GET", "/docs")
    text = page.decode()
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?:https?:)?//", text)
    assert "://" not in text
    assert "@import" not in text
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self'" in policy


async def test_the_docs_page_puts_nothing_in_as_markup(memory_bus, start):
    """What services say is text, so they cannot run anything in a reader's browser."""
    call = await start(memory_bus)
    _, page = await call("GET", "/docs")
    for risky in (
        b"innerHTML",
        b"outerHTML",
        b"insertAdjacent",
        b"document.write",
        b"eval(",
    ):
        assert risky not in page
    assert b'style="' not in page  # the policy would not let it
