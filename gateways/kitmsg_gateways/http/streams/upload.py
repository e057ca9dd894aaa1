"""A file in a form.  Source: RFC 7578.

Fields are parameters, and stand before the file: the stream begins with them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from kitmsg.errors import Code, InvalidArgument
from kitmsg_gateways.http.body import too_large
from kitmsg_gateways.http.problem import Problem
from kitmsg_gateways.http.streams.octets import CHUNK, chunks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

__all__ = ["FORM", "Upload"]

FORM: Final = "multipart/form-data"

_TIMED_OUT: Final = 408
_BROKEN: Final = (ValueError, web.RequestPayloadError, HttpProcessingError, EOFError)


class Upload:
    """A form with one file; a `kitmsg_gateways.http.streams.body.Source`.

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
            piece = await self._within(file.read_chunk(CHUNK))
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
