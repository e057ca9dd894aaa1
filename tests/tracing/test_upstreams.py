"""Spans of upstreams, and what crosses THeader and MCP: in and out of our own doors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from thrift.transport.TSocket import TSocket

import kitmsg_gateways.http
import kitmsg_gateways.mcp
import kitmsg_gateways.thrift
from kitmsg import Service, current, endpoint
from kitmsg.context import Context
from kitmsg.errors import NotFound
from kitmsg.schema.calls import StreamRequest
from kitmsg_gateways.edge.visit import Visit
from kitmsg_gateways.http.upstream import Upstream as HttpUpstream
from kitmsg_gateways.thrift.upstream import Upstream, UpstreamOptions
from tests.gateways.mcp.conftest import Outside
from tests.gateways.thrift.test_auth import Speaker
from tests.gateways.upstream.test_client import Wire, client, method

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg import Kit
    from tests.tracing.conftest import Spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Greeter(Service):
    """Says what came with a call."""

    @endpoint
    async def seen(self) -> str:
        ctx = current()
        left = ctx.remaining(asyncio.get_running_loop().time()) or 0.0
        given = ctx.headers.get("authorization", "")
        return f"{ctx.request_id} {left < 3.0} {given}".strip()

    @endpoint(http="GET /items/{key}")
    async def item(self, key: str) -> str:
        if key == "none":
            raise NotFound("no such item")
        return key


@contextlib.asynccontextmanager
async def thrift(kit: Kit, **options: Any) -> AsyncIterator[int]:
    """Serve `Greeter` over Thrift."""
    await kit.serve(Greeter())
    chosen = kitmsg_gateways.thrift.GatewayOptions(port=0, drain_timeout=0.5, **options)
    server = await kitmsg_gateways.thrift.serve(kit, chosen)
    try:
        yield server.port
    finally:
        await server.stop()


def speak(port: int, headers: dict[str, str]) -> str:
    """Call with Apache's own THeader."""
    speaker = Speaker(TSocket("127.0.0.1", port), "binary")
    try:
        return speaker.call("seen", headers)
    finally:
        speaker.close()


async def test_theader_carries_trace_id_time_and_token(kit: Kit, spans: Spans) -> None:
    """Into the service, from Apache's client."""
    headers = {
        "traceparent": TRACEPARENT,
        "Kit-Request-Id": "abc",
        "Kit-Timeout": "2000",
        "Authorization": "Bearer t",
    }
    async with thrift(kit, forward_authorization=True) as port:
        said = await asyncio.to_thread(speak, port, headers)
    assert said == "abc True Bearer t"
    root = next(
        s for s in spans.all() if s.attributes.get("rpc.system.name") == "thrift"
    )
    assert f"{root.context.trace_id:032x}" == TRACE
    assert f"{root.parent.span_id:016x}" == PARENT
    assert [line.split()[0] for line in spans.tree()] == ["server", "client", "server"]


@pytest.mark.parametrize("given", ["-1", "soon", "0"])
async def test_a_time_that_is_none_is_refused(
    kit: Kit, own_process: None, given: str
) -> None:
    """With the header's name."""
    from thrift.Thrift import TApplicationException

    async with thrift(kit) as port:
        with pytest.raises(TApplicationException, match="Kit-Timeout"):
            await asyncio.to_thread(speak, port, {"Kit-Timeout": given})


async def test_a_public_gateway_takes_no_request_id(
    kit: Kit, own_process: None
) -> None:
    """Nor baggage; that of a stranger would be found in everybody's logs."""
    async with thrift(kit, public=True) as port:
        said = await asyncio.to_thread(speak, port, {"Kit-Request-Id": "abc"})
    assert not said.startswith("abc")


async def test_a_thrift_upstream_sends_them_on(kit: Kit, spans: Spans) -> None:
    """By THeader: one trace from here through the other server, and its id and time."""
    async with thrift(kit, forward_authorization=True) as port:
        options = UpstreamOptions(transport="header", timeout=2.0)
        async with Upstream(f"127.0.0.1:{port}", Greeter, options=options) as upstream:
            ctx = Context(metadata={"Kit-Request-Id": "abc"})
            assert await upstream.endpoint("seen")(ctx, {}) == "abc True"
    assert [line.split()[0] for line in spans.tree()] == [
        *("client", "server", "client", "server"),
    ]
    assert len({s.context.trace_id for s in spans.all()}) == 1
    client = next(s for s in spans.all() if s.parent is None)
    assert client.attributes["server.port"] == port
    assert client.attributes["rpc.system.name"] == "thrift"


async def test_an_http_upstream_tells_status_and_server(kit: Kit, spans: Spans) -> None:
    """A 404 of it is an answer, and no error of the span."""
    await kit.serve(Greeter())
    options = kitmsg_gateways.http.GatewayOptions(port=0, drain_timeout=0.5)
    server = await kitmsg_gateways.http.serve(kit, options)
    try:
        async with HttpUpstream(server.url, Greeter) as upstream:
            with pytest.raises(NotFound):
                await upstream.endpoint("item")(Context(), {"key": "none"})
    finally:
        await server.stop()
    client = next(s for s in spans.all() if s.parent is None)
    assert client.name == "GET /items/{key}"
    assert client.attributes["http.response.status_code"] == 404
    assert client.attributes["server.address"] == "127.0.0.1"
    assert "error.type" not in client.attributes
    assert spans.tree() == [
        "client GET /items/{key}",
        "  server GET /items/{key}",
        "    client greeter.item",
        "      server greeter.item",
    ]


async def test_a_tool_is_a_span(kit: Kit, spans: Spans) -> None:
    """Of ours alone: the library's own would adopt the trace of any stranger."""
    await kit.serve(Greeter())
    options = kitmsg_gateways.mcp.GatewayOptions(
        port=0, drain_timeout=0.5, allowed_hosts=("*",)
    )
    server = await kitmsg_gateways.mcp.serve(kit, options)
    try:
        async with Outside(server).client("auto") as client:
            await client.call_tool("greeter.item", {"key": "x"})
    finally:
        await server.stop()
    tool = spans.one("tools/call greeter.item", "server")
    assert dict(tool.attributes) == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "greeter.item",
    }
    call, turn = (
        spans.one("greeter.item", "client"),
        spans.one("greeter.item", "server"),
    )
    assert call.parent.span_id == tool.context.span_id
    assert turn.parent.span_id == call.context.span_id


async def test_a_trace_in_a_call_goes_before_that_of_its_request() -> None:
    """MCP has it in ``_meta``, beside the headers of HTTP."""
    visit = Visit(trace={"traceparent": [TRACEPARENT], "baggage": ["a=1"]})
    own = f"00-{'ab' * 16}-{PARENT}-01"
    found = visit.carrier({"traceparent": own, "other": "x", "tracestate": 3})
    assert found == {"traceparent": [own], "baggage": ["a=1"]}


@pytest.mark.parametrize(
    ("leave", "items", "code"),
    [
        ("read", 2, "OK"),
        ("closed", 1, "CANCELLED"),
        ("dropped", 1, "CANCELLED"),
        ("dropped", 0, "CANCELLED"),
    ],
)
async def test_a_stream_of_an_upstream_is_one_span_to_its_end(
    spans: Spans, leave: str, items: int, code: str
) -> None:
    """Read, closed, or dropped by its reader, if only before its first item."""
    call = client(Wire([])).endpoint(method([], gives_items=True))
    stream = await call(Context(), StreamRequest({"text": "a b"}, None))
    for _ in range(items):
        await anext(stream)
    assert not spans.all()
    if leave == "read":
        assert [item async for item in stream] == []
    elif leave == "closed":
        await stream.aclose()
    del stream
    async with asyncio.timeout(20):
        while not spans.all():
            await asyncio.sleep(0)
    (span,) = spans.all()
    assert [each.name for each in span.events] == ["stream.begin", "stream.end"]
    assert span.events[-1].attributes == {"kitmsg.stream.items": items}
    assert span.attributes["rpc.response.status_code"] == code
