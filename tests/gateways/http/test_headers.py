"""Headers over HTTP: which of them cross, in either direction."""

from __future__ import annotations

import pytest

from kitmsg.message import encode_headers


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 404)])
async def test_headers_that_a_handler_sets_are_in_the_response(call, ok, status):
    """Of a result and of an error; how long a result may be kept is the handler's word."""
    response, _ = await call("POST", "/shop/marked", json={"ok": ok})
    assert response.status == status
    assert response.headers["X-Trace"] == "t-1"
    kept = "max-age=5" if ok else "no-store"
    assert response.headers.getall("Cache-Control") == [kept]


async def test_headers_of_a_foreign_service_stay_inside(hub, start):
    """Nobody meant them for a browser."""
    block = encode_headers({"x-internal": "10.0.0.7"})
    hub.bus.subscribe("shout.up", lambda m: hub.bus.respond(m, b"1", block))
    info = (
        b'{"name":"shout","id":"1","version":"1.0.0","endpoints":[{"name":"up",'
        b'"subject":"shout.up"}]}'
    )
    hub.bus.subscribe("$SRV.INFO", lambda m: hub.bus.respond(m, info))
    call = await start(hub)
    response, body = await call("POST", "/shout/up", json={})
    assert (response.status, body) == (200, 1)
    assert "X-Internal" not in response.headers


async def test_only_named_headers_cross(call, shop):
    """Trace, baggage and request id go on; cookies and credentials stay outside."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response, _ = await call(
        "POST",
        "/shop/look",
        headers={
            "traceparent": trace,
            "tracestate": "a=1",
            "baggage": "k=v",
            "X-Request-Id": "abc-1",
            "Authorization": "Bearer t",
            "Cookie": "a=b",
            "Kit-Caller": "forged",
            "Kit-Timeout": "999999",
            "Nats-Service-Error": "x",
        },
    )
    assert response.headers["X-Request-Id"] == "abc-1"
    timeout = shop.headers.pop("Kit-Timeout")
    assert int(timeout) <= 5000
    assert shop.headers == {
        "Kit-Request-Id": "abc-1",
        "Kit-Caller": "gateway.http",
        "Content-Type": "application/json",
        "traceparent": trace,
        "tracestate": "a=1",
        "baggage": "k=v",
    }


async def test_authorization_crosses_when_told_so(hub, shop, start):
    """Only by the option."""
    call = await start(hub, forward_authorization=True)
    await call("POST", "/shop/look", headers={"Authorization": "Bearer t"})
    assert shop.headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize("value", ["é", "a\tb", "x" * 200, "a b"])
async def test_an_odd_request_id_is_replaced(call, shop, value):
    """Only short printable text without spaces is taken over."""
    response, _ = await call("POST", "/shop/look", headers={"X-Request-Id": value})
    assert response.status == 200
    assert response.headers["X-Request-Id"] == shop.headers["Kit-Request-Id"]
    assert response.headers["X-Request-Id"] != value


async def test_odd_bytes_in_headers_do_not_cross(call, shop):
    """Bytes that are no ASCII are dropped from traces and never break the call."""
    reply = await call.raw(
        b"POST /shop/look HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        b"traceparent: 00-a\r\ntraceparent: 00-b\r\ntracestate: \xff\r\n"
        b"baggage: k=\xc3\xa9\r\nX-Request-Id: \x80\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert not {"traceparent", "tracestate", "baggage"} & {*shop.headers}
