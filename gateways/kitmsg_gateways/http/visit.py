"""What happens to a request before it is read: a short chain of filters.

A filter is an async function of one `Visit`.  It notes what it finds out there, adds
headers for the answer, whatever the answer will be, and then

    returns None        the next one has its turn, and at last the API
    returns a response  the request is answered
    raises a `Problem`  or a `KitError`: the request is refused

    proxies.py    who asks, behind proxies that we trust
    origins.py    which web pages may ask (CORS)
    auth.py       as whom: bearer token, password, client certificate
    ratelimit.py  how often

Each is built once, from the options; one that is off is not in the chain and costs
nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from aiohttp import web

if TYPE_CHECKING:
    from kitmsg.auth import Principal

__all__ = ["PROBES", "UNMATCHED", "Filter", "Via", "Visit"]

UNMATCHED: Final = "(none)"
"""The route of a request that leads nowhere."""

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Paths that the platform asks, which has no credentials and must not be held up."""


@dataclass(frozen=True, slots=True)
class Via:
    """How a request came, by the word of a proxy that we trust.

    Attributes:
        address: Of the client.
        scheme: ``http`` or ``https``, as the client used it.
        host: As the client wrote it; "" when the proxy does not say.
    """

    address: str
    scheme: str
    host: str


class Visit:
    """One request, and what is known of who makes it.

    Attributes:
        request: As aiohttp read it; its body may still be on its way.
        path: As it was sent, without query.
        id: The request id.
        route: Template that matched.
        via: What a trusted proxy says; None when there is none.
        principal: Who asks; None when nobody knows.
        headers: For the answer, whatever it is; None for none.
        held: Bytes reserved for its body.
    """

    __slots__ = (
        "headers",
        "held",
        "id",
        "path",
        "principal",
        "request",
        "route",
        "via",
    )

    def __init__(self, request: web.BaseRequest, path: str, id_: str) -> None:
        self.request = request
        self.path = path
        self.id = id_
        self.route = UNMATCHED
        self.via: Via | None = None
        self.principal: Principal | None = None
        self.headers: dict[str, str] | None = None
        self.held = 0

    @property
    def address(self) -> str:
        """Address of the client; "" when it has none."""
        return self.via.address if self.via else self.request.remote or ""

    @property
    def scheme(self) -> str:
        """What the client used: ``http`` or ``https``."""
        return self.via.scheme if self.via else self.request.scheme

    @property
    def host(self) -> str:
        """What the client called us: name, and port if it is not the usual one."""
        return (self.via.host if self.via else "") or self.request.headers.get(
            "Host", ""
        )

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add headers to the answer, whatever it will be; an earlier value stays."""
        self.headers = headers if self.headers is None else headers | self.headers

    def dress(self, response: web.StreamResponse) -> None:
        """Give a response that has not begun the headers it needs."""
        if self.headers is None:
            return
        for name, value in self.headers.items():
            if name == "Vary" and "Vary" in response.headers:
                value = f"{response.headers['Vary']}, {value}"  # noqa: PLW2901
            response.headers[name] = value


Filter: TypeAlias = Callable[[Visit], Awaitable[web.StreamResponse | None]]
