"""Representations of a result: bytes or JSON, parts of it, tags for caches, gzip.

`choose` and `accepts_gzip` negotiate with a client.  Source: RFC 9110, sections 8.4, 8.8,
12.5, 13, 14; RFC 9111; RFC 1952.

An endpoint whose result is bytes answers GET with the bytes themselves, unless the client
asks for JSON, and POST with JSON, unless it asks for the bytes.  Any result comes in JSON
where ``Accept`` wants that, whatever the request was encoded in.  Answers to GET carry a
tag, so that a download that broke off goes on where it stopped if the file is the same.
Several ranges at once are answered with all of it, as the RFC allows.

Where an endpoint declares a cache time, its answers to GET carry an entity tag made of
their bytes; a client that shows the tag gets 304 and no body.  The gateway itself keeps
nothing: the service is asked each time, only the way back is saved.

A long answer is compressed where the client takes it and the type is worth it.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec
from aiohttp import web

from kitmsg.codec import DECODE_ERRORS, JSON, MSGPACK, RAW
from kitmsg.errors import DataLoss
from kitmsg_gateways.http.errors import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import MultiMapping

    from kitmsg.codec import Codec
    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.visit import Visit

__all__ = ["accepts_gzip", "choose", "compress", "represent", "tag_of"]

OCTETS: Final = RAW.content_type
_SAFE: Final = frozenset({"GET", "HEAD"})
_LEVEL: Final = 5  # the knee of the curve: 6 and more cost twice for a percent
_IN_THREAD_BYTES: Final = 1 << 17  # compressing more would hold the loop for ms
_VARY: Final = "Content-Type"  # beside the URL: the codec, see `request_codec`
_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_CACHEABLE: Final = frozenset({200, 203})
_NOT_MODIFIED: Final = 304
_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_OK: Final = 200
_PARTIAL: Final = 206
_READ: Final[dict[str, Callable[[bytes, Any], Any]]] = {
    JSON.content_type: lambda data, type_: msgspec.json.decode(data, type=type_),
    MSGPACK.content_type: lambda data, type_: msgspec.msgpack.decode(data, type=type_),
    OCTETS: lambda data, _: data,
}
_WORTH_IT: Final = re.compile(
    r"text/|application/([\w.-]+\+)?(json|xml|msgpack|javascript)\b", re.ASCII
)
_NAME: Final = r"[\w!#$%&'*+.^`|~-]+"
_MEDIA_RANGE: Final = re.compile(rf"\s*({_NAME})/({_NAME})\s*((?:;[^;]*)*)", re.ASCII)
_QUALITY: Final = r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*"
_WEIGHT: Final = re.compile(f";{_QUALITY}(?:;|$)", re.ASCII)
_CODING: Final = re.compile(rf"\s*({_NAME})\s*(?:;{_QUALITY})?", re.ASCII)


def represent(
    answer: web.Response, visit: Visit, mounted: Mounted, codec: Codec
) -> web.Response:
    """Return an answer as its client wants it: as bytes or in JSON, whole or in part.

    Raises:
        DataLoss: The answer is not what it claims to be.
        Problem: 416; there is no such part.
    """
    request = visit.request
    headers, is_safe = request.headers, request.method in _SAFE
    wanted = _wanted(answer, request, mounted, codec)
    answer = _converted(answer, wanted)
    is_file = mounted.gives_bytes and answer.content_type == OCTETS
    if is_safe and is_file and isinstance(answer.body, bytes):
        answer.headers["ETag"] = tag_of(answer.body)
        answer.headers["Accept-Ranges"] = "bytes"
    if is_safe and (is_file or mounted.cache is not None):
        is_private = bool(visit.principal or "Authorization" in headers)
        answer = _kept(answer, mounted, headers, is_private=is_private)
    if mounted.gives_bytes:
        vary = answer.headers.get("Vary")
        answer.headers["Vary"] = f"{vary}, Accept" if vary else "Accept"
    return _part_of(answer, headers) if is_file and request.method == "GET" else answer


def _wanted(
    answer: web.Response, request: web.BaseRequest, mounted: Mounted, codec: Codec
) -> str | None:
    """Return the media type that a client likes best; None if it likes none."""
    if mounted.wire == "gokit":
        return None
    own, headers = answer.content_type, request.headers
    offers = [own, JSON.content_type]
    if mounted.gives_bytes:
        if "Range" in headers:
            return OCTETS
        is_download = request.method in _SAFE and codec is not MSGPACK
        at = 0 if is_download or codec is RAW else len(offers)
        offers.insert(at, OCTETS)
    accept = ",".join(headers.getall("Accept", []))
    return choose(accept, tuple(dict.fromkeys(offers)))


def _converted(answer: web.Response, wanted: str | None) -> web.Response:
    """Return an answer in another media type; as it is where there is no way."""
    own, body = answer.content_type, answer.body
    if wanted in (None, own) or own not in _READ or not isinstance(body, bytes):
        return answer
    try:
        if wanted == OCTETS:
            data = _READ[own](body, bytes)
        else:
            data = msgspec.json.encode(_READ[own](body, Any))
    except DECODE_ERRORS as exc:
        raise DataLoss(f"the result cannot be sent as {wanted}: {exc}") from exc
    found = web.Response(status=answer.status, body=data, headers=answer.headers)
    found.headers["Content-Type"] = str(wanted)
    return found


def _part_of(whole: web.Response, headers: MultiMapping[str]) -> web.Response:
    """Return the part of a file that a GET asks for; all of it if it asks for none.

    Raises:
        Problem: 416; there is no such part.
    """
    body, asked, tag = whole.body, headers.get("Range"), whole.headers.get("ETag")
    if asked is None or whole.status != _OK or not isinstance(body, bytes):
        return whole
    is_same = headers.get("If-Range", tag) == tag
    bounds = _bounds(asked, len(body)) if is_same else None
    if bounds is None:
        return whole
    start, stop = bounds
    part = web.Response(status=_PARTIAL, body=body[start:stop], headers=whole.headers)
    part.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
    return part


def _bounds(asked: str, size: int) -> tuple[int, int] | None:
    """Return where a range starts and where it stops; None to send all.

    Raises:
        Problem: 416.
    """
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start, last = int(found[1]), int(found[2] or max(size, int(found[1])))
        if last < start:  # no range at all
            return None
        stop = last + 1
    else:
        start, stop = size - int(found[2]), size
    start, stop = max(0, start), min(stop, size)
    if start >= stop:
        raise refusal(
            416,
            f"there is no such part: it has {size} bytes",
            field="Range",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop


def _kept(
    response: web.Response,
    mounted: Mounted,
    headers: MultiMapping[str],
    *,
    is_private: bool,
) -> web.Response:
    """Return an answer to GET or HEAD with what a cache needs, or 304 instead of it."""
    if response.status not in _CACHEABLE or not isinstance(response.body, bytes):
        return response
    tag = tag_of(response.body)
    response.headers["ETag"] = tag
    if mounted.cache is not None:
        mode = f"max-age={mounted.cache}" if mounted.cache else "no-cache"
        response.headers["Cache-Control"] = f"private, {mode}" if is_private else mode
    response.headers["Vary"] = ", ".join((_VARY, *mounted.parameters.headers.values()))
    if not _matches(headers, tag):
        return response
    del response.headers["Content-Type"]
    return web.Response(status=_NOT_MODIFIED, headers=response.headers)


def tag_of(body: bytes) -> str:
    """Return the entity tag of a body, quotes included."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def _matches(headers: MultiMapping[str], tag: str) -> bool:
    """Tell whether ``If-None-Match`` names the tag.

    The comparison is the weak one, as RFC 9110, section 13.1.2 wants: a compressed answer
    has a weak tag.
    """
    if "If-None-Match" not in headers:
        return False
    given = ",".join(headers.getall("If-None-Match"))
    return given.strip() == "*" or tag in _TAG.findall(given)


async def compress(response: web.StreamResponse, headers: MultiMapping[str]) -> None:
    """Compress an answer in place, if it is worth it and the client takes it."""
    body = response.body if isinstance(response, web.Response) else None
    if (
        not isinstance(response, web.Response)
        or not isinstance(body, bytes)
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


@functools.lru_cache(maxsize=128)  # clients of one kind agree with each other
def choose(accept: str, offers: tuple[str, ...]) -> str | None:
    """Return the offer that a client likes best; the first of equals.

    Args:
        accept: Value of its ``Accept`` header; "" takes anything.  What cannot be read is
            left out.
        offers: Media types, the best first.

    Returns:
        One of `offers`; None if the client takes none of them.
    """
    ranges = []
    for part in (accept.lower().strip() or "*/*").split(","):
        matched = _MEDIA_RANGE.fullmatch(part)
        if matched is not None:
            weight = _WEIGHT.search(matched[3])
            ranges.append((matched[1], matched[2], float(weight[1]) if weight else 1.0))
    best = max(offers, key=lambda offer: _quality(offer, ranges))  # the first of equals
    return best if _quality(best, ranges) else None


def _quality(offer: str, ranges: list[tuple[str, str, float]]) -> float:
    """Return how much an offer is liked: what names it most closely decides."""
    kind, _, sub = offer.partition("/")
    wanted = [
        ((type_ != "*") + (subtype != "*"), quality)
        for type_, subtype, quality in ranges
        if type_ in (kind, "*") and subtype in (sub, "*")
    ]
    return max(wanted, default=(0, 0.0))[1]


@functools.lru_cache(maxsize=64)  # browsers agree with each other
def accepts_gzip(text: str) -> bool:
    """Tell whether the value of an ``Accept-Encoding`` header wants gzip.

    What cannot be read is left out; nothing at all wants no coding.
    """
    weights: dict[str, float] = {}
    for part in text.lower().split(","):
        matched = _CODING.fullmatch(part)
        if matched is not None:
            weights[matched[1]] = float(matched[2] or 1)
    wanted = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return wanted > 0 and wanted >= weights.get("identity", 0.0)
