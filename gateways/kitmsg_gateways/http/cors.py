"""CORS: the web pages that may call the services.

A browser sends ``Origin`` with what a page asks of another place, and lets the page see
the answer only if we say so.  Source: the Fetch standard, "CORS protocol".

Where a browser adds credentials by itself (passwords, client certificates) a page could
also do harm unseen, so foreign pages are refused there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aiohttp import web

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http.errors import refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg_gateways.http.visit import Visit

__all__ = ["ANY", "Cors", "is_own", "origin_pattern"]

ANY: Final = "*"

_NO_CONTENT: Final = 204
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_ACCEPTED: Final = (
    *("Accept", "Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"),
    *("Range", "Request-Timeout", "X-Request-Id", "X-Request-Timeout-Ms"),
    *("baggage", "traceparent", "tracestate"),
)
_EXPOSED: Final = (
    *("Accept-Ranges", "Content-Range", "ETag", "RateLimit", "RateLimit-Policy"),
    *("Retry-After", "X-Request-Id"),
)
_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\*\.)?([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?"
)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_USUAL: Final = {"http": ":80", "https": ":443"}


class Cors:
    """Tells browsers which pages may call; a `kitmsg_gateways.http.visit.Filter`.

    Args:
        origins: Such as ``https://shop.example``, ``https://*.shop.example`` for what is
            below it, or ``*`` for all.
        credentials: Whether pages may use what the browser knows: cookies, passwords.
        headers: Headers that a page may send, beside the usual ones.
        max_age: Seconds for which a browser may remember.
        is_strict: Refuse pages of other origins, instead of only hiding the answer.

    Raises:
        InvalidArgument: An origin is none, or all may use credentials.
    """

    def __init__(
        self,
        origins: Sequence[str],
        *,
        credentials: bool = False,
        headers: Sequence[str] = (),
        max_age: float = 600.0,
        is_strict: bool = False,
    ) -> None:
        self._is_open = ANY in origins
        if self._is_open and credentials:
            raise InvalidArgument(
                "cors_origins: with cors_credentials name the origins; '*' would let"
                " every page on the web act as its visitor"
            )
        self._patterns = [origin_pattern(text) for text in origins if text != ANY]
        self._is_strict = is_strict
        self._fields = {"Access-Control-Expose-Headers": ", ".join(_EXPOSED)}
        if credentials:
            self._fields["Access-Control-Allow-Credentials"] = "true"
        self._preflight = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": ", ".join([*_ACCEPTED, *_names(headers)]),
            "Access-Control-Max-Age": str(int(max_age)),
        }

    async def __call__(self, visit: Visit) -> web.Response | None:
        """Add what a browser wants to know; answer the question it asks beforehand."""
        request = visit.request
        given = request.headers.getall("Origin", [])
        if not self._is_open:
            visit.add_headers({"Vary": "Origin"})
        if not given:
            return None
        if len(given) > 1 or not self.allows(given[0]):
            if self._is_strict:
                self.check(visit)
            return None
        origin = ANY if self._is_open else given[0]
        visit.add_headers({"Access-Control-Allow-Origin": origin, **self._fields})
        if request.method != "OPTIONS" or (
            "Access-Control-Request-Method" not in request.headers
        ):
            return None
        visit.route = visit.name = "(preflight)"
        return web.Response(
            status=_NO_CONTENT, headers={"X-Request-Id": visit.id, **self._preflight}
        )

    def check(self, visit: Visit, act: str = "call here") -> None:
        """Refuse what a page sends that is neither ours nor of an origin that may.

        Args:
            visit: The request.
            act: What the page would do, for the error.

        Raises:
            Problem: 403.
        """
        given = visit.request.headers.getall("Origin", [])
        if is_own(given, visit) or (len(given) == 1 and self.allows(given[0])):
            return
        raise refusal(
            403,
            f"pages of this origin may not {act}; the gateway's cors_origins lists those"
            " that may",
            field="Origin",
        )

    def allows(self, origin: str) -> bool:
        """Tell whether pages of an origin may call."""
        return self._is_open or any(one.fullmatch(origin) for one in self._patterns)


def origin_pattern(text: str) -> re.Pattern[str]:
    """Return what matches the origins that `text` stands for.

    Raises:
        InvalidArgument: It is no origin.
    """
    found = _ORIGIN.fullmatch(text.lower())
    if found is None:
        raise InvalidArgument(
            f"cors_origins: {text!r} is no origin; write https://shop.example,"
            " https://*.shop.example or *, without a path"
        )
    scheme, below, host, port = found.groups()
    shown = "" if port == _USUAL.get(scheme) else port or ""
    before = r"(?:[a-z0-9_-]+\.)+" if below else ""
    return re.compile(re.escape(f"{scheme}://") + before + re.escape(host + shown))


def _names(headers: Sequence[str]) -> Sequence[str]:
    for name in headers:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"cors_headers: {name!r} is no name of a header")
    return headers


def is_own(given: Sequence[str], visit: Visit) -> bool:
    """Tell whether a page is one that this gateway served itself."""
    own = f"{visit.scheme}://{visit.host.lower()}"
    return len(given) == 1 and given[0] == own.removesuffix(_USUAL[visit.scheme])
