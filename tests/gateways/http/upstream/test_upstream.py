"""Calls of a remote HTTP API: what is sent, what comes back, and what may go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest
import trustme
from aiohttp import web

import kitmsg
import kitmsg_gateways.http
from kitmsg import BusinessError, Service, endpoint
from kitmsg.context import Context
from kitmsg.errors import (
    Code,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.schema import header
from kitmsg_gateways.http.upstream import Upstream, UpstreamOptions
from kitmsg_gateways.upstream import Hooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.memory import MemoryBus
    from tests.gateways.http.upstream.conftest import Remote

ROUTES = {"get": "GET /users/{id}", "add": "POST /users", "drop": "DELETE /users/{id}"}


async def call(upstream: Upstream, name: str, /, **request: Any) -> Any:
    """Call an endpoint as code without a bus does."""
    return await upstream.endpoint(name)(Context(), request)


async def test_fields_go_where_the_route_says(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Path, then query for GET and DELETE, JSON body for the rest."""
    users = upstream(ROUTES)
    remote.says({"id": "a/b"})
    assert await call(users, "get", id="a/b ä", deep=[1, 2], x=True) == {"id": "a/b"}
    assert remote.seen[-1].target == "/users/a%2Fb%20%C3%A4?deep=1&deep=2&x=true"
    assert remote.seen[-1].body == b""
    await call(users, "add", name="Ann", data=b"hi", tags=[])
    assert remote.seen[-1].method == "POST"
    assert remote.seen[-1].headers["Content-Type"] == "application/json"
    assert msgspec.json.decode(remote.seen[-1].body) == {
        "name": "Ann",
        "data": "aGk=",
        "tags": [],
    }


async def test_the_base_may_have_a_path(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """The path of an endpoint comes after that of the API."""
    users = upstream(ROUTES, addresses=remote.url + "/api/v1/")
    await call(users, "get", id=7)
    assert remote.seen[0].target == "/api/v1/users/7"


@pytest.mark.parametrize("id_", ["", ".", "..", None])
async def test_a_path_cannot_be_left(
    remote: Remote, upstream: Callable[..., Upstream], id_: Any
) -> None:
    """A value that would lead to another path is refused, and nothing is sent."""
    with pytest.raises(InvalidArgument, match="'id' is part of a path") as caught:
        await call(upstream(ROUTES), "get", id=id_)
    assert caught.value.field == "id"
    assert remote.seen == []


async def test_a_missing_part_of_the_path_is_named(
    upstream: Callable[..., Upstream],
) -> None:
    """The caller learns which field is missing."""
    with pytest.raises(InvalidArgument, match="'id' is missing"):
        await call(upstream(ROUTES), "get")


async def test_time_trace_and_id_are_sent(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """The deadline as both timeout headers; trace, id and key by HTTP's names."""
    fields = {
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "baggage": "a=1",
        "Kit-Request-Id": "r-1",
        "Authorization": "Bearer t",
        "Kit-Idempotency-Key": "k-1",
    }
    message = Message("s", b"", header_block=encode_headers(fields))
    deadline = asyncio.get_running_loop().time() + 2.0
    ctx = Context(message=message, deadline=deadline)
    await upstream(ROUTES).endpoint("get")(ctx, {"id": "1"})
    sent = remote.seen[0].headers
    assert sent["traceparent"] == fields["traceparent"]
    assert sent["baggage"] == "a=1"
    assert sent["X-Request-Id"] == "r-1"
    assert sent["Idempotency-Key"] == "k-1"
    assert "Kit-Idempotency-Key" not in sent
    assert "Authorization" not in sent
    assert 1.0 < float(sent["Request-Timeout"]) <= 2.0
    assert 1000 < int(sent["X-Request-Timeout-Ms"]) <= 2000
    forwarding = upstream(ROUTES, forward_authorization=True)
    await forwarding.endpoint("get")(ctx, {"id": "1"})
    assert remote.seen[1].headers["Authorization"] == "Bearer t"


async def test_own_headers_go_with_each_call(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Such as a key for the API."""
    await call(upstream(ROUTES, header=("X-Api-Key: k1",)), "get", id="1")
    assert remote.seen[0].headers["X-Api-Key"] == "k1"


@pytest.mark.parametrize(
    ("status", "body", "code", "text"),
    [
        (404, {"error": "no such user"}, Code.NOT_FOUND, "no such user"),
        (404, b"", Code.NOT_FOUND, "users.get: the server answered 404 Not Found"),
        (409, {"error": {"message": "taken"}}, Code.ABORTED, "taken"),
        (422, {"message": "odd"}, Code.INVALID_ARGUMENT, "odd"),
        (500, {"error": "secret"}, Code.INTERNAL, "500 Internal Server Error"),
        (502, b"<html>", Code.UNAVAILABLE, "502 Bad Gateway"),
        (599, b"", Code.UNKNOWN, "599"),
        (304, b"", Code.FAILED_PRECONDITION, "304 Not Modified"),
    ],
)
async def test_a_status_is_an_error_by_the_one_table(
    remote: Remote,
    upstream: Callable[..., Upstream],
    status: int,
    body: Any,
    code: Code,
    text: str,
) -> None:
    """With the text for callers; what a server says of its own failure stays behind."""
    remote.says(body, status)
    with pytest.raises(KitError) as caught:
        await call(upstream(ROUTES), "get", id="1")
    assert caught.value.code is code
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_a_plain_text_error_is_told(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """On one line, and not endless."""
    remote.says(b"no\nway " + b"x" * 5000, 403, Content_Type="text/plain")
    with pytest.raises(KitError) as caught:
        await call(upstream(ROUTES), "get", id="1")
    assert str(caught.value).startswith("no way xxx")
    assert len(str(caught.value)) <= 300


async def test_a_problem_document_is_read_back(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Code, field, retry time and request id are as the service there said."""
    remote.says(
        {
            "code": "resource_exhausted",
            "detail": "full",
            "retry_after": 0.25,
            "status": 429,
        },
        429,
        Content_Type="application/problem+json",
        Retry_After="1",
        X_Request_Id="r9",
    )
    with pytest.raises(ResourceExhausted, match="full") as full:
        await call(upstream(ROUTES), "get", id="1")
    assert full.value.retry_after == 0.25
    assert full.value.request_id == "r9"
    remote.says({"code": "invalid_argument", "detail": "bad", "field": "a.b"}, 400)
    with pytest.raises(InvalidArgument, match="bad") as bad:
        await call(upstream(ROUTES), "get", id="1")
    assert bad.value.field == "a.b"


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("7", 7, 7),
        ("999999999999", 86400, 86400),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0, 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 86400, 86400),
    ],
)
async def test_retry_after_is_seconds_from_now(
    remote: Remote, upstream: Callable[..., Upstream], text: str, low: int, high: int
) -> None:
    """Whether it came as seconds or as a date; a day at most."""
    remote.says(b"", 503, Retry_After=text)
    with pytest.raises(Unavailable) as caught:
        await call(upstream(ROUTES), "get", id="1")
    assert caught.value.retry_after is not None
    assert low <= caught.value.retry_after <= high


async def test_a_retry_after_that_is_none_is_ignored(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Broken advice is no advice."""
    remote.says(b"", 503, Retry_After="soon")
    with pytest.raises(Unavailable) as caught:
        await call(upstream(ROUTES), "get", id="1")
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"a": 1}', "application/json", {"a": 1}),
        (b'{"a": 1}', "application/hal+json; charset=utf-8", {"a": 1}),
        (msgspec.msgpack.encode({"a": b"x"}), "application/msgpack", {"a": b"x"}),
        (b"plain", "text/plain", "plain"),
        (b"\x00\x01", "application/octet-stream", b"\x00\x01"),
        (b"<a/>", "application/xml", b"<a/>"),
        (b"", "text/html", None),
    ],
)
async def test_results_come_in_their_own_form(
    remote: Remote,
    upstream: Callable[..., Upstream],
    body: bytes,
    kind: str,
    value: Any,
) -> None:
    """JSON and msgpack as values, text as text, the rest as bytes, nothing as null."""
    remote.says(body, Content_Type=kind)
    assert await call(upstream(ROUTES), "get", id="1") == value


async def test_a_broken_result_is_data_loss(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """What calls itself JSON and is none."""
    remote.says(b'{"a"', Content_Type="application/json")
    with pytest.raises(DataLoss, match=r"users\.get"):
        await call(upstream(ROUTES), "get", id="1")


async def test_a_response_has_a_bound(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Told by its length, found while reading, or found while unpacking."""
    users = upstream(ROUTES, max_response_bytes=1000)
    remote.says(b"x" * 1001)
    with pytest.raises(ResourceExhausted, match="longer than 1000 bytes"):
        await call(users, "get", id="1")

    async def packed(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                await response.write(b"x" * 100_000)
        return response

    remote.answer = packed
    with pytest.raises(ResourceExhausted, match="longer than 1000 bytes"):
        await call(users, "get", id="1")


async def test_a_slow_server_runs_out_of_time(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """And learns of it: the connection is closed."""
    gone = asyncio.Event()

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    remote.answer = never
    with pytest.raises(DeadlineExceeded, match="did not answer in time"):
        await call(upstream(ROUTES, timeout=0.05), "get", id="1")
    async with asyncio.timeout(10):
        await gone.wait()


async def test_a_caller_that_gives_up_closes_the_request(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Cancellation reaches the server as a closed connection."""
    began, gone = asyncio.Event(), asyncio.Event()

    async def never(_request: web.BaseRequest) -> web.StreamResponse:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        raise AssertionError

    remote.answer = never
    task = asyncio.create_task(call(upstream(ROUTES), "get", id="1"))
    async with asyncio.timeout(10):
        await began.wait()
        task.cancel()
        await gone.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_instance_that_is_down_is_passed_over(
    remote: Remote, upstream: Callable[..., Upstream], free_port: Callable[[], int]
) -> None:
    """Another one gets the call; without another it is unavailable."""
    down = f"http://127.0.0.1:{free_port()}"
    users = upstream(ROUTES, addresses=[down, remote.url])
    for _ in range(4):
        assert await call(users, "get", id="1") == {"ok": True}
    alone = upstream(ROUTES, addresses=[down])
    with pytest.raises(
        Unavailable, match="users has no instance that can be reached"
    ) as caught:
        await call(alone, "get", id="1")
    assert caught.value.refused == "users.get"


async def test_a_connection_that_breaks_is_unavailable_and_not_repeated(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """The server may have done the work, so a POST is not sent again."""

    async def slam(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    remote.answer = slam
    with pytest.raises(Unavailable, match="the connection to the server broke"):
        await call(upstream(ROUTES), "add", name="Ann")
    assert len(remote.seen) == 1


async def test_redirects_on_the_host_are_followed_and_bounded(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """A GET goes on; 307 keeps method and body; 303 fetches; a circle ends."""

    async def moved(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/done":
            return web.json_response(request.method)
        status = {"GET": 301, "POST": 307, "DELETE": 303}[request.method]
        return web.Response(status=status, headers={"Location": "/done"})

    remote.answer = moved
    users = upstream(ROUTES, header=("X-Api-Key: k",))
    assert await call(users, "get", id="1") == "GET"
    assert await call(users, "add", name="Ann") == "POST"
    assert remote.seen[-1].body == b'{"name":"Ann"}'
    assert await call(users, "drop", id="1") == "GET"
    remote.says(b"", 302, Location="/again")
    with pytest.raises(Unavailable, match="more than 5 redirects"):
        await call(users, "get", id="1")
    with pytest.raises(FailedPrecondition, match="302"):
        await call(users, "add", name="Ann")


async def test_a_redirect_elsewhere_is_not_followed(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Our headers may hold secrets."""
    users = upstream(ROUTES, header=("X-Api-Key: k",))
    port = remote.url.rpartition(":")[2]
    for elsewhere in (
        f"http://localhost:{port}/",
        "ftp://127.0.0.1/",
        "http://127.0.0.1:9/",
    ):
        remote.seen.clear()
        remote.says(b"", 302, Location=elsewhere)
        with pytest.raises(FailedPrecondition, match="302 Found"):
            await call(users, "get", id="1")
        assert len(remote.seen) == 1


async def test_hooks_run_in_order(
    remote: Remote, upstream: Callable[..., Upstream]
) -> None:
    """Before may change the request, after sees the reply, the decoder chooses the error."""
    told: list[str] = []

    def before(_ctx: Context, request: Any) -> None:
        request.headers["X-Mark"] = "m"
        told.append("before")

    def decode(_ctx: Context, reply: Any) -> Exception | None:
        told.append("decode")
        return NotFound("mine") if reply.status == 418 else None

    hooks: Any = Hooks(
        before=[before],
        after=[lambda _ctx, reply: told.append(f"after {reply.status}")],
        error_decoder=decode,
        finalizer=[lambda _ctx, error: told.append(f"end {error}")],
    )
    remote.says(b"", 418)
    with pytest.raises(NotFound, match="mine"):
        await call(upstream(ROUTES, hooks=hooks), "get", id="1")
    assert remote.seen[0].headers["X-Mark"] == "m"
    assert told == ["before", "after 418", "decode", "end mine"]


@pytest.mark.parametrize(
    "address",
    [
        "api.example",
        "ftp://api.example",
        "https://",
        "http://x:y@h",
        "http://h/?a=1",
        "http://h:0",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    """At once, with a sentence."""
    with pytest.raises(ValueError, match="address"):
        Upstream(address, ROUTES, name="users")


def test_routes_names_and_options_are_checked() -> None:
    """When the upstream is made, not when it is called."""
    with pytest.raises(ValueError, match="is not a route"):
        Upstream("http://h", {"get": "users/{id}"}, name="users")
    with pytest.raises(ValueError, match="use letters"):
        Upstream("http://h", {"get it": "GET /"}, name="users")
    with pytest.raises(ValueError, match="give the address"):
        Upstream([], ROUTES, name="users")
    with pytest.raises(ValueError, match="timeout must be positive"):
        UpstreamOptions(timeout=0)
    with pytest.raises(ValueError, match="not of the form") as caught:
        UpstreamOptions(header=("Authorization secret",))
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="files for TLS"):
        Upstream("http://h", ROUTES, name="u", options=UpstreamOptions(ca_file="/none"))


class Taken(BusinessError):
    """That name is taken."""

    code = Code.ALREADY_EXISTS
    name: str


class User(msgspec.Struct):
    id: int
    name: str
    photo: bytes = b""


class Users(Service):
    """Declarations of an API elsewhere."""

    version = "3.2.1"
    concurrency = 7

    @endpoint(http="GET /users/{user_id}", idempotent=True)
    async def get(
        self, user_id: int, tenant: Annotated[str, header("X-Tenant")]
    ) -> User:
        """Get a user."""
        raise NotImplementedError

    @endpoint(http="POST /users", raises=[Taken])
    async def add(self, user: User) -> None:
        """Add a user."""
        raise NotImplementedError


async def test_a_class_of_declarations_is_typed_end_to_end(
    remote: Remote, upstream: Callable[..., Upstream], memory_bus: MemoryBus
) -> None:
    """Its client works over the bus and without one, with its types and errors."""
    users = upstream(Users)
    remote.says({"id": 7, "name": "Ann", "photo": "aGk=", "more": 1})
    local = users.client(Users)
    assert await local.get(7, "acme") == User(7, "Ann", b"hi")
    assert remote.seen[0].target == "/users/7"
    assert remote.seen[0].headers["X-Tenant"] == "acme"
    async with kitmsg.connect(bus=memory_bus) as kit:
        host = await kit.serve(users)
        assert host.info.version == "3.2.1"
        assert host.info.description == "Declarations of an API elsewhere."
        assert host.intake.mailbox.concurrency == 7
        client = kit.client(Users)
        assert await client.get(8, "acme") == User(8 - 1, "Ann", b"hi")
        remote.says(
            {"code": "already_exists", "error": "Taken", "details": {"name": "Ann"}},
            409,
            Content_Type="application/problem+json",
        )
        with pytest.raises(Taken) as caught:
            await client.add(User(1, "Ann"))
        assert caught.value.name == "Ann"
        remote.says({"id": "x"})
        with pytest.raises(DataLoss):
            await client.get(8, "acme")
        remote.says(b"", 204)
        await client.add(User(1, "Ann"))
    with pytest.raises(InvalidArgument, match="header"):
        await local.get(7, "a\r\nX-Evil: 1")


async def test_its_connections_open_again_after_a_close(
    upstream: Callable[..., Upstream],
) -> None:
    """An upstream that was drained can serve again."""
    users = upstream(ROUTES)
    assert await call(users, "get", id="1") == {"ok": True}
    await users.close()
    await users.close()
    assert await call(users, "get", id="1") == {"ok": True}


def test_it_goes_by_its_short_name() -> None:
    """As the gateway's own class, without being loaded for a gateway."""
    assert kitmsg_gateways.http.Upstream is Upstream
    package = "kitmsg_gateways.http"
    code = f"import sys, {package}; print('{package}.upstream' in sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert ran.stdout == "False\n"


async def test_tls_is_checked_against_the_given_authority(tmp_path: Path) -> None:
    """A server whose authority is not trusted is not called; with it, and our own, it is."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ca.issue_cert("client@x").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "own.pem")
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response("in")

    runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    files: Any = {
        "ca_file": str(tmp_path / "ca.pem"),
        "cert_file": str(tmp_path / "own.pem"),
    }
    trusting = UpstreamOptions(**files)
    async with Upstream(url, ROUTES, name="users", options=trusting) as users:
        assert await call(users, "get", id="1") == "in"
    async with Upstream(url, ROUTES, name="users") as users:
        with pytest.raises(Unavailable, match="no instance that can be reached"):
            await call(users, "get", id="1")
    await runner.cleanup()
