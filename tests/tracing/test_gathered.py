"""``kitmsg call --trace``: spans of a call come back in its reply, where that is allowed."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
from opentelemetry import context, trace

import kitmsg_gateways.http
from kitmsg import Service, current, endpoint, tracing
from kitmsg.cli.tree import tree_lines
from kitmsg.errors import NotFound
from kitmsg.tracing.gathered import (
    BAG,
    MAX_BYTES,
    MAX_SPANS,
    Bag,
    Gathered,
    decode_spans,
)
from kitmsg.tracing.setup import set_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg import Kit


class Stock(Service):
    """Is called by the other."""

    @endpoint
    async def count(self, item: str) -> int:
        with trace.get_tracer("x").start_as_current_span("look"):
            await asyncio.sleep(0)
        if item == "none":
            raise NotFound("no such item")
        return len(item)

    @endpoint
    async def watch(self) -> AsyncIterator[int]:
        yield 1


class Shop(Service):
    """Calls the other, often."""

    def __init__(self, kit: Kit) -> None:
        self.stock = kit.client(Stock)

    @endpoint(http="GET /buy/{item}")
    async def buy(self, item: str, times: int = 1) -> int:
        return sum([await self.stock.count(item=item) for _ in range(times)])

    @endpoint(http="GET /seen")
    async def seen(self) -> list[str]:
        message = current().message
        assert message is not None
        return [n for n, _ in message.headers.pairs() if "trace" in n.lower()]


@pytest.fixture
async def shop(kit: Kit, own_process: None) -> Shop:
    set_up(service="tests", gathers=True)
    await kit.serve(Stock())
    await kit.serve(Shop(kit))
    return kit.client(Shop)


async def gather(call: Any) -> list[Gathered]:
    """Return the spans of a call, as ``kitmsg call --trace`` does."""
    bag = Bag()
    token = context.attach(context.set_value(BAG, bag))
    try:
        await call
    finally:
        context.detach(token)
    return bag.spans()


def _shape(spans: list[Gathered]) -> list[str]:
    """Return the lines of a tree without times."""
    return [line[24:] for line in tree_lines(spans) if "·" not in line]


async def test_the_spans_of_a_call_come_back(shop: Shop) -> None:
    """From nested calls too, and the user's own; none of them sampled or exported."""
    assert _shape(await gather(shop.buy(item="hat"))) == [
        "client shop.buy (tests)",
        "└─ server shop.buy (tests)",
        "   └─ client stock.count (tests)",
        "      └─ server stock.count (tests)",
        "         └─ internal look (tests)",
    ]


async def test_an_error_brings_its_spans(shop: Shop) -> None:
    """With the status where it came from."""

    async def fails() -> None:
        with pytest.raises(NotFound):
            await shop.buy(item="none")

    lines = _shape(await gather(fails()))
    assert len(lines) == 5
    assert all("NOT_FOUND" in line for line in lines[:4])


async def test_calls_that_do_not_ask_bring_none(shop: Shop, kit: Kit) -> None:
    """And nothing is recorded for them."""
    seen: list[bytes] = []
    client = kit.client(Shop, after=[lambda _, reply: seen.append(reply.header_block)])
    await client.buy(item="hat")
    assert b"Kit-Spans" not in seen[0]


async def test_a_stream_brings_its_spans(shop: Shop, kit: Kit) -> None:
    """At its end."""

    async def read() -> None:
        assert [n async for n in kit.client(Stock).watch()] == [1]
        await asyncio.sleep(0.1)

    assert _shape(await gather(read())) == [
        "client stock.watch (tests)",
        "└─ server stock.watch (tests)",
    ]


async def test_what_comes_back_is_bounded(shop: Shop) -> None:
    """However many calls a call makes."""
    spans = await gather(shop.buy(item="hat", times=300))
    assert 20 < len(spans) <= MAX_SPANS
    packed = base64.b64encode(msgspec.json.encode(spans[:-1]))
    assert len(packed) <= MAX_BYTES


async def test_a_worker_that_does_not_allow_it_tells_nothing(
    kit: Kit, own_process: None
) -> None:
    """As any worker but that of ``kitmsg dev``."""
    from tests.tracing.conftest import Spans, forget_provider

    set_up(service="tests", exporter=Spans().exporter)
    await kit.serve(Stock())
    await kit.serve(Shop(kit))
    tracing.use(None)
    forget_provider()
    set_up(service="tests", gathers=True)
    spans = await gather(kit.client(Shop).buy(item="hat"))
    assert [span.kind for span in spans] == ["client"]


async def test_strangers_cannot_ask_through_a_door(shop: Shop, kit: Kit) -> None:
    """The header does not pass, and what comes back does not get out."""
    options = kitmsg_gateways.http.GatewayOptions(port=0, drain_timeout=0.5)
    server = await kitmsg_gateways.http.serve(kit, options)
    try:
        async with (
            aiohttp.ClientSession(server.url) as session,
            session.get("/seen", headers={"Kit-Trace": "1"}) as response,
        ):
            assert await response.json() == ["traceparent"]
            assert "Kit-Spans" not in response.headers
    finally:
        await server.stop()


@pytest.mark.parametrize("text", ["", "!", "AAAA", base64.b64encode(b"[1]").decode()])
def test_a_header_that_is_none_is_no_spans(text: str) -> None:
    """A peer may send anything."""
    assert decode_spans(text) == []


def test_a_tree_shows_events_and_what_a_peer_wrote_does_not_move_the_terminal() -> None:
    """A parent that is not there makes a root; one's own parent does too."""
    spans = [
        Gathered(
            id="a",
            name="one\x1b[2J",
            kind="client",
            start=0,
            stop=2_000_000,
            parent="x",
        ),
        Gathered(
            id="b",
            name="two",
            kind="server",
            start=1_000_000,
            stop=1_500_000,
            parent="a",
            events=[(1_250_000, "retry", {"attempt": 2})],
            failure="broke",
            attributes={"rpc.response.status_code": "INTERNAL"},
        ),
        Gathered(
            id="c",
            name="self",
            kind="server",
            start=3_000_000,
            stop=3_000_000,
            parent="c",
        ),
    ]
    assert tree_lines(spans) == [
        "     0.00      2.00 ms  client one [2J",
        "     1.00      0.50 ms  └─ server two INTERNAL broke",
        "     1.25                  · retry attempt=2",
        "     3.00      0.00 ms  server self",
    ]
