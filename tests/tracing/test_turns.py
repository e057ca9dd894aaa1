"""Turns that are ids and times until somebody looks: what looks sees a span like any other."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context as otel_context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)
from opentelemetry.sdk.resources import Resource

from kitmsg import Service, endpoint
from kitmsg.errors import Code
from kitmsg.message import Message
from kitmsg.tracing.exporters import readable
from kitmsg.tracing.operations import RecordedOperation, RecordingTracer
from kitmsg.tracing.otlp import packed, request_bytes
from kitmsg.tracing.sampling import Draws, Sampling
from kitmsg.tracing.spans import SPAN
from kitmsg.tracing.turns import OffTurn, Turn, TurnContext
from kitmsg.wire import plain_headers, traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg import Kit
    from tests.tracing.conftest import Spans

_TRACE, _ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
_ATTRIBUTES = {"rpc.system.name": "kitmsg", "rpc.method": "shop.buy"}


class Ended(list[Any]):
    """Operations, and the spans of theirs that have ended."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__()
        sampling = Sampling(round(share * 2**64))
        tracer = RecordingTracer(sampling, self.append, lambda _: True)
        self.server: RecordedOperation = tracer.server("shop.buy", _ATTRIBUTES)
        self.client: RecordedOperation = tracer.client("shop.pay", _ATTRIBUTES)

    def receive(self, ids: str = f"{_TRACE}-{_ID}-01", more: bytes = b"") -> Any:
        """Begin the turn of a request that brings these ids."""
        line = more + f"traceparent: 00-{ids}\r\n\r\n".encode()
        block = traced(plain_headers(5000), line)
        message = Message("shop.buy", b"{}", "reply", block, is_plain=True)
        return self.server.receive(message, 0.25)


@pytest.fixture
def ended() -> Any:
    token = otel_context.attach(Context())
    yield Ended()
    otel_context.detach(token)


@pytest.mark.parametrize(
    "read",
    [
        lambda c: c.get(SPAN),
        lambda c: c[SPAN],
        lambda c: dict(c)[SPAN],
        lambda c: {**c}[SPAN],
        lambda c: Context(c)[SPAN],
        lambda c: c.copy()[SPAN],
        lambda c: next(iter(c.values())),
        lambda c: next(span for key, span in c.items() if key == SPAN),
        lambda c: otel_context.set_value("key", 1, c)[SPAN],
        trace.get_current_span,
        lambda _: trace.get_current_span(),
    ],
)
@pytest.mark.parametrize("flags", ["00", "01"])
def test_whatever_reads_the_context_finds_the_span(
    ended: Ended, read: Callable[[Any], Any], flags: str
) -> None:
    """However it reads, and whether the trace is kept or not."""
    ended.receive(f"{_TRACE}-{_ID}-{flags}")
    context = otel_context.get_current()
    assert isinstance(context, TurnContext)
    found = read(context)
    assert isinstance(found, trace.Span)
    assert f"{found.get_span_context().trace_id:032x}" == _TRACE
    assert found.get_span_context().trace_flags == int(flags)
    assert found is trace.get_current_span()


@pytest.mark.parametrize(
    "read",
    [
        lambda c: SPAN in c,
        lambda c: list(c) == [SPAN],
        lambda c: list(c.keys()) == [SPAN],
    ],
)
def test_the_context_has_one_key(ended: Ended, read: Callable[[Any], bool]) -> None:
    """Its span's; and it is equal to one that OpenTelemetry makes."""
    ended.receive()
    context = otel_context.get_current()
    assert len(context) == 1
    assert read(context)
    assert context == trace.set_span_in_context(trace.get_current_span(), Context())


def test_what_users_write_is_exported(ended: Ended) -> None:
    """Attributes, events and a name, with what the turn knew already."""
    turn = ended.receive()
    span: Any = trace.get_current_span()
    span.set_attribute("item", "hat")
    span.add_event("found")
    span.update_name("other")
    turn.finish()
    found: Any = ended[0]
    assert found is span
    assert (found.name, found.attributes) == ("other", {"item": "hat"})
    assert [name for _, name, _ in found.events] == ["found"]
    assert (found.wait, found.parent, found.code) == (0.25, _ID.encode(), "OK")


def test_a_turn_ends_once(ended: Ended) -> None:
    """Who looks afterwards sees a span that has ended."""
    turn = ended.receive()
    turn.finish()
    turn.finish(Code.INTERNAL, "late")
    span: Any = trace.get_current_span()
    assert not span.is_recording()
    span.set_attribute("late", 1)
    span.end()
    assert ended == [turn]
    assert (span.code, span.attributes) == ("OK", None)


def test_an_error_makes_a_span_of_the_turn(ended: Ended) -> None:
    """With its code, its text and the turn's times."""
    turn = ended.receive()
    turn.happened("exception", {"exception.type": "ValueError"})
    turn.finish(Code.INTERNAL, "broke")
    found: Any = ended[0]
    assert (found.code, found.failure, found.start) == ("INTERNAL", "broke", turn.start)


def test_threads_see_one_span(ended: Ended) -> None:
    """A thread of the turn looks while its time runs out."""
    turn = ended.receive()
    start = threading.Barrier(8)
    seen: list[Any] = []

    def look() -> None:
        start.wait(10)
        seen.append(turn.span())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, seen))) == 1


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("is_seen", [False, True])
def test_calls_of_a_turn_are_below_it(ended: Ended, flags: str, is_seen: bool) -> None:
    """Whether somebody looked at its span or not; where it is not kept, they are not."""
    turn = ended.receive(f"{_TRACE}-{_ID}-{flags}")
    if is_seen:
        trace.get_current_span()
    begun = ended.client.brief()
    if flags == "00":
        assert begun == f"traceparent: 00-{_TRACE}-{_ID}-00\r\n\r\n".encode()
        assert ended.client.unsampled() == begun
    else:
        assert isinstance(begun, tuple)
        line, brief = begun
        assert (brief.trace, brief.parent) == (_TRACE, turn.ids()[1])
        assert line.decode().split("-")[1:3] == [_TRACE, brief.own.hex()]
        assert ended.client.unsampled() == b""


@pytest.mark.parametrize(
    "ids",
    [
        f"{_TRACE[:-1]}-{_ID}0-01",
        f"{_TRACE}-{_ID[:-1]}x-01",
        f"{_TRACE}{_ID}--01",
        f"{_TRACE}-{_ID}-ff",
    ],
)
def test_ids_that_are_none_begin_a_trace(ended: Ended, ids: str) -> None:
    """And harm no export."""
    turn = ended.receive(ids)
    turn.finish()
    assert not isinstance(turn, Turn | OffTurn)
    assert request_bytes({}, ended)


def test_baggage_is_kept_with_the_turn(ended: Ended) -> None:
    """A request with more than a trace has all of it in its context."""
    turn = ended.receive(more=b"baggage: a=b\r\n")
    assert not isinstance(turn, Turn)
    assert len(otel_context.get_current()) == 2


def test_otlp_bytes_are_what_opentelemetry_writes(ended: Ended) -> None:
    """Of a call, of a call in a turn, and of a turn; its own exporters see the same."""
    begun = ended.client.brief()
    assert isinstance(begun, tuple)
    ended.client.end(begun[1])
    turn = ended.receive()
    begun = ended.client.brief()
    assert isinstance(begun, tuple)
    ended.client.end(begun[1])
    turn.finish()
    resource = Resource({"service.name": "x"})
    ours = ExportTraceServiceRequest.FromString(
        request_bytes(dict(resource.attributes), ended)
    )
    theirs = encode_spans([readable(span.span(), resource) for span in ended])
    for one, other in zip(
        ours.resource_spans[0].scope_spans[0].spans,
        theirs.resource_spans[0].scope_spans[0].spans,
        strict=True,
    ):
        for each in (one, other):
            each.ClearField("flags")
            each.ClearField("status")
            each.attributes.sort(key=lambda pair: pair.key)
        assert one == other


def test_spans_wait_as_the_bytes_they_leave_in(ended: Ended) -> None:
    """One object each, where nothing is told of them but that they went well."""
    begun = ended.client.brief()
    assert isinstance(begun, tuple)
    ended.client.end(begun[1])
    ended.receive().finish()
    ended.receive(more=b"baggage: a=b\r\n").finish()
    waiting = [packed(span) for span in ended]
    assert [isinstance(one, bytes) for one in waiting] == [True, True, False]
    assert request_bytes({}, waiting) == request_bytes({}, ended)


def test_traces_are_drawn_by_their_share() -> None:
    """Those under the bound are kept; the ids of all differ."""
    bound = 1 << 62
    draws = Draws(Sampling(bound))
    lines = []
    for _ in range(2000):
        draw = draws.next()
        line = draw if isinstance(draw, bytes) else draw[0]
        version, id_, own, flags = line.decode().strip().split(": ")[1].split("-")
        assert (version, len(id_), len(own)) == ("00", 32, 16)
        assert (int(id_[16:], 16) < bound) == (flags == "01")
        if not isinstance(draw, bytes):
            assert draw[1:] == (bytes.fromhex(id_), bytes.fromhex(own))
        lines.append(line)
    assert len(set(lines)) == 2000
    assert 300 < sum(line.endswith(b"-01\r\n\r\n") for line in lines) < 700


@pytest.mark.parametrize(("bound", "kept"), [(0, 0), (1 << 64, 500)])
def test_none_or_all_are_kept(bound: int, kept: int) -> None:
    """Without an exception at either end."""
    draws = Draws(Sampling(bound))
    assert sum(isinstance(draws.next(), tuple) for _ in range(500)) == kept


def test_a_trace_is_drawn_once_though_nobody_took_it() -> None:
    """A call that has to begin another way begins that trace: shares stay what they are."""
    ended = Ended(share=0.5)
    token = otel_context.attach(Context())
    try:
        kept = 0
        for _ in range(2000):
            if not ended.client.unsampled():
                assert ended.client.begin().is_live
                kept += 1
    finally:
        otel_context.detach(token)
    assert 850 < kept < 1150


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="needs fork")
def test_a_forked_process_draws_other_traces() -> None:
    """Two that were forked would share the traces that were drawn before."""
    code = """if True:
        import os
        from kitmsg.tracing.sampling import Draws, Sampling
        draws = Draws(Sampling())
        draws.next()
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, draws.next()[1])
            os._exit(0)
        assert os.read(read, 16) != draws.next()[1]
        """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_runtime_context_of_the_programs_is_used() -> None:
    """``OTEL_PYTHON_CONTEXT`` names one; then its variable is none of ours to write."""
    code = """if True:
        from opentelemetry import context
        class Other(type(context._RUNTIME_CONTEXT)):
            pass
        context._RUNTIME_CONTEXT = Other()
        from kitmsg.tracing import active
        assert active.current is context.get_current
        assert active.attach is context.attach
        """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Shop(Service):
    """Looks at its span, or does not."""

    @endpoint
    async def look(self) -> str:
        """Return the id of the span of this turn."""
        return f"{trace.get_current_span().get_span_context().span_id:016x}"


async def test_a_turn_sees_the_span_that_is_exported(kit: Kit, spans: Spans) -> None:
    """Under the id that it saw."""
    await kit.serve(Shop())
    seen = await kit.client(Shop).look()
    assert f"{spans.one('shop.look', 'server').context.span_id:016x}" == seen
