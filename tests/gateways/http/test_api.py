"""Requests over HTTP reach services on the bus and come back."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import kitmsg
from kitmsg import BusinessError, Code, Service, endpoint
from kitmsg.errors import ResourceExhausted, error_for
from kitmsg.message import Message, encode_headers

if TYPE_CHECKING:
    from kitmsg.bus import Bus


class OutOfStock(BusinessError):
    """Nothing left."""

    code = Code.ALREADY_EXISTS
    template = "only {left} of {sku} left"
    sku: str
    left: int = 0


@dataclasses.dataclass
class Order:
    """An order."""

    id: str
    lines: list[str] = dataclasses.field(default_factory=list)


class Shop(Service):
    """Sells things."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.headers: dict[str, str] = {}

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str, times: int = 1) -> str:
        """Say hello."""
        return " ".join([f"Hello, {name}!"] * times)

    @endpoint(http="PUT /orders/{id}")
    async def store(self, order: Order) -> Order:
        return order

    @endpoint(http="DELETE /orders/{id}")
    async def drop(self, id: str) -> None:  # noqa: A002
        return None

    @endpoint
    async def fail(self, code: str) -> None:
        raise error_for(Code(code), f"it is {code}")

    @endpoint
    async def full(self) -> None:
        raise ResourceExhausted("come back", retry_after=2.5)

    @endpoint(raises=[OutOfStock])
    async def buy(self, sku: str) -> None:
        raise OutOfStock(sku, 3)

    @endpoint
    async def crash(self) -> None:
        raise RuntimeError("secret-detail")

    @endpoint
    async def marked(self, ok: bool) -> str | None:
        kitmsg.current().reply["x-trace"] = "t-1"
        kitmsg.current().reply["cache-control"] = "max-age=5"
        if not ok:
            raise error_for(Code.NOT_FOUND, "none")
        return "cup"

    @endpoint
    async def wait(self) -> str:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return "done"

    @endpoint(timeout=0.2)
    async def slow(self) -> None:
        await asyncio.Event().wait()

    @endpoint
    async def look(self, ctx: kitmsg.Context) -> float:
        self.headers = dict(ctx.headers)
        now = asyncio.get_running_loop().time()
        return ctx.remaining(now) or 0.0

    @endpoint
    async def echo(self, data: bytes) -> bytes:
        return data

    @endpoint
    async def size(self, data: bytes) -> int:
        return len(data)


@pytest.fixture
async def shop(hub: kitmsg.Kit) -> Shop:
    """A shop on the bus."""
    shop = Shop()
    await hub.serve(shop)
    return shop


@pytest.fixture
async def call(hub, shop, start):
    """A client of a gateway in front of the shop."""
    return await start(hub)


async def test_post_reaches_every_endpoint(call):
    """`POST /service/endpoint` answers with the result as JSON, and an id."""
    response, body = await call("POST", "/shop/hello", json={"name": "Ann"})
    assert (response.status, body) == (200, "Hello, Ann!")
    assert response.content_type == "application/json"
    assert response.headers["X-Request-Id"]
    assert response.headers["Server"] == "kitmsg"
    assert response.headers["Cache-Control"] == "no-store"


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


async def test_a_client_that_goes_away_cancels_the_turn(call, shop, until):
    """The service's handler is cancelled when the connection closes."""
    _, writer = await asyncio.open_connection("127.0.0.1", call.server.port)
    writer.write(b"POST /shop/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(10):
        await shop.entered.wait()
        writer.close()
        await shop.cancelled.wait()
    await until(lambda: call.server.metrics.count("shop.wait", "cancelled") == 1)


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


class Old(Service):
    """Speaks as Go kit does."""

    @endpoint(wire="gokit")
    async def sum(self, a: int, b: int) -> int:
        if not a:
            raise ValueError("never shown")
        if not b:
            raise kitmsg.errors.InvalidArgument("b is zero")
        return a + b


async def test_gokit_errors_are_errors(hub, start):
    """`{"err": text}` is not passed off as a success; it is told as Go kit's examples do."""
    await hub.serve(Old())
    call = await start(hub)
    assert (await call("POST", "/old/sum", json={"a": 1, "b": 2}))[1] == {"v": 3}
    response, body = await call("POST", "/old/sum", json={"a": 1, "b": 0})
    assert (response.status, body) == (400, {"error": "b is zero"})


def answer(
    bus: Bus, subject: str, data: bytes, headers: dict[str, str] | None = None
) -> list[Message]:
    """Serve a fixed reply on a subject; returns the requests that came."""
    came: list[Message] = []

    def reply(message: Message) -> None:
        came.append(message)
        bus.publish(message.reply, data, "", encode_headers(headers or {}))

    bus.subscribe(subject, reply)
    return came


@pytest.mark.parametrize(
    ("data", "headers", "status", "kind"),
    [
        (b'{"a":1}', {}, 200, "application/json"),
        (b"5", {}, 200, "application/json"),
        (b"hello", {}, 200, "application/octet-stream"),
        (b"\xff\x00", {}, 200, "application/octet-stream"),
        (b"", {}, 204, None),
        (b"", {"Content-Type": "text/plain"}, 204, None),
        (b"<p>", {"Content-Type": "text/plain; charset=utf-8"}, 200, "text/plain"),
        (b"x", {"Content-Type": "what\x01ever"}, 200, "application/octet-stream"),
    ],
)
async def test_a_foreign_reply_is_passed_back(
    memory_bus, start, foreign, data, headers, status, kind
):
    """As JSON when it is JSON, as its header says, else as bytes."""
    foreign("far", "far.do")
    came = answer(memory_bus, "far.do", data, headers)
    call = await start(memory_bus)
    body = b'{"x": 1 }'
    response, _ = await call(
        "POST", "/far/do", data=body, headers={"Content-Type": "application/json"}
    )
    assert response.status == status
    assert response.headers.get("Content-Type", "").partition(";")[0] == (kind or "")
    assert came[0].data == body


async def test_a_foreign_error_shows_no_exception(memory_bus, start, foreign, caplog):
    """A 500 of a plain micro service is often the text of an exception: it is logged."""
    foreign("far", "far.do")
    headers = {
        "Nats-Service-Error": "KeyError('secret')",
        "Nats-Service-Error-Code": "500",
    }
    answer(memory_bus, "far.do", b"", headers)
    call = await start(memory_bus)
    response, body = await call("POST", "/far/do")
    assert response.status == 500
    assert "secret" not in json.dumps(body)
    assert "secret" in caplog.text


async def test_a_foreign_refusal_is_passed_on(memory_bus, start, foreign):
    """A 4xx of a plain micro service is meant for the caller."""
    foreign("far", "far.do")
    headers = {"Nats-Service-Error": "no such thing", "Nats-Service-Error-Code": "404"}
    answer(memory_bus, "far.do", b'{"id": 7}', headers)
    call = await start(memory_bus)
    response, body = await call("POST", "/far/do")
    assert (response.status, body["detail"]) == (404, "no such thing")
    assert body["details"] == {"id": 7}


class Numbers(Service):
    """Another class, by the name of `Words`."""

    name = "words"

    @endpoint
    async def say(self, number: int) -> str:
        return f"number {number}"


class Words(Service):
    """Says words."""

    @endpoint
    async def say(self, word: str) -> str:
        return f"word {word}"


async def test_calls_go_only_to_the_class_whose_schema_is_shown(hub, start):
    """Where two classes of one name and version are on the bus, none gets the other's."""
    await hub.serve(Words())
    await kitmsg.Kit(hub.bus).serve(Numbers())
    call = await start(hub)
    _, document = await call("GET", "/openapi.json")
    is_words = '"word"' in json.dumps(document)  # the name of its one field
    sent, said = [({"number": 7}, "number 7"), ({"word": "a"}, "word a")][is_words]
    for _ in range(8):
        response, body = await call("POST", "/words/say", json=sent)
        assert (response.status, body) == (200, said)
