"""Spans of calls on the bus: a client's and a turn's, and what is below them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
import uvloop
from opentelemetry import baggage, context as otel_context, trace
from opentelemetry.trace import StatusCode

import kitmsg
from kitmsg import Service, current, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import Internal, NotFound, ResourceExhausted, Unavailable
from kitmsg.message import Message, encode_headers
from kitmsg.middleware.breaker import breaker
from kitmsg.middleware.hedge import hedge
from kitmsg.middleware.ratelimit import rate_limit
from kitmsg.middleware.retry import retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg import Kit
    from tests.tracing.conftest import Spans


class Missing(Exception):
    """Nobody has it."""


class Stock(Service):
    """The second service."""

    def __init__(self) -> None:
        self.failures = 0
        self.slow = 0

    @endpoint
    async def count(self, item: str) -> int:
        if self.failures:
            self.failures -= 1
            raise Unavailable("try again").before("stock.count")
        with trace.get_tracer("shop").start_as_current_span("look"):
            return len(item)

    @endpoint(idempotent=True)
    async def find(self, item: str) -> int:
        self.slow -= 1
        if self.slow == 0:
            await asyncio.sleep(3600)
        return 1

    @endpoint(raises=[Missing])
    async def take(self, item: str) -> int:
        raise Missing(item)

    @endpoint
    async def lose(self, item: str) -> int:
        raise NotFound(f"no {item}")

    @endpoint
    async def crash(self, item: str) -> int:
        raise RuntimeError("secret")

    @endpoint
    async def watch(self, item: str) -> AsyncIterator[int]:
        for number in range(3):
            yield number


class Shop(Service):
    """The first service."""

    def __init__(self, kit: Kit) -> None:
        self.stock = kit.client(Stock)

    @endpoint
    async def buy(self, item: str) -> int:
        with trace.get_tracer("shop").start_as_current_span("price"):
            found = await asyncio.gather(
                self.stock.count(item=item), self.stock.count(item=item)
            )
        return sum(found)

    @endpoint
    def blocking(self, item: str) -> str:
        span = trace.get_current_span()
        with trace.get_tracer("shop").start_as_current_span("read"):
            return f"{span.get_span_context().span_id:016x}"


@pytest.fixture
async def shop(kit: Kit, spans: Spans) -> Shop:
    await kit.serve(Stock())
    await kit.serve(Shop(kit))
    return kit.client(Shop)


async def test_calls_turns_and_users_spans_are_one_tree(
    shop: Shop, spans: Spans
) -> None:
    """Also across tasks: both nested calls are below the span they were made in."""
    assert await shop.buy(item="hat") == 6
    assert spans.tree() == [
        "client shop.buy",
        "  server shop.buy",
        "    internal price",
        "      client stock.count",
        "        server stock.count",
        "          internal look",
        "      client stock.count",
        "        server stock.count",
        "          internal look",
    ]
    assert len({s.context.trace_id for s in spans.all() if s.context}) == 1


async def test_spans_have_the_conventions_attributes(shop: Shop, spans: Spans) -> None:
    """Of RPC, and the subject; and the wait in the mailbox is an event of the turn."""
    await shop.buy(item="hat")
    client, server = spans.one("shop.buy", "client"), spans.one("shop.buy", "server")
    for span in (client, server):
        assert dict(span.attributes or {}) == {
            "rpc.system.name": "kitmsg",
            "rpc.method": "shop.buy",
            "rpc.response.status_code": "OK",
            "messaging.system": "nats",
            "messaging.destination.name": "shop.buy",
        }
    (wait,) = server.events
    assert wait.name == "mailbox.wait"
    assert (wait.attributes or {})["kitmsg.mailbox.wait_seconds"] >= 0
    assert client.start_time <= server.start_time <= server.end_time
    scope = server.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.schema_url[-6:]) == ("kitmsg", "1.43.0")


@pytest.mark.parametrize("more", [{}, {"tracestate": "a=b"}])
def test_no_turn_begins_before_its_request_came(
    spans: Spans, more: dict[str, str]
) -> None:
    """Nor does its wait go on after it; though uvloop's clock ticks in milliseconds."""
    came: dict[int, int] = {}

    async def many() -> None:
        bus = MemoryBus(seed=1)
        kit = kitmsg.Kit(bus)
        host = await kit.serve(Stock())
        for number in range(1, 500):
            trace = f"00-{1:032x}-{number:016x}-01"
            block = encode_headers({"traceparent": trace, **more})
            came[number] = time.time_ns()
            request = Message("stock.count", b'["hat"]', "", block)
            host.intake.servers["stock.count"].receive(request)
            await asyncio.sleep(0)
        await kit.close()
        await bus.close()

    uvloop.run(many())
    turns = spans.named("stock.count", "server")
    assert len(turns) == len(came)
    for turn in turns:
        assert turn.start_time >= came[turn.parent.span_id]
        wait = turn.events[0].attributes["kitmsg.mailbox.wait_seconds"]
        assert turn.start_time + int(wait * 1e9) <= turn.end_time


async def test_a_thread_has_the_span_of_its_turn(shop: Shop, spans: Spans) -> None:
    """A plain `def` endpoint runs in one."""
    seen = await shop.blocking(item="hat")
    server, read = spans.one("shop.blocking", "server"), spans.one("read")
    assert server.context is not None
    assert f"{server.context.span_id:016x}" == seen
    assert read.parent is not None
    assert read.parent.span_id == server.context.span_id


async def test_business_errors_are_no_span_errors(kit: Kit, spans: Spans) -> None:
    """A declared error, or a code that is an answer; the status says which."""
    await kit.serve(Stock())
    stock = kit.client(Stock)
    with pytest.raises(Missing):
        await stock.take(item="hat")
    with pytest.raises(NotFound):
        await stock.lose(item="hat")
    for span in spans.all():
        assert span.status.status_code is StatusCode.UNSET
        assert "error.type" not in (span.attributes or {})
    lost = spans.one("stock.lose", "server").attributes or {}
    assert lost["rpc.response.status_code"] == "NOT_FOUND"


async def test_a_failure_is_an_error_of_both_spans(kit: Kit, spans: Spans) -> None:
    """With the exception as an event of the turn, and of no more than that."""
    await kit.serve(Stock())
    with pytest.raises(Internal):
        await kit.client(Stock).crash(item="hat")
    client, server = (
        spans.one("stock.crash", "client"),
        spans.one("stock.crash", "server"),
    )
    for span in (client, server):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "INTERNAL"
    event = next(each for each in server.events if each.name == "exception")
    assert (event.attributes or {})["exception.type"] == "RuntimeError"
    assert "secret" not in (client.status.description or "")


async def test_retries_are_events_of_one_client_span(kit: Kit, spans: Spans) -> None:
    """Each attempt's turn is its child."""
    stock = Stock()
    await kit.serve(stock)
    stock.failures = 2
    client = kit.client(Stock, middleware=[retry(3, base=0.001)])
    assert await client.count(item="hat") == 3
    assert spans.tree() == [
        "client stock.count",
        "  server stock.count",
        "  server stock.count",
        "  server stock.count",
        "    internal look",
    ]
    events = spans.one("stock.count", "client").events
    assert [(e.name, (e.attributes or {}).get("attempt")) for e in events] == [
        ("retry", 2),
        ("retry", 3),
    ]


async def test_refusals_of_a_breaker_and_a_limit_are_events(
    kit: Kit, spans: Spans
) -> None:
    """Of the client span, which has no turn below it; the event says by what."""
    stock = Stock()
    await kit.serve(stock)
    stock.failures = 1
    guarded = kit.client(Stock, middleware=[breaker(failures=1)])
    for _ in range(2):
        with pytest.raises(Unavailable):
            await guarded.count(item="hat")
    limited = kit.client(Stock, middleware=[rate_limit(1.0, burst=1)])
    assert await limited.count(item="hat") == 3
    with pytest.raises(ResourceExhausted):
        await limited.count(item="hat")
    refused = [
        (event.attributes or {}).get("by")
        for span in spans.named("stock.count")
        for event in span.events
        if event.name == "refused" and span.kind is trace.SpanKind.CLIENT
    ]
    assert refused == ["breaker", "rate_limit"]
    turns = [s for s in spans.named("stock.count") if s.kind is trace.SpanKind.SERVER]
    assert len(turns) == 2


async def test_a_hedge_is_an_event_of_one_client_span(kit: Kit, spans: Spans) -> None:
    """The turn that lost is cancelled, and ends all the same."""
    stock = Stock()
    await kit.serve(stock)
    client = kit.client(Stock, middleware=[hedge(0.9, budget=1.0)])
    for _ in range(30):
        await client.find(item="hat")
    spans.clear()
    stock.slow = 1
    assert await client.find(item="hat") == 1
    await asyncio.sleep(0.1)
    assert spans.tree() == [
        "client stock.find",
        "  server stock.find",
        "  server stock.find",
    ]
    assert "hedge" in [e.name for e in spans.one("stock.find", "client").events]
    codes = {(s.attributes or {})["rpc.response.status_code"] for s in spans.all()}
    assert codes == {"OK", "CANCELLED"}


async def test_a_stream_is_one_span_from_its_opening_to_its_end(
    kit: Kit, spans: Spans
) -> None:
    """With events for both, and the number of items."""
    await kit.serve(Stock())
    assert [n async for n in kit.client(Stock).watch(item="hat")] == [0, 1, 2]
    await asyncio.sleep(0.1)
    assert spans.tree() == ["client stock.watch", "  server stock.watch"]
    for span in spans.all():
        names = [each.name for each in span.events if each.name != "mailbox.wait"]
        assert names == ["stream.begin", "stream.end"]
        assert (span.events[-1].attributes or {})["kitmsg.stream.items"] == 3


async def test_a_trace_set_by_hand_is_the_parent(kit: Kit, spans: Spans) -> None:
    """Metadata of a client that runs outside of any span; it goes out once."""
    seen: list[list[str]] = []

    class Probe(Service):
        @endpoint
        async def look(self) -> None:
            message = current().message
            assert message is not None
            seen.append(message.headers.all("traceparent"))

    await kit.serve(Probe())
    given = f"00-{'ab' * 16}-{'cd' * 8}-01"
    await kit.client(Probe, metadata={"traceparent": given}).look()
    ((one,),) = seen
    assert one.split("-")[1] == "ab" * 16
    client = spans.one("probe.look", "client")
    assert client.parent is not None
    assert f"{client.parent.span_id:016x}" == "cd" * 8


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
@pytest.mark.parametrize("more", ["", "Baggage: a=1\r\n", "X-Own: x\r\n"])
@pytest.mark.parametrize("is_first", [False, True])
async def test_a_trace_is_read_however_a_caller_writes_it(
    kit: Kit, spans: Spans, name: str, more: str, is_first: bool
) -> None:
    """Clients in other languages spell and order headers as they like."""
    bags: list[object] = []

    class Probe(Service):
        @endpoint
        async def look(self) -> None:
            bags.append(baggage.get_baggage("a"))

    await kit.serve(Probe())
    given = f"{name}: 00-{'ab' * 16}-{'cd' * 8}-01\r\n"
    fields = given + more if is_first else more + given
    block = f"NATS/1.0\r\nKit-Timeout: 5000\r\n{fields}\r\n".encode()
    for _ in range(3):  # headers that were seen before are taken another way
        await kit.bus.request("probe.look", b"{}", 5.0, block)
    found = spans.named("probe.look", "server")
    assert {f"{span.context.trace_id:032x}" for span in found} == {"ab" * 16}
    assert {f"{span.parent.span_id:016x}" for span in found} == {"cd" * 8}
    assert bags == ["1" if "Baggage" in more else None] * 3


async def test_state_and_baggage_of_a_caller_reach_nested_calls(
    kit: Kit, spans: Spans
) -> None:
    """And what a handler adds to them does."""

    class Deep(Service):
        @endpoint
        async def look(self) -> dict[str, str]:
            message = current().message
            assert message is not None
            names = ("tracestate", "baggage")
            return {name: message.headers.get(name, "") for name in names}

    class Wide(Service):
        @endpoint
        async def go(self) -> dict[str, str]:
            otel_context.attach(baggage.set_baggage("b", "2"))
            return await kit.client(Deep).look()

    await kit.serve(Deep())
    await kit.serve(Wide())
    metadata = {
        "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01",
        "tracestate": "vendor=x",
        "baggage": "a=1",
    }
    found = await kit.client(Wide, metadata=metadata).go()
    assert found == {"tracestate": "vendor=x", "baggage": "a=1,b=2"}


async def test_a_service_may_turn_traces_off(kit: Kit, spans: Spans) -> None:
    """Then its turns are in none, and calls that it makes begin new ones."""

    class Quiet(Service):
        off = ("trace",)

        @endpoint
        async def go(self) -> int:
            return await kit.client(Stock).count(item="hat")

    await kit.serve(Stock())
    await kit.serve(Quiet())
    await kit.client(Quiet).go()
    assert spans.tree() == [
        "client quiet.go",
        "client stock.count",
        "  server stock.count",
        "    internal look",
    ]


async def test_a_new_name_is_one_spans_alone(kit: Kit, spans: Spans) -> None:
    """Go kit wrote it into what all requests share."""

    class Names(Service):
        @endpoint
        async def go(self, name: str) -> None:
            await asyncio.sleep(0)
            if name:
                trace.get_current_span().update_name(name)

    await kit.serve(Names())
    client = kit.client(Names)
    await asyncio.gather(client.go(name="a"), client.go(name=""), client.go(name="b"))
    names = sorted(s.name for s in spans.all() if s.kind is trace.SpanKind.SERVER)
    assert names == ["a", "b", "names.go"]


async def test_every_span_that_begins_ends(kit: Kit, spans: Spans) -> None:
    """Go kit made a child of a span that nothing ended; here every parent is exported."""
    await kit.serve(Stock())
    await kit.serve(Shop(kit))
    shop = kit.client(Shop)
    await shop.buy(item="hat")
    with pytest.raises(kitmsg.errors.NotFound):
        await kit.client(Stock).lose(item="x")
    found = spans.all()
    ids = {span.context.span_id for span in found if span.context}
    assert {s.parent.span_id for s in found if s.parent} <= ids


async def test_a_turn_that_runs_out_of_time_ends_its_span(
    kit: Kit, spans: Spans
) -> None:
    """So does the call, with the same code."""

    class Slow(Service):
        @endpoint
        async def go(self) -> None:
            await asyncio.sleep(3600)

    await kit.serve(Slow())
    with pytest.raises(kitmsg.errors.DeadlineExceeded):
        await kit.client(Slow, timeout=0.2).go()
    await asyncio.sleep(0.2)
    codes = [(s.attributes or {})["rpc.response.status_code"] for s in spans.all()]
    assert codes == ["DEADLINE_EXCEEDED"] * 2
