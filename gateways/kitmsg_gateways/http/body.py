"""The body of a request: how long it may be, how long it may take, what gzip hides in it.

Source: RFC 9110, section 8.4; RFC 1952.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from kitmsg.errors import InvalidArgument
from kitmsg.transport.transfer import MAX_BYTES
from kitmsg_gateways.http.aiohttp_parts import buffered
from kitmsg_gateways.http.errors import Problem, refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from kitmsg.bus import Bus
    from kitmsg_gateways.http.options import GatewayOptions

__all__ = [
    "BODYLESS",
    "arrived",
    "body_limit",
    "check_bodyless",
    "go_ahead",
    "inflate",
    "read_body",
    "received",
    "size_of",
    "too_large",
]

BODYLESS: Final = frozenset({"GET", "HEAD", "DELETE"})
T = TypeVar("T")
_BROKEN: Final = (ValueError, web.RequestPayloadError, HttpProcessingError, EOFError)
_HEADER_ROOM: Final = 4096
_IN_THREAD_BYTES: Final = 1 << 14  # more would hold the loop for milliseconds
_GZIP_WINDOW: Final = 31  # zlib: the largest window, with gzip's header and trailer
_MAX_MEMBERS: Final = 16


def body_limit(bus: Bus, options: GatewayOptions, *, is_kit: bool = True) -> int:
    """Return the longest body, in bytes, that reaches a service.

    Args:
        bus: How it goes.
        options: The gateway's own limit.
        is_kit: Whether a kitmsg service takes it, which fetches in parts what does not
            fit into one message; to others it must fit, with its headers.
    """
    most = min(options.max_body_bytes, MAX_BYTES)
    if is_kit:
        return most
    return min(most, max(bus.max_payload // 2, bus.max_payload - _HEADER_ROOM))


def size_of(request: web.BaseRequest, limit: int) -> int:
    """Return the bytes that a body may come to.

    Args:
        request: Its headers say how long it is; if they do not, it may be `limit`.
        limit: Longest body.
    """
    size = request.content_length
    return limit if size is None or "Content-Encoding" in request.headers else size


def too_large(limit: int) -> Problem:
    """Return the problem of a body over `limit` bytes."""
    return refusal(
        413,
        f"the body is longer than {limit} bytes, which is the most (option"
        " max_body_bytes; for streams and foreign services also the bus's max_payload)",
    )


def check_bodyless(request: web.BaseRequest, data: bytes) -> None:
    """Refuse a body where the method takes none.

    Raises:
        InvalidArgument: There is one.
    """
    if data and request.method in BODYLESS:
        raise InvalidArgument(
            f"{request.method} takes its parameters from path and query; this one"
            " brought a body"
        )


def arrived(request: web.BaseRequest, limit: int) -> bytes | None:
    """Return the body if it came with the headers, in one piece, plain and short.

    Hot path: nearly every body did, and then there is nothing to wait for.  aiohttp's own
    way would ask the connection for more after it.
    """
    headers = request.headers
    if "Content-Encoding" in headers or "Expect" in headers:
        return None
    data = buffered(request.content)
    return None if data is None or len(data) > limit else data


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """Return the body, inflated if it came compressed: `limit` bytes in `seconds` at most.

    Raises:
        Problem: 408, 413, 415 or 417.
        InvalidArgument: It is not framed as HTTP wants, or is not the gzip it claims.
    """
    if "Expect" in request.headers:
        await go_ahead(request)
    data = await _arrived(request, limit, seconds)
    if "Content-Encoding" not in request.headers:
        return data
    inflated = await inflate(data, request.headers.getall("Content-Encoding"), limit)
    if inflated is None:
        raise too_large(limit)
    return inflated


async def _arrived(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    try:
        if request.content.is_eof():  # it came with the headers
            data = request.content.read_nowait()
        else:
            late = f"the body did not arrive in {seconds:g} s"
            data = await received(request.read(), seconds, late)
    except web.HTTPRequestEntityTooLarge:
        raise too_large(limit) from None
    if len(data) > limit:
        raise too_large(limit)
    return data


async def received(
    reading: Awaitable[T],
    seconds: float | None,
    late: str,
    broken: str = "the body is not framed as HTTP wants",
) -> T:
    """Return what is read of a body, in `seconds`; None for as long as it takes.

    Raises:
        Problem: 408, with the words of `late`.
        InvalidArgument: It is not what it should be, with the words of `broken`.
    """
    try:
        async with asyncio.timeout(seconds):
            return await reading
    except TimeoutError:
        raise refusal(408, late) from None
    except _BROKEN:
        raise InvalidArgument(broken) from None


async def go_ahead(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send the body.

    Raises:
        Problem: 417; it waits for something else.
    """
    expected = request.headers["Expect"]
    if expected.lower() != "100-continue":
        raise refusal(
            417,
            f"Expect: {expected[:40]!r} is not understood; only 100-continue is",
            field="Expect",
        )
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer has not begun


async def inflate(data: bytes, codings: Sequence[str], limit: int) -> bytes | None:
    """Return a request body as it was before ``Content-Encoding``.

    Returns:
        The body; None if it is longer than `limit`.

    Raises:
        Problem: 415; the coding is not gzip.
        InvalidArgument: The body is no gzip, or ends early.
    """
    named = ",".join(codings).strip().lower()
    if named in ("", "identity"):
        return data
    if named not in ("gzip", "x-gzip"):
        raise refusal(
            415,
            f"Content-Encoding {named[:80]!r} is not understood; send gzip, or the body"
            " as it is",
            field="Content-Encoding",
            headers={"Accept-Encoding": "gzip"},
        )
    try:
        if len(data) < _IN_THREAD_BYTES and limit <= 1 << 20:
            return _inflated(data, limit)
        return await asyncio.to_thread(_inflated, data, limit)
    except (zlib.error, EOFError):
        raise InvalidArgument(
            "the body is not the gzip that Content-Encoding promises",
            field="Content-Encoding",
        ) from None


def _inflated(data: bytes, limit: int) -> bytes | None:
    """Return what is in all members of a gzip file; None if it is more than `limit`."""
    found = bytearray()
    for _ in range(_MAX_MEMBERS):  # each copies what follows it
        if not data:
            return bytes(found)
        member = zlib.decompressobj(_GZIP_WINDOW)
        found += member.decompress(data, limit + 1 - len(found))
        if len(found) > limit:
            return None
        if not member.eof:
            raise EOFError
        data = member.unused_data
    raise EOFError
