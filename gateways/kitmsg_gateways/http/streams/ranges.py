"""Results that are bytes, as files: as they are, whole or in part.  Source: RFC 9110, 14.

An endpoint whose result is bytes answers GET with the bytes themselves, unless the client
asks for JSON, and POST with JSON, unless it asks for the bytes.  Answers to GET carry a
tag, so that a download that broke off goes on where it stopped if the file is the same.
Several ranges at once are answered with all of it, as the RFC allows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg.codec import JSON
from kitmsg.errors import Code
from kitmsg_gateways.http.conditional import tag_of
from kitmsg_gateways.http.problem import Problem
from kitmsg_gateways.http.streams.accept import choose
from kitmsg_gateways.http.streams.octets import OCTETS, plain

if TYPE_CHECKING:
    from multidict import MultiMapping

__all__ = ["as_bytes", "part_of", "wants_bytes"]

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE)
_SAFE: Final = frozenset({"GET", "HEAD"})
_OK: Final = 200
_PARTIAL: Final = 206
_UNSATISFIABLE: Final = 416


def wants_bytes(request: web.BaseRequest) -> bool:
    """Tell whether a client wants a result that is bytes as bytes, not as JSON."""
    accept = ",".join(request.headers.getall("Accept", []))
    is_download = request.method in _SAFE
    offers = (OCTETS, JSON.content_type) if is_download else (JSON.content_type, OCTETS)
    return choose(accept, offers) == OCTETS or "Range" in request.headers


def as_bytes(answer: web.Response, request: web.BaseRequest) -> web.Response:
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


def part_of(answer: web.Response, headers: MultiMapping[str]) -> web.Response:
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
