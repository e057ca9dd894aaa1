"""Items that a client streams, read no faster than they are taken: of a body, or messages.

application/x-ndjson        a line is an item
application/octet-stream    for endpoints that take bytes: the body in pieces
multipart/form-data         the same for one file (RFC 7578); the fields before it are
                            parameters, and stand before it: the stream begins with them
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import BodyPartReader, web

from kitmsg.errors import Cancelled, InvalidArgument, KitError, Unavailable
from kitmsg_gateways.http.body import go_ahead, received, too_large
from kitmsg_gateways.http.errors import Problem, refusal
from kitmsg_gateways.http.streams.formats import NDJSON, OCTETS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Coroutine

    from kitmsg_gateways.http.streams.live import Items, Opening

__all__ = [
    "FORM",
    "Inbox",
    "Upload",
    "chunks",
    "lines",
    "pumping",
    "source_of",
]

T = TypeVar("T")
FORM: Final = "multipart/form-data"

_CHUNK_BYTES: Final = 64 << 10  # most of one item that a body is cut to
_QUOTES: Final = 4  # and what base64 fills up with
_FULL_BYTES: Final = 1 << 16
_FULL_ITEMS: Final = 64
_encode: Final = msgspec.json.Encoder().encode
_LINES: Final = frozenset({NDJSON, "application/jsonl", "application/x-jsonlines"})


async def source_of(opening: Opening, limit: int) -> tuple[str, AsyncIterator[bytes]]:
    """Return the body of a request as parameters, as in a query, and items in JSON.

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
        upload = Upload(request, opening.options.body_timeout, limit)
        return await upload.begin(), upload.items()
    if named == OCTETS:
        return "", chunks(arriving(request, opening.options.body_timeout), limit)
    return "", lines(arriving(request, None), limit)


def _unsupported(detail: str, field: str) -> Problem:
    return refusal(415, detail, field=field)


async def arriving(
    request: web.BaseRequest, seconds: float | None
) -> AsyncIterator[bytes]:
    """Yield a body as it comes; `seconds` is the longest wait for more, None for ever.

    Raises:
        Problem: 408; nothing came.
        InvalidArgument: It is not framed as HTTP wants.
    """
    late = f"nothing more of the body came in {seconds or 0:g} s"
    while chunk := await received(request.content.readany(), seconds, late):
        yield chunk


@contextlib.asynccontextmanager
async def pumping(
    opening: Opening, stream: Items, items: AsyncIterator[bytes]
) -> AsyncIterator[None]:
    """Send items, beside what else is done with the stream.

    What goes wrong with them ends the stream, and is the problem of the request.
    """
    task = asyncio.create_task(_pump(opening, stream, items))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _pump(opening: Opening, stream: Items, items: AsyncIterator[bytes]) -> None:
    try:
        async for item in items:
            await stream.send(item)
        await stream.finish()
    except Exception as exc:  # noqa: BLE001  whoever reads the stream is told
        is_over = isinstance(exc, KitError) and not stream.is_open
        if not is_over:  # else the service has ended it, and the reader knows
            opening.broken = exc
            stream.fail(Cancelled("the request broke off"))


async def lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the lines of a body, without the empty ones.

    Raises:
        Problem: 413; a line is longer than `limit` bytes.
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
    """A form with one file.

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

    def _within(self, reading: Awaitable[T]) -> Coroutine[Any, Any, T]:
        late = f"nothing more of the form came in {self._seconds:g} s"
        broken = "the body is not the form it claims to be"
        return received(reading, self._seconds, late, broken)


class Inbox:
    """Queue of the messages that came on a connection; one task takes them.

    Attributes:
        is_paused: Whether the connection is not read, until more is taken.
    """

    __slots__ = ("_bytes", "_is_shut", "_messages", "_protocol", "_waiter", "is_paused")

    def __init__(self, protocol: web.RequestHandler) -> None:
        self.is_paused = False
        self._protocol = protocol
        self._messages: deque[bytes] = deque()
        self._bytes = 0  # of all in `_messages`
        self._is_shut = False
        # Of the one task that takes messages; None unless it waits and there are none.
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_awaited(self) -> bool:
        """Whether all that came is taken, and its taker waits for more."""
        return self._waiter is not None and not self._messages

    def put(self, message: bytes) -> None:
        """Keep a message until it is taken."""
        self._messages.append(message)
        self._bytes += len(message)
        self._wake()
        is_full = self._bytes > _FULL_BYTES or len(self._messages) > _FULL_ITEMS
        if is_full and not self.is_paused:
            self.is_paused = True
            self._protocol.pause_reading()

    async def get(self) -> bytes:
        """Return the next message.

        Raises:
            Unavailable: There is none, and it is shut.
        """
        while not self._messages:
            if self._is_shut:
                raise Unavailable("the gateway is stopping")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.popleft()
        self._bytes -= len(message)
        if len(self._messages) <= _FULL_ITEMS // 2:
            self.go_on()
        return message

    def go_on(self) -> None:
        """Read from the connection, if it is not read."""
        if self.is_paused:
            self.is_paused = False
            self._protocol.resume_reading()

    def shut(self) -> None:
        """Let nobody wait for more."""
        self._is_shut = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
