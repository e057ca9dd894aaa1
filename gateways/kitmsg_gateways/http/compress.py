"""Bodies with gzip, both ways.  Source: RFC 9110, sections 8.4, 12.5.3; RFC 1952.

A long answer is compressed where the client takes it and the type is worth it; a request
may come compressed, and how much comes out of it has a bound.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import re
import zlib
from typing import TYPE_CHECKING, Final

from kitmsg.errors import Code, InvalidArgument
from kitmsg_gateways.http.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web
    from multidict import MultiMapping

__all__ = ["accepts_gzip", "compress", "inflate"]

_LEVEL: Final = 5  # the knee of the curve: 6 and more cost twice for a percent
_IN_THREAD_BYTES: Final = (
    1 << 17
)  # from here on the loop would be held for milliseconds
_GZIP_WINDOW: Final = 31  # zlib: the largest window, with gzip's header and trailer
_MAX_MEMBERS: Final = 16
_UNSUPPORTED: Final = 415
_WORTH_IT: Final = re.compile(
    r"text/|application/([\w.-]+\+)?(json|xml|msgpack|javascript)\b", re.ASCII
)
_CODING: Final = re.compile(
    r"\s*([\w!#$%&'*+.^`|~-]+)\s*(?:;\s*[qQ]\s*=\s*([01](?:\.\d{0,3})?)\s*)?", re.ASCII
)


async def compress(response: web.Response, headers: MultiMapping[str]) -> None:
    """Compress an answer in place, if it is worth it and the client takes it.

    Args:
        response: The answer, whole and not yet begun.
        headers: Of the request.
    """
    body = response.body
    if (
        not isinstance(body, bytes)
        or "Content-Encoding" in response.headers
        or not _WORTH_IT.match(response.headers.get("Content-Type", ""))
    ):
        return
    vary = response.headers.get("Vary")
    response.headers["Vary"] = f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"
    if not accepts_gzip(",".join(headers.getall("Accept-Encoding", ()))):
        return
    if len(body) < _IN_THREAD_BYTES:
        packed = gzip.compress(body, _LEVEL, mtime=0)
    else:
        packed = await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)
    response.body = packed
    response.headers["Content-Encoding"] = "gzip"
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):  # other bytes, the same meaning
        response.headers["ETag"] = f"W/{tag}"


@functools.lru_cache(maxsize=64)  # browsers agree with each other
def accepts_gzip(text: str) -> bool:
    """Tell whether the value of an ``Accept-Encoding`` header wants gzip.

    What cannot be read is left out; nothing at all wants no coding.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        matched = _CODING.fullmatch(part)
        if matched is not None:
            name, weight = matched.groups()
            weights[name.lower()] = 1.0 if weight is None else float(weight)
    wanted = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return wanted > 0 and wanted >= weights.get("identity", 0.0)


async def inflate(data: bytes, codings: Sequence[str], limit: int) -> bytes | None:
    """Return a request body as it was before ``Content-Encoding``.

    Args:
        data: The body.
        codings: Values of the header.
        limit: Most bytes that may come out.

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
        raise Problem(
            _UNSUPPORTED,
            Code.INVALID_ARGUMENT,
            f"Content-Encoding {named[:80]!r} is not understood; send gzip, or the body"
            " as it is",
            field="Content-Encoding",
            headers={"Accept-Encoding": "gzip"},
        )
    try:
        if len(data) < _IN_THREAD_BYTES >> 3 and limit <= 1 << 20:
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
