"""Calls that begin a trace which is not kept: they say so, and tell no ids."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context as otel_context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import kitmsg
from kitmsg import Kit, Service, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.codec import JSON
from kitmsg.context import Context as CallContext
from kitmsg.logs.turn import turn_facts
from kitmsg.message import Message
from kitmsg.tracing.operations import RecordingTracer
from kitmsg.tracing.propagation import extract, span_context_of
from kitmsg.tracing.sampling import Draws, Sampling, ids_of
from kitmsg.tracing.setup import set_up
from kitmsg.tracing.turns import OffTurn
from kitmsg.transport.caller import Caller
from kitmsg.wire import UNKEPT, plain_headers, shared_fields, timeout_ms, traced
from tests.tracing.conftest import Spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus

_BLOCK = traced(plain_headers(5000), UNKEPT)
_ATTRIBUTES = {"rpc.system.name": "kitmsg", "rpc.method": "shop.buy"}


class Inner(Service):
    """Tells its trace."""

    @endpoint
    async def go(self) -> list[str]:
        return [turn_facts()["trace_id"]]


class Outer(Service):
    """Tells its trace, and that of a service it calls."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @endpoint
    async def go(self) -> list[str]:
        seen = [turn_facts()["trace_id"], *await self.inner.go()]
        return [*seen, turn_facts()["trace_id"]]


@pytest.fixture
def unkept(own_process: None, monkeypatch: pytest.MonkeyPatch) -> Spans:
    """Spans of a process that keeps no trace that it begins."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    spans = Spans()
    set_up(exporter=spans.exporter)
    return spans


async def _heard(bus: Bus, **options: Any) -> bytes:
    """Return the headers of a call, as they come."""
    heard: list[Message] = []

    def answer(message: Message) -> None:
        heard.append(message)
        bus.publish(message.reply, b"{}")

    bus.subscribe("shop.buy", answer)
    await bus.flush()
    caller = Caller(bus, "shop.buy", **options)
    for _ in range(2):  # of a service that nobody called before, little is known
        await caller.ask(CallContext(codec=JSON), b"{}")
    return heard[1].header_block


async def test_a_call_says_that_its_trace_is_not_kept(kit: Kit, unkept: Spans) -> None:
    """In the same few bytes as all others."""
    assert await _heard(kit.bus) == _BLOCK
    assert not unkept.all()


async def test_a_service_of_others_gets_ids(kit: Kit, unkept: Spans) -> None:
    """W3C's header has no other way to say it."""
    block = await _heard(kit.bus, is_kit=False)
    assert block.startswith(plain_headers(5000)[:-2] + b"traceparent: 00-")
    assert block.endswith(b"-00\r\n\r\n")


async def test_all_that_it_leads_to_is_one_trace(kit: Kit, unkept: Spans) -> None:
    """Its id is made when somebody asks, and is the same for all from then on."""
    await kit.serve(Inner())
    await kit.serve(Outer(kit.client(Inner)))
    seen = [await kit.client(Outer).go() for _ in range(5)]
    assert all(len(set(ids)) == 1 for ids in seen)
    assert len({ids[0] for ids in seen}) == 5
    assert not unkept.all()


@pytest.mark.parametrize("propagators", ["", "b3", "tracecontext,baggage"])
@pytest.mark.parametrize("kind", ["pipeline", "sdk"])
async def test_a_process_that_keeps_all_keeps_none_of_it(
    kit: Kit,
    own_process: None,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    propagators: str,
) -> None:
    """Kitmsg's pipeline or a program's SDK, whatever headers it sends."""
    if propagators:
        monkeypatch.setenv("OTEL_PROPAGATORS", propagators)
    spans = Spans()
    if kind == "pipeline":
        set_up(exporter=spans.exporter)
    else:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans.exporter))
        trace.set_tracer_provider(provider)
    await kit.serve(Inner())
    reply = await kit.bus.request("inner.go", b"{}", 5.0, _BLOCK)
    assert b"Kit-Error" not in reply.header_block
    assert not spans.all()
    await kit.bus.request("inner.go", b"{}", 5.0, plain_headers(5000))
    assert len(spans.all()) == 1  # it does keep others


async def test_a_process_without_traces_passes_it_on(
    kit: Kit, own_process: None
) -> None:
    """As it does with ids."""
    heard: list[Message] = []

    def answer(message: Message) -> None:
        heard.append(message)
        kit.bus.publish(message.reply, b'["x"]')

    class Between(Service):
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        @endpoint
        async def go(self) -> list[str]:
            found: list[str] = await self.inner.go()
            return found

    kit.bus.subscribe("inner.go", answer)
    await kit.serve(Between(kit.client(Inner, codec=JSON)))
    await kit.bus.request("between.go", b"{}", 5.0, _BLOCK)
    assert heard[0].headers["b3"] == "0"


@pytest.mark.parametrize("name", ["b3", "x-b3-sampled"])
def test_a_denial_of_b3_is_kept_at_doors(name: str) -> None:
    """A caller that denies and gives no ids decides for all below it."""
    ended: list[Any] = []
    tracer = RecordingTracer(Sampling(), ended.append, lambda _: True)
    operation = tracer.server("shop.buy", _ATTRIBUTES)
    span = contextvars.copy_context().run(operation.accept, {name: "0"})
    span.finish()
    assert not span.is_live
    assert not ended
    assert span_context_of(extract({name: "0"})).is_valid


def test_a_strangers_denial_does_not_count() -> None:
    """At a public edge, where a new trace begins."""
    tracer = RecordingTracer(Sampling(), print, lambda _: True)
    operation = tracer.server("shop.buy", _ATTRIBUTES)
    span = contextvars.copy_context().run(operation.accept, {"b3": "0"}, is_public=True)
    assert span.is_live


def test_a_caller_that_goes_by_ids_tells_them() -> None:
    """A sampler that is not based on parents decides by the id at each process."""
    sampling = Sampling(0, follows_parent=False)
    operation = RecordingTracer(sampling, print, lambda _: True).client("a", {})
    line = contextvars.Context().run(operation.brief)
    assert isinstance(line, bytes)
    assert line.startswith(b"traceparent: 00-")


def _off_turn(share: float = 0.0) -> OffTurn:
    sampling = Sampling(round(share * 2**64))
    operation = RecordingTracer(sampling, print, lambda _: True).server("a", {})
    message = Message("a", b"", "reply", _BLOCK, is_plain=True)
    turn = contextvars.Context().run(operation.receive, message, 0.0)
    assert isinstance(turn, OffTurn)
    return turn


def test_threads_see_one_trace() -> None:
    """Several that look first at the same time."""
    turn, start = _off_turn(), threading.Barrier(8)
    seen: list[bytes] = []

    def look() -> None:
        start.wait(10)
        seen.append(turn.line())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_its_id_is_of_none_that_is_kept(share: float) -> None:
    """As long as the share leaves any: a process that goes by ids decides alike."""
    bound = round(share * 2**64) % 2**64
    for _ in range(100):
        trace_id, own = ids_of(_off_turn(share).line())
        assert len(trace_id) == 32
        assert len(own) == 16
        assert int(trace_id[16:], 16) >= bound


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_calls_are_kept_by_their_share(share: float) -> None:
    """Those that are kept have ids under the bound; all of them differ."""
    bound = round(share * 2**64)
    draws = Draws(Sampling(bound))
    found = [draws.mark() for _ in range(5000)]
    kept = [draw for draw in found if not isinstance(draw, bytes)]
    assert {draw for draw in found if isinstance(draw, bytes)} <= {UNKEPT}
    assert share * 5000 * 0.5 <= len(kept) <= share * 5000 * 1.5
    assert len({trace_id for _, trace_id, _ in kept}) == len(kept)
    for line, trace_id, own in kept:
        assert int.from_bytes(trace_id[8:]) < bound
        ids = f"{trace_id.hex()}-{own.hex()}"
        assert line == f"traceparent: 00-{ids}-01\r\n\r\n".encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda block: block,
        lambda block: block.replace(
            b"b3:", b"Kit-Principal: x.y\r\nb3:"
        ),  # as it is vouched for
    ],
)
def test_headers_stay_plain(change: Callable[[bytes], bytes]) -> None:
    """They need not be parsed."""
    message = Message("a", b"", "reply", change(_BLOCK))
    assert timeout_ms(message) == 5000
    assert message.is_plain
    assert shared_fields(_BLOCK) is None


def test_other_headers_of_a_caller_are_shared() -> None:
    """With a request id of its own, or without."""
    start = plain_headers(5000)[:-4] + b"\r\nKit-Caller: a.b"
    for own in (b"", b"\r\nKit-Request-Id: 17"):
        assert shared_fields(start + own + b"\r\n" + UNKEPT) == (
            5000,
            b"\r\nKit-Caller: a.b",
        )


async def test_lines_of_a_log_have_its_trace(
    kit: Kit, unkept: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """The same in all lines of a turn."""
    facts: list[dict[str, str]] = []

    class Talker(Service):
        @endpoint
        async def go(self) -> None:
            for _ in range(2):
                logging.getLogger("shop").info("hello")
                facts.append(turn_facts())

    await kit.serve(Talker())
    await kit.client(Talker).go()
    assert len({one["trace_id"] for one in facts}) == 1
    assert len({one["span_id"] for one in facts}) == 1


@pytest.mark.parametrize("seconds", [0.001, 5, 99_999, 999_999_999])
def test_a_request_without_a_trace_begins_one(seconds: float) -> None:
    """By the share of this process; one that is not kept has an id all the same."""
    share = 0.3
    ended: list[Any] = []
    tracer = RecordingTracer(Sampling(round(share * 2**64)), ended.append, bool)
    operation = tracer.server("shop.buy", _ATTRIBUTES)
    block = plain_headers(round(seconds * 1000))
    message = Message("shop.buy", b"", "reply", block, is_plain=True)
    turns = [
        contextvars.Context().run(operation.receive, message, 0.25) for _ in range(500)
    ]
    for turn in turns:
        turn.finish()
    kept = {span.trace for span in ended}
    assert len(kept) == len(ended) == sum(turn.is_live for turn in turns)
    assert 75 < len(kept) < 225
    assert all(span.wait == 0.25 and not span.parent for span in ended)


@pytest.mark.parametrize(
    "more", [b"b3: 0", b"baggage: a=b", b"tracestate: a=b", b"traceparent: 00-x"]
)
def test_short_headers_are_read_all_the_same(more: bytes) -> None:
    """Nothing that stands beside the time is taken for none."""
    tracer = RecordingTracer(Sampling(0), print, lambda _: True)
    operation = tracer.server("shop.buy", _ATTRIBUTES)
    block = plain_headers(1)[:-2] + more + b"\r\n\r\n"
    message = Message("shop.buy", b"", "reply", block, is_plain=True)

    def baggage() -> int:
        operation.receive(message, 0.0)
        return len(otel_context.get_current())

    assert contextvars.Context().run(baggage) == (2 if b"baggage" in more else 1)


async def test_a_sampler_that_goes_by_ids_keeps_times(
    own_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It decides itself; the wait in the mailbox is that of the request, each time."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    spans = Spans()
    set_up(exporter=spans.exporter)
    with EmbeddedServer() as server:
        async with kitmsg.connect(server.url) as kit:
            await kit.serve(Inner())
            for _ in range(4):  # of a caller that is known well, they take one step
                calls = (
                    kit.bus.request("inner.go", b"{}", 5.0, _BLOCK) for _ in range(8)
                )
                await asyncio.gather(*calls)
                await asyncio.sleep(0.06)
    waits = [span.events[0].attributes for span in spans.all()]
    assert len(waits) == 32
    assert all(next(iter(wait.values())) < 60 for wait in waits)
