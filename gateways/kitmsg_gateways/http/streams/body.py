"""The body of a request as items: read no faster than the stream takes them.

application/x-ndjson        a line is an item
application/octet-stream    for endpoints that take bytes: the body in pieces
multipart/form-data         the same for one file; the fields before it are parameters
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from kitmsg.errors import Cancelled, Code, InvalidArgument, KitError
from kitmsg_gateways.http.body import go_ahead
from kitmsg_gateways.http.problem import Problem
from kitmsg_gateways.http.streams.ndjson import NDJSON, lines
from kitmsg_gateways.http.streams.octets import OCTETS, chunks
from kitmsg_gateways.http.streams.upload import FORM, Upload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.http.streams.opening import Opening

__all__ = ["Source", "pumping", "source_of"]

_UNSUPPORTED: Final = 415
_TIMED_OUT: Final = 408
_LINES: Final = frozenset({NDJSON, "application/jsonl", "application/x-jsonlines"})


class Source(Protocol):
    """Where items come from."""

    async def begin(self) -> str:
        """Read what comes before the items; return parameters, as in a query."""
        ...

    def items(self) -> AsyncIterator[bytes]:
        """Yield the items, in JSON."""
        ...


class _Plain:
    """A body that is items and nothing else."""

    def __init__(self, items: AsyncIterator[bytes]) -> None:
        self._items = items

    async def begin(self) -> str:
        return ""

    def items(self) -> AsyncIterator[bytes]:
        return self._items


async def source_of(opening: Opening, limit: int) -> Source:
    """Return what reads the body of a request.

    Args:
        opening: The request.
        limit: Longest item, in bytes.

    Raises:
        Problem: 415 or 417; its type, or how it is sent, is not understood here.
    """
    request = opening.request
    named = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not named or not (request.body_exists or named == FORM):
        named = OCTETS if opening.mounted.takes_bytes else NDJSON
    offers = [NDJSON, *((OCTETS, FORM) if opening.mounted.takes_bytes else ())]
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _unsupported(
            "a stream of items cannot come compressed", "Content-Encoding"
        )
    if named not in _LINES and named not in offers:
        raise _unsupported(
            f"Content-Type {named[:80]!r} is not understood here; items come as"
            f" {' or '.join(offers)}, or over a WebSocket",
            "Content-Type",
        )
    if "Expect" in request.headers:
        await go_ahead(request)
    if named == FORM:
        return Upload(request, opening.options.body_timeout, limit)
    if named == OCTETS:
        return _Plain(chunks(arriving(request, opening.options.body_timeout), limit))
    return _Plain(lines(arriving(request, None), limit))


def _unsupported(detail: str, field: str) -> Problem:
    return Problem(_UNSUPPORTED, Code.INVALID_ARGUMENT, detail, field=field)


async def arriving(
    request: web.BaseRequest, seconds: float | None
) -> AsyncIterator[bytes]:
    """Yield a body as it comes.

    Args:
        request: Whose body.
        seconds: Longest wait for more of it; None for as long as it likes.

    Raises:
        Problem: 408; nothing came.
        InvalidArgument: It is not framed as HTTP wants.
    """
    content = request.content
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await content.readany()
        except TimeoutError:
            raise Problem(
                _TIMED_OUT,
                Code.DEADLINE_EXCEEDED,
                f"nothing more of the body came in {seconds:g} s",
            ) from None
        except (web.RequestPayloadError, HttpProcessingError):
            raise InvalidArgument("the body is not framed as HTTP wants") from None
        if not chunk:
            return
        yield chunk


@contextlib.asynccontextmanager
async def pumping(
    opening: Opening, stream: Stream, source: Source
) -> AsyncIterator[None]:
    """Send the items of a source, beside what else is done with the stream.

    What goes wrong with them ends the stream, and is the problem of the request.
    """
    task = asyncio.create_task(_pump(opening, stream, source))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _pump(opening: Opening, stream: Stream, source: Source) -> None:
    try:
        async for item in source.items():
            await stream.send(item)
        await stream.finish()
    except Exception as exc:  # noqa: BLE001  whoever reads the stream is told
        is_over = isinstance(exc, KitError) and not stream.is_open
        if not is_over:  # else the service has ended it, and the reader knows
            opening.broken = exc
            stream.fail(Cancelled("the request broke off"))
