"""Spans of what is stored: one when it is published, one for each attempt at a delivery.

OpenTelemetry's "Semantic conventions for messaging spans": ``send`` of a producer, and
``process`` of a consumer, which is a child of it however late it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from kitmsg.context import Context
from kitmsg.errors import Code, code_of
from kitmsg.jetstream import Outgoing
from kitmsg.message import Message
from kitmsg.tracing import current_headers, tracer
from kitmsg.tracing.conventions import (
    BATCH_COUNT,
    CONSUMER_GROUP,
    DESTINATION,
    MESSAGE_ID,
    MESSAGING_SYSTEM,
    OPERATION,
    OPERATION_NAME,
    TEMPLATE,
)
from kitmsg.wire import B3, TRACE

__all__ = ["processing", "sending", "traced_headers"]

_NAMES: Final = frozenset((*TRACE, *B3))


def traced_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with those of the current span, instead of what came with the turn."""
    traces = current_headers()
    if not traces:
        return dict(headers)
    return {n: v for n, v in headers.items() if n.lower() not in _NAMES} | traces


@contextlib.contextmanager
def sending(
    what: str, *, template: str = "", count: int = 1, operation: str = "send"
) -> Iterator[Callable[[Outgoing], None]]:
    """Have a span around what is published inside, which deliveries are children of.

    Args:
        what: What is sent, of which there are few: an event's class, a told endpoint.
        template: Of their subjects, where those are many.
        count: How many messages there are.
        operation: ``send``, or ``create`` where they are sent later, if at all.

    Yields:
        A function that is shown the message, once it is made: its subject and id.
    """
    found = tracer()
    if found is None:
        yield lambda _: None
        return
    facts: dict[str, str | int] = {**_attributes(operation, what)}
    if template:
        facts[TEMPLATE] = template
    if count > 1:
        facts[BATCH_COUNT] = count
    span = found.producer(f"{operation} {what}", facts).begin()
    token = span.enter()

    def show(message: Outgoing) -> None:
        span.note(DESTINATION, message.subject)
        span.note(MESSAGE_ID, message.message_id)

    try:
        yield show
    except BaseException as error:
        is_ours = isinstance(error, Exception)
        span.finish(code_of(error) if is_ours else Code.CANCELLED, str(error))
        raise
    finally:
        span.leave(token)
    span.finish()


@contextlib.contextmanager
def processing(name: str, message: Message, ctx: Context) -> Iterator[None]:
    """Have a span around an attempt at a delivery.

    Args:
        name: Dotted name of what handles it.
        message: That is delivered.
        ctx: Of the attempt.
    """
    found = tracer()
    if found is None:
        yield
        return
    attributes = {**_attributes("process", message.subject), CONSUMER_GROUP: name}
    span = found.consumer(f"process {name}", attributes).receive(message, 0.0)
    ctx._span = span  # noqa: SLF001
    try:
        yield
    except asyncio.CancelledError:
        span.finish(Code.CANCELLED)
        raise
    except BaseException as error:
        span.finish(code_of(error), str(error))
        raise
    span.finish()


def _attributes(operation: str, destination: str) -> dict[str, str]:
    return {
        MESSAGING_SYSTEM: "nats",
        OPERATION: operation,
        OPERATION_NAME: operation,
        DESTINATION: destination,
    }
