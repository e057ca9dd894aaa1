"""Representations of a result: bytes or JSON, parts of it, tags for caches, gzip.

Source: RFC 9110, sections 8.4, 8.8, 13, 14; RFC 9111; RFC 1952.

An endpoint whose result is bytes answers GET with the bytes themselves, unless the client
asks for JSON, and POST with JSON, unless it asks for the bytes.  Answers to GET carry a
tag, so that a download that broke off goes on where it stopped if the file is the same.
Several ranges at once are answered with all of it, as the RFC allows.

Where an endpoint declares a cache time, its answers to GET carry an entity tag made of
their bytes; a client that shows the tag gets 304 and no body.  The gateway itself keeps
nothing: the service is asked each time, only the way back is saved.

A long answer is compressed where the client takes it and the type is worth it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg.codec import JSON
from kitmsg.errors import Code
from kitmsg_gateways.http.accept import accepts_gzip, choose
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.streams.formats import OCTETS, plain

if TYPE_CHECKING:
    from multidict import MultiMapping

    from kitmsg_gateways.http.methods import Mounted
    from kitmsg_gateways.http.visit import Visit

__all__ = ["compress", "represent", "tag_of"]

_SAFE: Final = frozenset({"GET", "HEAD"})
_LEVEL: Final = 5  # the knee of the curve: 6 and more cost twice for a percent
_IN_THREAD_BYTES: Final = 1 << 17  # compressing more would hold the loop for ms
# Changes the answer beside the URL: the request's codec, see `request_codec`.
_VARY: Final = "Content-Type"
_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_CACHEABLE: Final = frozenset({200, 203})
_NOT_MODIFIED: Final = 304
_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_OK: Final = 200
_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416
_WORTH_IT: Final = re.compile(
    r"text/|application/([\w.-]+\+)?(json|xml|msgpack|javascript)\b", re.ASCII
)


def represent(answer: web.Response, visit: Visit, mounted: Mounted) -> web.Response:
    """Return an answer that is a file, or that clients may keep, as they want it."""
    request = visit.request
    headers = request.headers
    is_file = mounted.gives_bytes and _wants_bytes(request)
    if is_file:
        answer = _as_bytes(answer, request)
    if request.method in _SAFE and (is_file or mounted.cache is not None):
        is_private = bool(visit.principal or "Authorization" in headers)
        answer = _kept(answer, mounted, headers, is_private=is_private)
    if mounted.gives_bytes:
        vary = answer.headers.get("Vary")
        answer.headers["Vary"] = f"{vary}, Accept" if vary else "Accept"
    return _part_of(answer, headers) if is_file and request.method == "GET" else answer


def _wants_bytes(request: web.BaseRequest) -> bool:
    """Tell whether a client wants a result that is bytes as bytes, not as JSON."""
    accept = ",".join(request.headers.getall("Accept", []))
    is_download = request.method in _SAFE
    offers = (OCTETS, JSON.content_type) if is_download else (JSON.content_type, OCTETS)
    return choose(accept, offers) == OCTETS or "Range" in request.headers


def _as_bytes(answer: web.Response, request: web.BaseRequest) -> web.Response:
    """Return an answer with the bytes that its JSON stands for.

    Args:
        answer: Of the service; left as it is where it is no JSON.
        request: What it answers.

    Raises:
        DataLoss: The JSON is no bytes.
    """
    body = answer.body
    if not isinstance(body, bytes) or answer.content_type != JSON.content_type:
        return answer
    data = plain(body)
    found = web.Response(status=answer.status, body=data, headers=answer.headers)
    found.headers["Content-Type"] = OCTETS
    if request.method in _SAFE:
        found.headers["ETag"] = tag_of(data)
        found.headers["Accept-Ranges"] = "bytes"
    return found


def _part_of(answer: web.Response, headers: MultiMapping[str]) -> web.Response:
    """Return the part of a file that a GET asks for; all of it if it asks for none.

    Args:
        answer: The whole file.
        headers: Of the request.

    Raises:
        Problem: 416; there is no such part.
    """
    body, asked = answer.body, headers.get("Range")
    if asked is None or answer.status != _OK or not isinstance(body, bytes):
        return answer
    is_same = headers.get("If-Range", answer.headers.get("ETag")) == (
        answer.headers.get("ETag")
    )
    bounds = _bounds(asked, len(body)) if is_same else None
    if bounds is None:
        return answer
    start, stop = bounds
    part = web.Response(status=_PARTIAL, body=body[start:stop], headers=answer.headers)
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
        raise Problem(
            _UNSATISFIABLE,
            Code.OUT_OF_RANGE,
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
    """Return an answer to GET or HEAD with what a cache needs, or 304 instead of it.

    Args:
        response: The answer; changed.
        mounted: Its endpoint, which declares a cache time.
        headers: Of the request.
        is_private: Whether the answer is for this caller only.
    """
    if response.status not in _CACHEABLE or not isinstance(response.body, bytes):
        return response
    tag = tag_of(response.body)
    seconds = mounted.cache or 0
    mode = f"max-age={seconds}" if seconds else "no-cache"
    response.headers["ETag"] = tag
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
