"""Answers that clients may keep, and ask again whether they changed.  Source: RFC 9110/9111.

Where an endpoint declares a cache time, its answers to GET carry an entity tag made of
their bytes; a client that shows the tag gets 304 and no body.  The gateway itself keeps
nothing: the service is asked each time, only the way back is saved.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from multidict import MultiMapping

    from kitmsg_gateways.http.mount import Mounted

__all__ = ["kept", "tag_of"]

# What of a request changes the answer beside its URL: the codec, see `request_codec`.
_VARY: Final = "Content-Type"
_TAG: Final = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_CACHEABLE: Final = frozenset({200, 203})
_NOT_MODIFIED: Final = 304


def kept(
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
