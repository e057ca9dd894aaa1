"""Requests over HTTP reach services on the bus and come back."""

from __future__ import annotations

import pytest


async def test_post_reaches_every_endpoint(call):
    """`POST /service/endpoint` answers with the result as JSON, and an id."""
    response, body = await call("POST", "/shop/hello", json={"name": "Ann"})
    assert (response.status, body) == (200, "Hello, Ann!")
    assert response.content_type == "application/json"
    assert response.headers["X-Request-Id"]
    assert response.headers["Server"] == "kitmsg"
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_declared_route_takes_path_and_query(call):
    """Text in the URL becomes the types that the endpoint declares."""
    _, body = await call("GET", "/hello/Ann%20B?times=2")
    assert body == "Hello, Ann B! Hello, Ann B!"


async def test_head_and_options(call):
    """HEAD is GET without the body; OPTIONS says what a path takes."""
    response, body = await call("HEAD", "/hello/Ann")
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Length"] == "13"
    response, _ = await call("OPTIONS", "/hello/Ann")
    assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (await call("OPTIONS", "/hallo"))[0].status == 404


async def test_put_merges_path_and_body(call):
    """The path fills what the body leaves out, and they may not compete."""
    _, body = await call("PUT", "/orders/7", json={"lines": ["a"]})
    assert body == {"id": "7", "lines": ["a"]}
    response, body = await call("PUT", "/orders/7", json={"id": "8"})
    assert (response.status, body["field"]) == (400, "id")


async def test_delete_takes_no_body(call):
    """What has no meaning is refused, not dropped."""
    response, body = await call("DELETE", "/orders/7")
    assert (response.status, body) == (204, b"")
    response, body = await call("DELETE", "/orders/7", json={"id": "8"})
    assert response.status == 400
    assert "brought a body" in body["detail"]


@pytest.mark.parametrize("kwargs", [{}, {"data": b""}, {"data": b"{}"}, {"json": {}}])
async def test_an_empty_body_is_an_empty_request(call, kwargs):
    """And the service judges it like any other."""
    kwargs.setdefault("headers", {"Content-Type": "application/json"})
    _, body = await call("POST", "/shop/hello", **kwargs)
    assert (body["code"], body["field"]) == ("invalid_argument", "name")
