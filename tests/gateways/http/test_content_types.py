"""Content types of requests: JSON, msgpack, bytes, none, and all others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest


def aiohttp_url(path: str) -> Any:
    """Return a URL that the client sends as it is."""
    from yarl import URL

    return URL(path, encoded=True)


async def test_without_a_body_its_type_does_not_matter(call):
    """Clients send odd types with nothing; msgpack is still answered in msgpack."""
    for kind in ("application/x-www-form-urlencoded", "application/octet-stream"):
        headers = {"Content-Type": kind}
        _, body = await call("GET", "/hello/Ann?times=1", headers=headers)
        assert body == "Hello, Ann!"
        response, _ = await call("POST", "/shop/look", data=b"", headers=headers)
        assert response.status == 200
    headers = {"Content-Type": "application/msgpack"}
    response, body = await call("POST", "/shop/look", data=b"", headers=headers)
    assert response.content_type == "application/msgpack"
    assert msgspec.msgpack.decode(body) > 0


async def test_a_body_that_is_not_json_is_judged_by_the_service(call):
    """The gateway does not read it; the answer is the same problem."""
    headers = {"Content-Type": "application/json"}
    for data in (b"{", b"[1]", b"\xff\xfe", b'{"name": 5}', b"[" * 2000):
        response, body = await call("POST", "/shop/hello", data=data, headers=headers)
        assert (response.status, body["code"]) == (400, "invalid_argument"), data


async def test_msgpack_and_bytes_pass(call):
    """In their own content types, both ways."""
    response, body = await call(
        "POST",
        "/shop/hello",
        data=msgspec.msgpack.encode({"name": "Ann"}),
        headers={"Content-Type": "application/msgpack"},
    )
    assert response.content_type == "application/msgpack"
    assert msgspec.msgpack.decode(body) == "Hello, Ann!"
    octets = {"Content-Type": "application/octet-stream"}
    for data in (b"\x00\xff{", b""):
        response, body = await call("POST", "/shop/echo", data=data, headers=octets)
        assert (response.status, body) == (204 if not data else 200, data)
    response, body = await call("POST", "/shop/size", data=b"\x00", headers=octets)
    assert response.content_type == "application/msgpack"
    assert msgspec.msgpack.decode(body) == 1


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "text/html", "x"]
)
async def test_other_content_types_are_415(call, kind):
    """And it is said what to send instead."""
    response, body = await call(
        "POST", "/shop/hello", data=b'{"name":"Ann"}', headers={"Content-Type": kind}
    )
    assert response.status == 415
    assert "application/json" in body["detail"]
    assert "application/json" in response.headers["Accept"]
