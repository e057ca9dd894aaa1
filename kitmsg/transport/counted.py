"""Counts of a caller for what is off its hot path: calls that failed, and streams."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from kitmsg.errors import Code
from kitmsg.transport.replies import error_code

if TYPE_CHECKING:
    from kitmsg.metrics.clients import CallCounts
    from kitmsg.transport.replies import ErrorTypes
    from kitmsg.transport.stream import Stream

__all__ = ["count_failure", "count_stream"]


def count_failure(
    counts: CallCounts, error: BaseException, started: float, declared: ErrorTypes
) -> None:
    """Count a call that raised, by the code of its error.

    Args:
        counts: Of the endpoint.
        error: As it is raised; no `Exception` is a caller that gave up.
        started: When the call began, by `perf_counter`.
        declared: The exceptions that the endpoint declares.
    """
    code = Code.CANCELLED
    if isinstance(error, Exception):
        code = error_code(error, declared)
    counts.ended(code.value, perf_counter() - started)


def count_stream(counts: CallCounts, stream: Stream, started: float) -> None:
    """Count a stream at its end, which may be now."""

    def count() -> None:
        code = "ok" if stream.error is None else stream.error.code.value
        counts.ended(code, perf_counter() - started)

    if stream.is_open:
        stream.on_end = count
    else:
        count()
