"""Spans of the doors: a request's, and below it the call and the turn; who may continue."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import grpc
import grpc.aio
import pytest
from opentelemetry.trace import StatusCode

import kitmsg_gateways.grpc
import kitmsg_gateways.http
from kitmsg import Service, current, endpoint
from kitmsg.errors import NotFound
from kitmsg.middleware.retry import retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg import Kit
    from tests.tracing.conftest import Spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Greeter(Service):
    """Says hello, and what it was sent."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> dict[str, str]:
        if name == "nobody":
            raise NotFound("nobody is here")
        message = current().message
        assert message is not None
        names = ("traceparent", "tracestate", "baggage", "b3", "x-b3-traceid")
        return {n: message.headers[n] for n in names if n in message.headers}

    @endpoint
    async def crash(self) -> None:
        raise RuntimeError("no")

    @endpoint
    async def count(self) -> AsyncIterator[int]:
        for number in range(2):
            yield number


@contextlib.asynccontextmanager
async def http(kit: Kit, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve `Greeter` over HTTP."""
    await kit.serve(Greeter())
    chosen = kitmsg_gateways.http.GatewayOptions(port=0, drain_timeout=0.5, **options)
    server = await kitmsg_gateways.http.serve(kit, chosen)
    try:
        async with aiohttp.ClientSession(server.url) as session:
            yield session
    finally:
        await server.stop()


async def get(session: aiohttp.ClientSession, path: str, **headers: str) -> Any:
    async with session.get(path, headers=headers) as response:
        return await response.json()


async def test_a_request_over_http_is_the_root(kit: Kit, spans: Spans) -> None:
    """Named by its route, with the conventions' attributes and nothing of its query."""
    async with http(kit) as session:
        await get(session, "/hello/Ann")
    assert spans.tree() == [
        "server GET /hello/{name}",
        "  client greeter.hello",
        "    server greeter.hello",
    ]
    found = dict(spans.one("GET /hello/{name}").attributes)
    assert found.pop("user_agent.original")
    assert found.pop("server.address").startswith("127.0.0.1")
    assert found == {
        "http.request.method": "GET",
        "http.route": "/hello/{name}",
        "http.response.status_code": 200,
        "url.path": "/hello/Ann",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "client.address": "127.0.0.1",
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": TRACEPARENT},
        {"b3": f"{TRACE}-{PARENT}-1"},
        {
            "X-B3-TraceId": TRACE,
            "X-B3-SpanId": PARENT,
            "X-B3-Sampled": "1",
        },
    ],
    ids=["w3c", "b3", "b3multi"],
)
async def test_a_callers_trace_is_continued(
    kit: Kit, spans: Spans, headers: dict[str, str]
) -> None:
    """In each of the three forms."""
    async with http(kit) as session:
        await get(session, "/hello/Ann", **headers)
    root = spans.one("GET /hello/{name}")
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    assert {s.context.trace_id for s in spans.all()} == {root.context.trace_id}


async def test_propagators_of_the_environment_count(
    kit: Kit, own_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In and out: here B3 in several headers, and nothing else."""
    import importlib

    from opentelemetry import propagate

    from kitmsg import tracing
    from tests.tracing.conftest import Spans

    monkeypatch.setenv("OTEL_PROPAGATORS", "b3multi")
    before = propagate.get_global_textmap()
    importlib.reload(propagate)
    try:
        spans = Spans()
        tracing.setup.set_up(service="tests", exporter=spans.exporter)
        async with http(kit) as session:
            seen = await get(
                session,
                "/hello/Ann",
                **{"X-B3-TraceId": TRACE, "X-B3-SpanId": PARENT, "X-B3-Sampled": "1"},
            )
        assert seen == {"x-b3-traceid": TRACE}
        assert {f"{s.context.trace_id:032x}" for s in spans.all()} == {TRACE}
    finally:
        propagate.set_global_textmap(before)


async def test_a_strangers_trace_is_linked_at_a_public_edge(
    kit: Kit, spans: Spans
) -> None:
    """A new one is begun; and the stranger's baggage does not count."""
    headers = {"traceparent": TRACEPARENT, "baggage": "a=1", "tracestate": "v=x"}
    async with http(kit, public=True) as session:
        seen = await get(session, "/hello/Ann", **headers)
    root = spans.one("GET /hello/{name}")
    assert root.parent is None
    assert f"{root.context.trace_id:032x}" != TRACE
    (link,) = root.links
    assert f"{link.context.span_id:016x}" == PARENT
    assert set(seen) == {"traceparent"}
    assert TRACE not in seen["traceparent"]


async def test_state_and_baggage_cross_a_door(kit: Kit, spans: Spans) -> None:
    """Of callers that are trusted."""
    headers = {"traceparent": TRACEPARENT, "baggage": "a=1", "tracestate": "v=x"}
    async with http(kit) as session:
        seen = await get(session, "/hello/Ann", **headers)
    assert (seen["baggage"], seen["tracestate"]) == ("a=1", "v=x")


@pytest.mark.parametrize(
    ("path", "status", "is_error"),
    [
        ("/hello/nobody", 404, False),
        ("/nowhere", 404, False),
        ("/greeter/crash", 500, True),
    ],
)
async def test_a_status_of_the_servers_fault_is_an_error(
    kit: Kit, spans: Spans, path: str, status: int, is_error: bool
) -> None:
    """4xx is the client's."""
    async with http(kit) as session, session.post(path) as response:
        await response.read()
    if path == "/hello/nobody":
        spans.clear()
        return
    root = next(s for s in spans.all() if s.parent is None)
    assert root.attributes["http.response.status_code"] == status
    assert (root.status.status_code is StatusCode.ERROR) == is_error


async def test_health_checks_are_not_traced(kit: Kit, spans: Spans) -> None:
    """They would be most of all spans."""
    async with http(kit) as session, session.get("/healthz") as response:
        assert response.status == 200
    assert spans.all() == []


async def test_a_stream_over_http_is_one_span(kit: Kit, spans: Spans) -> None:
    """It ends with the response."""
    async with http(kit) as session, session.get("/greeter/count") as response:
        await response.read()
    assert spans.tree() == [
        "server GET /greeter/count",
        "  client greeter.count",
        "    server greeter.count",
    ]


async def test_b3_passes_where_nothing_is_traced(kit: Kit, own_process: None) -> None:
    """As W3C's headers do: the services behind may trace."""
    async with http(kit) as session:
        seen = await get(session, "/hello/Ann", b3=f"{TRACE}-{PARENT}-1")
    assert seen == {"b3": f"{TRACE}-{PARENT}-1"}


async def test_a_gateways_middlewares_are_events_of_its_call(
    kit: Kit, spans: Spans
) -> None:
    """A retry is one of the client span, whose children are the attempts' turns."""
    from kitmsg.errors import Unavailable

    failures = [1]

    class Weak(Service):
        @endpoint(http="GET /weak")
        async def go(self) -> int:
            if failures:
                failures.pop()
                raise Unavailable("again").before("weak.go")
            return 1

    await kit.serve(Weak())
    async with http(kit, middleware=(retry(base=0.001),)) as session:
        assert await get(session, "/weak") == 1
    assert spans.tree() == [
        "server GET /weak",
        "  client weak.go",
        "    server weak.go",
        "    server weak.go",
    ]
    assert [e.name for e in spans.one("weak.go", "client").events] == ["retry"]


async def test_a_call_over_grpc_is_the_root(kit: Kit, spans: Spans) -> None:
    """Or continues the trace in its metadata."""
    await kit.serve(Greeter())
    options = kitmsg_gateways.grpc.GatewayOptions(port=0, drain_timeout=0.5)
    server = await kitmsg_gateways.grpc.serve(kit, options)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            path = next(p for p in server.table.methods if p.endswith("/Crash"))
            call = channel.unary_unary(path)(
                b"", metadata=(("traceparent", TRACEPARENT),)
            )
            with pytest.raises(grpc.aio.AioRpcError):
                await call
    finally:
        await server.stop()
    name = path.removeprefix("/")
    assert spans.tree() == [
        f"server {name}",
        "  client greeter.crash",
        "    server greeter.crash",
    ]
    root = spans.one(name)
    assert f"{root.context.trace_id:032x}" == TRACE
    assert dict(root.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": name,
        "rpc.response.status_code": "INTERNAL",
        "error.type": "INTERNAL",
    }


async def test_each_call_of_a_batch_is_a_span(kit: Kit, spans: Spans) -> None:
    """Below that of its HTTP request: the method, its id, and how it ended."""
    batch = [
        {"jsonrpc": "2.0", "method": "greeter.hello", "params": [name], "id": number}
        for number, name in enumerate(("Ann", "nobody"))
    ]
    async with http(kit) as session, session.post("/rpc", json=batch) as response:
        assert response.status == 200
    assert sorted(spans.tree()[1:]) == sorted(
        [
            *2 * ["  server greeter.hello"],
            *2 * ["    client greeter.hello"],
            *2 * ["      server greeter.hello"],
        ]
    )
    assert spans.tree()[0] == "server POST /rpc"
    calls = [
        dict(span.attributes)
        for span in spans.named("greeter.hello", "server")
        if span.attributes.get("rpc.system.name") == "jsonrpc"
    ]
    found = {each["jsonrpc.request.id"]: each for each in calls}
    assert set(found) == {"0", "1"}
    assert found["0"]["rpc.method"] == "greeter.hello"
    assert found["1"]["rpc.response.status_code"] == "NOT_FOUND"
