"""A caller's trace at gRPC, Thrift and MCP: continued, or linked at an edge to strangers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

import grpc.aio
import pytest
from thrift.transport.TSocket import TSocket

import kitmsg_gateways.grpc
import kitmsg_gateways.mcp
import kitmsg_gateways.thrift
from kitmsg import Service, current, endpoint
from tests.gateways.mcp.conftest import Outside
from tests.gateways.thrift.test_auth import Speaker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg import Kit
    from tests.tracing.conftest import Spans

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "baggage": "a=1"}
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


async def by_grpc(kit: Kit, public: bool) -> None:
    options = kitmsg_gateways.grpc.GatewayOptions(
        port=0, drain_timeout=0.5, public=public
    )
    server = await kitmsg_gateways.grpc.serve(kit, options)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            path = next(p for p in server.table.methods if p.endswith("/Seen"))
            await channel.unary_unary(path)(b"", metadata=tuple(SENT.items()))
    finally:
        await server.stop()


async def by_thrift(kit: Kit, public: bool) -> None:
    options = kitmsg_gateways.thrift.GatewayOptions(
        port=0, drain_timeout=0.5, public=public
    )
    server = await kitmsg_gateways.thrift.serve(kit, options)
    try:
        speaker = await asyncio.to_thread(
            Speaker, TSocket("127.0.0.1", server.port), "binary"
        )
        await asyncio.to_thread(speaker.call, "seen", SENT)
        speaker.close()
    finally:
        await server.stop()


async def by_mcp(kit: Kit, public: bool) -> None:
    options = kitmsg_gateways.mcp.GatewayOptions(
        port=0, drain_timeout=0.5, public=public, allowed_hosts=("*",)
    )
    server = await kitmsg_gateways.mcp.serve(kit, options)
    try:
        outside = Outside(server)  # the library's client would send a trace of its own
        opened = await outside.post()
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        answer = await outside.post(CALL, **session, **SENT)
        assert answer.status_code == 200
    finally:
        await server.stop()


Door: TypeAlias = "Callable[[Kit, bool], Awaitable[None]]"
DOORS = pytest.mark.parametrize("door", [by_grpc, by_thrift, by_mcp])


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
