"""Answers over HTTP: the status of each result and error, and what an error tells."""

from __future__ import annotations

import json

import msgspec
import pytest

from kitmsg import Code, Service, endpoint
from tests.gateways.http.test_content_types import aiohttp_url


class Clerk(Service):
    """Answers with other statuses than 200."""

    @endpoint(http="POST /files", status=201)
    async def create(self, name: str) -> str:
        return name

    @endpoint(status=202)
    async def later(self) -> None:
        return None

    @endpoint
    async def find(self, name: str) -> str | None:
        return name or None


async def test_a_result_has_the_status_that_is_declared(hub, start):
    """What is nothing is 204 without a body; what may be nothing says so in JSON."""
    await hub.serve(Clerk())
    call = await start(hub)
    for path in ("/files", "/clerk/create"):
        response, body = await call("POST", path, json={"name": "x"})
        assert (response.status, body) == (201, "x")
        assert response.headers["Cache-Control"] == "no-store"
    response, body = await call("POST", "/clerk/later")
    assert (response.status, body) == (202, b"")
    response, body = await call("POST", "/clerk/find", json={"name": ""})
    assert (response.status, body) == (200, None)
    document = (await call("GET", "/openapi.json"))[1]["paths"]
    assert "201" in document["/files"]["post"]["responses"]
    assert "content" not in document["/clerk/later"]["post"]["responses"]["202"]


async def test_every_code_has_its_status(call):
    """An error of the service is a problem with the code's HTTP status.

    "Unavailable" from a method that has begun is 502, since proxies repeat what is 503.
    """
    for code in Code:
        response, body = await call("POST", "/shop/fail", json={"code": code})
        status = 502 if code is Code.UNAVAILABLE else code.http
        assert response.status == status
        assert "Retry-After" not in response.headers
        assert response.content_type == "application/problem+json"
        assert body.pop("title")
        assert body == {
            "type": f"urn:kitmsg:error:{code}",
            "status": status,
            "detail": f"it is {code}",
            "instance": "/shop/fail",
            "code": code,
            "request_id": response.headers["X-Request-Id"],
        }


async def test_retry_after_is_told_twice(call):
    """In the header, in whole seconds, and exactly in the body."""
    response, body = await call("POST", "/shop/full")
    assert response.status == 429
    assert response.headers["Retry-After"] == "3"
    assert body["retry_after"] == 2.5


@pytest.mark.parametrize("kind", ["application/json", "application/msgpack"])
async def test_a_business_error_keeps_its_fields(call, kind):
    """Name and fields cross, whatever codec the request used."""
    encode = msgspec.json.encode if "json" in kind else msgspec.msgpack.encode
    response, body = await call(
        "POST",
        "/shop/buy",
        data=encode({"sku": "x"}),
        headers={"Content-Type": kind},
    )
    assert response.status == 409
    assert body["error"] == "OutOfStock"
    assert body["details"] == {"sku": "x", "left": 3}
    assert body["detail"] == "only 3 of x left"


async def test_a_crash_tells_nothing(call):
    """The caller gets an id to ask about, and no text of the exception."""
    response, body = await call("POST", "/shop/crash")
    assert response.status == 500
    assert "secret" not in json.dumps(body)
    assert body["request_id"] in body["detail"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/shop/hallo", 404, "did you mean 'POST /shop/hello'"),
        ("/hello/%ff", 400, "UTF-8"),
        ("/hello/Ann?times=x", 400, "'times' must be a whole number"),
        ("/hello/Ann?tims=2", 400, "did you mean 'times'"),
        ("/hello/Ann?name=Bob", 400, "also in the query"),
    ],
)
async def test_what_is_wrong_is_said(call, path, status, words):
    """Each mistake gets a sentence."""
    method = "GET" if path.startswith("/hello") else "POST"
    response, body = await call(method, aiohttp_url(path))
    assert response.status == status
    assert words in body["detail"]


async def test_nobody_there_is_503_with_a_hint(call, hub):
    """Between a service's end and the gateway's knowing of it."""
    host = hub.hosts[0]
    await host.intake.drain(0)
    response, body = await call("POST", "/shop/hello", json={"name": "Ann"})
    assert (response.status, body["code"]) == (503, "unavailable")
    assert "no responders for 'shop.hello'" in body["detail"]
    assert response.headers["Retry-After"] == "1"
    assert body["retry_after"] == 1.0


async def test_a_lost_bus_is_503(call, hub):
    """At once, and over when the bus is back."""
    hub.bus.disconnect()
    response, _ = await call("POST", "/shop/hello", json={"name": "Ann"})
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    hub.bus.reconnect()
    response, _ = await call("POST", "/shop/hello", json={"name": "Ann"})
    assert response.status == 200


async def test_an_unexpected_failure_is_500_and_logged(call, monkeypatch, caplog):
    """The log has it under the id that the caller gets; the caller gets no text."""

    def broken(*args: object) -> None:
        raise RuntimeError("secret-detail")

    monkeypatch.setattr(call.server.table.router, "match", broken)
    response, body = await call("POST", "/shop/hello")
    assert response.status == 500
    assert "secret" not in json.dumps(body)
    assert body["request_id"] in caplog.text
