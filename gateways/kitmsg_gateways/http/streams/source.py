"""The body of a request as items of a stream: read no faster than the stream takes them.

application/x-ndjson        a line is an item
application/octet-stream    for endpoints that take bytes: the body in pieces
multipart/form-data         the same for one file (RFC 7578); the fields before it are
                            parameters, and stand before it: the stream begins with them
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from kitmsg.errors import Cancelled, Code, InvalidArgument, KitError
from kitmsg_gateways.http.body import go_ahead, received, too_large
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.streams.formats import NDJSON, OCTETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.http.streams.opening import Opening

__all__ = ["FORM", "Source", "Upload", "chunks", "lines", "pumping", "source_of"]

FORM: Final = "multipart/form-data"

_CHUNK_BYTES: Final = 64 << 10  # most of one item that a body is cut to
_QUOTES: Final = 4  # and what base64 fills up with
_BROKEN: Final = (ValueError, web.RequestPayloadError, HttpProcessingError, EOFError)
_encode: Final = msgspec.json.Encoder().encode
_UNSUPPORTED: Final = 415
_TIMED_OUT: Final = 408
_LINES: Final = frozenset({NDJSON, "application/jsonl", "application/x-jsonlines"})


class Source(Protocol):
    """Source of items."""

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
    late = f"nothing more of the body came in {seconds or 0:g} s"
    while chunk := await received(request.content.readany(), seconds, late):
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


async def lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body, without the empty ones.

    Args:
        chunks: The body as it comes.
        limit: Longest line, in bytes.

    Raises:
        Problem: 413; a line is longer.
    """
    rest = bytearray()
    async for chunk in chunks:
        whole = chunk.rfind(b"\n") + 1
        if not whole:
            rest += chunk
        else:
            rest += chunk[:whole]
            for one in bytes(rest).split(b"\n"):
                if len(one) > limit:
                    raise too_large(limit)
                if one and not one.isspace():
                    yield one
            rest = bytearray(chunk[whole:])
        if len(rest) > limit:
            raise too_large(limit)
    if rest and not rest.isspace():
        yield bytes(rest)


async def chunks(body: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield a body as items of bytes, in JSON.

    Args:
        body: As it comes.
        limit: Most bytes of an item, in JSON.
    """
    size = max(1, min(_CHUNK_BYTES, limit * 3 // 4 - _QUOTES))
    async for chunk in body:
        for at in range(0, len(chunk), size):
            yield _encode(chunk[at : at + size])


class Upload:
    """A form with one file; a `Source`.

    Args:
        request: That brings it.
        seconds: Longest wait for more of it.
        limit: Most bytes of all fields together.
    """

    def __init__(self, request: web.BaseRequest, seconds: float, limit: int) -> None:
        self._request = request
        self._seconds = seconds
        self._left = limit
        self._limit = limit
        self._parts: Any = None
        self._file: BodyPartReader | None = None

    async def begin(self) -> str:
        """Read the fields, up to the file; return them as a query.

        Raises:
            InvalidArgument: It is no form, or has no file.
            Problem: 408 or 413.
        """
        self._parts = await self._within(self._request.multipart())
        fields: list[tuple[str, str]] = []
        while self._file is None:
            part = await self._within(self._parts.next())
            if part is None:
                raise InvalidArgument("the form has no file: a part with a filename")
            if not isinstance(part, BodyPartReader) or not part.name:
                raise InvalidArgument("a part of the form has no name of a field")
            if part.filename is not None:
                self._file = part
            else:
                fields.append((part.name, await self._text(part)))
        return urlencode(fields)

    async def items(self) -> AsyncIterator[bytes]:
        """Yield the file in pieces, in JSON.

        Raises:
            InvalidArgument: The form breaks off, or goes on after the file.
            Problem: 408.
        """
        async for item in chunks(self._pieces(), self._limit):
            yield item
        if await self._within(self._parts.next()) is not None:
            raise InvalidArgument("the file must be the last part of the form")

    async def _pieces(self) -> AsyncIterator[bytes]:
        file = self._file
        while file is not None and not file.at_eof():
            piece = await self._within(file.read_chunk(_CHUNK_BYTES))
            if piece:
                yield bytes(piece)

    async def _text(self, part: BodyPartReader) -> str:
        found = bytearray()
        while not part.at_eof():
            found += await self._within(part.read_chunk())
            if len(found) > self._left:
                raise too_large(self._limit)
        self._left -= len(found)
        try:
            return found.decode()
        except UnicodeDecodeError:
            raise InvalidArgument(
                f"the form's field {part.name!r} is not UTF-8", field=part.name or ""
            ) from None

    async def _within(self, reading: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await reading
        except TimeoutError:
            raise Problem(
                _TIMED_OUT,
                Code.DEADLINE_EXCEEDED,
                f"nothing more of the form came in {self._seconds:g} s",
            ) from None
        except _BROKEN:
            raise InvalidArgument("the body is not the form it claims to be") from None
