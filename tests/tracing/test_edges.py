"""A caller's trace at gRPC, Thrift and MCP: continued, or linked at an edge to strangers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import aiohttp
import grpc.aio
import pytest
from thrift.transport.TSocket import TSocket

import kitmsg_gateways.grpc
import kitmsg_gateways.http
import kitmsg_gateways.mcp
import kitmsg_gateways.thrift
from kitmsg import Service, current, endpoint
from tests.gateways.mcp.conftest import Outside
from tests.gateways.thrift.test_auth import Speaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kitmsg import Kit
    from kitmsg_gateways.edge.metrics import Metrics
    from tests.tracing.conftest import Spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": "a=1"}
Sent: TypeAlias = "Mapping[str, str]"
CALL = {
    "jsonrpc": "2.0",
    "id": 2,
    "method": "tools/call",
    "params": {"name": "greeter.seen", "arguments": {}},
}


class Greeter(Service):
    """Keeps what it was sent."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    @endpoint
    async def seen(self) -> str:
        message = current().message
        assert message is not None
        self.sent = {n: message.headers[n] for n in SENT if n in message.headers}
        return ""


async def by_grpc(kit: Kit, public: bool, sent: Sent = SENT) -> Metrics:
    options = kitmsg_gateways.grpc.GatewayOptions(
        port=0, drain_timeout=0.5, public=public
    )
    server = await kitmsg_gateways.grpc.serve(kit, options)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            path = next(p for p in server.table.methods if p.endswith("/Seen"))
            await channel.unary_unary(path)(b"", metadata=tuple(sent.items()))
    finally:
        await server.stop()
    return server.metrics


async def by_thrift(kit: Kit, public: bool, sent: Sent = SENT) -> Metrics:
    options = kitmsg_gateways.thrift.GatewayOptions(
        port=0, drain_timeout=0.5, public=public
    )
    server = await kitmsg_gateways.thrift.serve(kit, options)
    try:
        speaker = await asyncio.to_thread(
            Speaker, TSocket("127.0.0.1", server.port), "binary"
        )
        await asyncio.to_thread(speaker.call, "seen", sent)
        speaker.close()
    finally:
        await server.stop()
    return server.metrics


async def by_mcp(kit: Kit, public: bool, sent: Sent = SENT) -> Metrics:
    options = kitmsg_gateways.mcp.GatewayOptions(
        port=0, drain_timeout=0.5, public=public, allowed_hosts=("*",)
    )
    server = await kitmsg_gateways.mcp.serve(kit, options)
    try:
        outside = Outside(server)  # the library's client would send a trace of its own
        opened = await outside.post()
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        answer = await outside.post(CALL, **session, **sent)
        assert answer.status_code == 200
    finally:
        await server.stop()
    return server.metrics


async def by_http(kit: Kit, public: bool, sent: Sent = SENT) -> Metrics:
    options = kitmsg_gateways.http.GatewayOptions(
        port=0, drain_timeout=0.5, public=public
    )
    server = await kitmsg_gateways.http.serve(kit, options)
    try:
        async with aiohttp.ClientSession(server.url) as session:
            url = "/greeter/seen"
            async with session.post(url, headers=dict(sent)) as response:
                assert response.status == 200
    finally:
        await server.stop()
    return server.metrics


Door: TypeAlias = "Callable[..., Awaitable[Metrics]]"
DOORS = pytest.mark.parametrize("door", [by_grpc, by_thrift, by_mcp])
EVERY_DOOR = pytest.mark.parametrize("door", [by_grpc, by_thrift, by_mcp, by_http])


def exemplars(metrics: Metrics) -> list[tuple[str, str]]:
    """Return trace and span ids of the exemplars of the endpoint's durations."""
    name = "kitmsg_gateway_duration_seconds"
    (times,) = (f for f in metrics.collect() if f.name == name)
    return [
        (each.trace_id, each.span_id)
        for series in times.distributions
        if series.labels["endpoint"] == "greeter.seen"
        for each in series.exemplars.values()
    ]


@EVERY_DOOR
@pytest.mark.parametrize(
    "sent",
    [
        {"traceparent": f"00-{TRACE}-{PARENT}-01"},
        {"b3": f"{TRACE}-{PARENT}-1"},
        {"x-b3-traceid": TRACE, "x-b3-spanid": PARENT, "x-b3-sampled": "1"},
    ],
    ids=["w3c", "b3", "b3multi"],
)
async def test_a_duration_leads_to_its_callers_trace(
    kit: Kit, own_process: None, door: Door, sent: Sent
) -> None:
    """As an exemplar, also where the gateway itself traces nothing."""
    await kit.serve(Greeter())
    assert exemplars(await door(kit, False, sent)) == [(TRACE, PARENT)]


@EVERY_DOOR
async def test_a_duration_leads_to_the_gateways_own_span(
    kit: Kit, spans: Spans, door: Door
) -> None:
    """Whose trace is another than the stranger's at a public edge."""
    await kit.serve(Greeter())
    ((trace, span),) = exemplars(await door(kit, True))
    (root,) = [each for each in spans.all() if each.parent is None]
    assert trace == f"{root.context.trace_id:032x}" != TRACE
    assert span == f"{root.context.span_id:016x}"


@EVERY_DOOR
async def test_a_duration_leads_to_no_trace_that_nobody_keeps(
    kit: Kit, own_process: None, door: Door
) -> None:
    """One that is not sampled cannot be looked up."""
    await kit.serve(Greeter())
    assert exemplars(await door(kit, False, {"b3": f"{TRACE}-{PARENT}-0"})) == []


@DOORS
async def test_a_callers_trace_is_continued(kit: Kit, spans: Spans, door: Door) -> None:
    """Down to the service, with baggage: one tree below the caller's span."""
    greeter = Greeter()
    await kit.serve(greeter)
    await door(kit, False)
    assert {f"{span.context.trace_id:032x}" for span in spans.all()} == {TRACE}
    (root,) = [s for s in spans.all() if f"{s.parent.span_id:016x}" == PARENT]
    assert root.kind.name == "SERVER"
    assert [line.split()[0] for line in spans.tree()] == ["server", "client", "server"]
    assert greeter.sent["traceparent"][3:35] == TRACE
    assert greeter.sent["baggage"] == "a=1"


@DOORS
async def test_a_strangers_trace_is_linked_at_a_public_edge(
    kit: Kit, spans: Spans, door: Door
) -> None:
    """A new one is begun, and baggage stays outside."""
    greeter = Greeter()
    await kit.serve(greeter)
    await door(kit, True)
    (root,) = [span for span in spans.all() if span.parent is None]
    (link,) = root.links
    assert f"{link.context.trace_id:032x}" == TRACE
    assert f"{link.context.span_id:016x}" == PARENT
    assert TRACE not in {f"{span.context.trace_id:032x}" for span in spans.all()}
    assert set(greeter.sent) == {"traceparent"}
    assert TRACE not in greeter.sent["traceparent"]


@EVERY_DOOR
@pytest.mark.parametrize("public", [True, False], ids=["public", "inside"])
async def test_a_caller_without_a_trace_begins_one(
    kit: Kit, spans: Spans, door: Door, public: bool
) -> None:
    """Without a link: a public OpenCensus server of Go kit fell over here."""
    await kit.serve(Greeter())
    await door(kit, public, {})
    (root,) = [span for span in spans.all() if span.parent is None]
    assert root.kind.name == "SERVER"
    assert not root.links
