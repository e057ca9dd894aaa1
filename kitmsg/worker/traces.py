"""Traces of a process, as its settings and ``OTEL_...`` ask for them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from kitmsg import tracing
from kitmsg.errors import FailedPrecondition
from kitmsg.tracing.setup import addresses_of, set_up

if TYPE_CHECKING:
    from kitmsg.worker.settings import Settings

__all__ = ["flush_traces", "set_up_traces"]

_FLUSH_SECONDS: Final = 5.0


def set_up_traces(settings: Settings, service: str) -> None:
    """Export spans from now on, if they are asked for; before anything is wired.

    Args:
        settings: Where to, and which errors count.
        service: ``service.name``, unless the environment has one.

    Raises:
        InvalidArgument: An address or a variable is wrong.
        FailedPrecondition: A library is missing.
    """
    if not (settings.traces or settings.trace_replies or addresses_of()):
        return
    try:
        set_up(
            *settings.traces,
            service=service,
            all_errors=settings.trace_errors,
            gathers=settings.trace_replies,
        )
    except FailedPrecondition:
        if settings.traces or addresses_of():
            raise  # else nobody asked for traces yet


async def flush_traces() -> None:
    """Export what has ended, before the process does; takes some seconds at most."""
    if tracing.tracer() is not None:
        flushing = asyncio.to_thread(tracing.flush, _FLUSH_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(flushing, _FLUSH_SECONDS + 1)
