"""A line written inside a turn carries the ids of the turn, wherever in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import logging.handlers
import queue
from collections.abc import AsyncIterator  # noqa: TC003  # read by `endpoint`
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

from kitmsg import Service, endpoint
from kitmsg.logs import JsonFormatter, TurnFilter
from kitmsg.logs.structured import add_turn, use_structlog
from kitmsg.wire import TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.service import Kit

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
FACTS = {
    "service": "desk",
    "endpoint": "desk.relayed",
    "caller": "desk.call",
    "trace_id": TRACE,
    "span_id": SPAN,
}

log = logging.getLogger("tests.turn")


class Desk(Service):
    """Logs from everywhere in a turn."""

    @endpoint
    async def call(self, name: str) -> None:
        """Call another endpoint."""
        kit: Kit = self.kit
        client: Any = kit.client(Desk)
        if name == "stream":
            async for _ in client.streamed():
                pass
            return
        await getattr(client, name)()

    kit: Any = None

    @endpoint
    async def relayed(self) -> None:
        """Log in the turn itself."""
        log.info("here")

    @endpoint
    def blocking(self) -> None:
        """Log in a thread."""
        log.info("here")

    @endpoint
    async def tasks(self) -> None:
        """Log in a task of the turn."""

        async def work() -> None:
            log.info("here")

        await asyncio.create_task(work())

    @endpoint
    async def streamed(self) -> AsyncIterator[int]:
        """Log between items."""
        yield 1
        log.info("here")
        yield 2

    @endpoint
    async def structured(self) -> None:
        """Log by structlog."""
        structlog.get_logger("tests.turn").info("here", order="A1", name="Ann")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Lines of this module's logger, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield stream
    log.removeHandler(handler)


async def _called(kit: Kit, name: str) -> None:
    desk = Desk()
    desk.kit = kit
    await kit.serve(desk)
    client = kit.client(Desk, metadata={TRACEPARENT: f"00-{TRACE}-{SPAN}-01"})
    await client.call(name)


@pytest.mark.parametrize("name", ["relayed", "blocking", "tasks", "streamed"])
async def test_a_line_has_the_ids_of_its_turn(
    kit: Kit, written: io.StringIO, name: str
) -> None:
    """In the turn, in a thread of a def endpoint, in a task, in a stream."""
    await _called(kit, "stream" if name == "streamed" else name)
    event = json.loads(written.getvalue())
    assert event["request_id"]
    wanted = {**FACTS, "endpoint": f"desk.{name}"}
    assert {key: event[key] for key in FACTS} == wanted


async def test_structlog_has_them_too(kit: Kit, written: io.StringIO) -> None:
    """Its fields stand beside, also those whose names logging keeps for itself."""
    use_structlog()
    try:
        await _called(kit, "structured")
    finally:
        structlog.reset_defaults()
    event = json.loads(written.getvalue())
    wanted = {**FACTS, "endpoint": "desk.structured"}
    assert {key: event[key] for key in FACTS} == wanted
    assert (event["msg"], event["order"], event["name_"]) == ("here", "A1", "Ann")


async def test_a_processor_fits_any_configuration_of_structlog(kit: Kit) -> None:
    """What a program has configured itself is left alone."""
    got: list[Any] = []

    def keep(logger: Any, method: str, event: Any) -> str:
        got.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[add_turn, keep])
    try:
        await _called(kit, "structured")
    finally:
        structlog.reset_defaults()
    assert got[0]["trace_id"] == TRACE
    assert got[0]["order"] == "A1"


async def test_handlers_of_ones_own_have_them_by_a_filter(kit: Kit) -> None:
    """Also behind a queue, whose other end is outside the turn; "" outside any."""
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(TurnFilter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        await _called(kit, "relayed")
        log.info("outside")
    finally:
        log.removeHandler(handler)
    inside, outside = records.get_nowait(), records.get_nowait()
    own = logging.Formatter("%(endpoint)s %(trace_id)s")
    assert own.format(inside) == f"desk.relayed {TRACE}"
    assert own.format(outside) == " "
    assert json.loads(JsonFormatter().format(inside))["caller"] == "desk.call"
    assert "caller" not in json.loads(JsonFormatter().format(outside))


async def test_an_active_span_gives_the_ids(kit: Kit, written: io.StringIO) -> None:
    """OpenTelemetry's own, within a turn and outside any."""
    context = SpanContext(int(TRACE, 16) + 1, 7, is_remote=False)
    await _called(kit, "relayed")
    with use_span(NonRecordingSpan(context)):
        log.info("outside")
    inside, outside = map(json.loads, written.getvalue().splitlines())
    assert inside["span_id"] == SPAN
    assert outside["trace_id"] == f"{int(TRACE, 16) + 1:032x}"
    assert outside["span_id"] == f"{7:016x}"


def test_a_broken_traceparent_is_no_id() -> None:
    """A line has no ids rather than wrong ones."""
    from contextvars import copy_context

    from kitmsg.context import Context, enter
    from kitmsg.logs import turn_facts
    from kitmsg.message import Message

    def facts(value: str) -> dict[str, str]:
        block = f"NATS/1.0\r\n{TRACEPARENT}: {value}\r\n\r\n".encode()
        enter(
            Context(
                endpoint="a.b",
                message=Message(subject="a.b", data=b"", header_block=block),
            )
        )
        return turn_facts()

    for value in ("", "00-xx-yy-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{SPAN}"):
        assert "trace_id" not in copy_context().run(facts, value)
