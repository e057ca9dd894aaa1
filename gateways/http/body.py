"""The body of a request: how long it may be, how long it may take, and what is in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateways.http.compress import inflate
from gateways.http.problem import Problem
from kitmsg.errors import Code, InvalidArgument

if TYPE_CHECKING:
    from gateways.http.options import GatewayOptions
    from kitmsg.bus import Bus

__all__ = ["body_limit", "read_body", "too_large"]

_TIMED_OUT: Final = 408
_TOO_LARGE: Final = 413
_EXPECTATION: Final = 417
_HEADER_ROOM: Final = 4096


def body_limit(bus: Bus, options: GatewayOptions) -> int:
    """Return the longest body, in bytes, that still fits on the bus with its headers."""
    room = max(bus.max_payload // 2, bus.max_payload - _HEADER_ROOM)
    return min(options.max_body_bytes, room)


def too_large(limit: int) -> Problem:
    """Return the problem of a body over `limit` bytes."""
    return Problem(
        _TOO_LARGE,
        Code.INVALID_ARGUMENT,
        f"the body is longer than {limit} bytes, which is the most",
    )


async def read_body(request: web.BaseRequest, limit: int, seconds: float) -> bytes:
    """Return the body, inflated if it came compressed.

    Args:
        request: Its headers are there.
        limit: Most bytes, as they came and inflated.
        seconds: Longest time for it to arrive.

    Raises:
        Problem: 408, 413, 415 or 417.
        InvalidArgument: It is not framed as HTTP wants, or is not the gzip it claims.
    """
    if (request.content_length or 0) > limit:
        raise too_large(limit)
    if "Expect" in request.headers:
        await _continue(request)
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
            if len(data) > limit:
                raise too_large(limit)
            return data
        async with asyncio.timeout(seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large(limit) from None
    except TimeoutError:
        raise Problem(
            _TIMED_OUT,
            Code.DEADLINE_EXCEEDED,
            f"the body did not arrive in {seconds:g} s",
        ) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise InvalidArgument("the body is not framed as HTTP wants") from None


async def _continue(request: web.BaseRequest) -> None:
    expected = request.headers["Expect"]
    if expected.lower() != "100-continue":
        raise Problem(
            _EXPECTATION,
            Code.INVALID_ARGUMENT,
            f"Expect: {expected[:40]!r} is not understood; only 100-continue is",
            field="Expect",
        )
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the answer has not begun
