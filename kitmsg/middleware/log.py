"""One structured line for each call.

The line says what happened and how long it took, never what the request held.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Final

from kitmsg.endpoints import Middleware
from kitmsg.errors import Code, KitError, code_of

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["log"]

_OURS: Final = frozenset({Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS})


def log(
    logger: logging.Logger | None = None, *, level: int = logging.INFO
) -> Middleware:
    """Write a line after each call.

    The record has the attributes ``endpoint``, ``code`` (``ok``, or the error's),
    ``duration_ms`` and ``request_id``; the endpoint sees that id too.  A failure is a
    warning.  It is an error where the code says that the service is broken (`INTERNAL`,
    `UNKNOWN`, `DATA_LOSS`), with a traceback when nobody raised it on purpose.

    Args:
        logger: Where to write; None for ``kitmsg.calls``.
        level: Level of a call that succeeded, such as `logging.DEBUG`.
    """
    target = logging.getLogger("kitmsg.calls") if logger is None else logger

    def write(
        ctx: Context, request_id: str, started: float, error: BaseException | None
    ) -> None:
        severity, code = _judge(error, level)
        if not target.isEnabledFor(severity):
            return
        took = (perf_counter() - started) * 1000.0
        is_bug = severity == logging.ERROR and not isinstance(error, KitError)
        target.log(
            severity,
            "%s %s in %.3f ms%s%s",
            ctx.endpoint or "-",
            code,
            took,
            ": " if error is not None else "",
            error if error is not None else "",
            exc_info=error if is_bug else None,
            extra={
                "endpoint": ctx.endpoint,
                "code": code,
                "duration_ms": took,
                "request_id": request_id,
            },
        )

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def logged(ctx: Context, request: Req) -> Resp:
            request_id = ctx.request_id  # made before the context is copied
            started = perf_counter()
            try:
                response = await call(ctx, request)
            except (Exception, asyncio.CancelledError) as error:
                write(ctx, request_id, started, error)
                raise
            write(ctx, request_id, started, None)
            return response

        return logged

    return wrap


def _judge(error: BaseException | None, level: int) -> tuple[int, str]:
    """Return the level and the code of a line; `level` is for a success."""
    if error is None:
        return level, "ok"
    if isinstance(error, asyncio.CancelledError):
        return logging.WARNING, Code.CANCELLED.value
    code = code_of(error)
    return logging.ERROR if code in _OURS else logging.WARNING, code.value
