"""One request, with its client's address and principal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.context import new_request_id
from kitmsg.metrics.calls import OTHER

if TYPE_CHECKING:
    from aiohttp import web

    from kitmsg.auth import Principal
    from kitmsg.tracing.seam import Span
    from kitmsg_gateways.edge.proxies import Via

__all__ = ["PROBES", "UNMATCHED", "Visit"]

UNMATCHED: Final = OTHER
"""The route of a request that leads nowhere."""

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Paths that the platform asks, which has no credentials and must not be held up."""


class Visit:
    """One request, with its client's address and principal.

    Attributes:
        request: As aiohttp read it; its body may still be on its way.
        path: As it was sent, without query.
        id: The request id.
        route: Template that matched.
        name: ``service.endpoint`` of what was called, for metrics.
        code: How it ended: ``ok``, or the code of the error.
        via: What a trusted proxy says; None when there is none.
        principal: Who asks; None when nobody knows.
        headers: For the answer, whatever it is; None for none.
        given_id: The request id that an outsider chose at a public edge, for the log.
        is_outside: Whether it comes from an outsider at a public edge.
        held: Bytes reserved for its body.
        span: Of the request; None where it is not traced.
    """

    __slots__ = (
        "code",
        "given_id",
        "headers",
        "held",
        "id",
        "is_outside",
        "name",
        "path",
        "principal",
        "request",
        "route",
        "span",
        "via",
    )

    def __init__(self, request: web.BaseRequest, path: str, id_: str) -> None:
        self.request = request
        self.path = path
        self.id = id_
        self.route = self.name = UNMATCHED
        self.code = "ok"
        self.via: Via | None = None
        self.principal: Principal | None = None
        self.headers: dict[str, str] | None = None
        self.held = 0
        self.given_id = ""
        self.is_outside = False
        self.span: Span | None = None

    def come_from_outside(self) -> None:
        """Note that an outsider asks: the request gets an id of ours."""
        self.is_outside = True
        self.given_id, self.id = self.id, new_request_id()

    @property
    def address(self) -> str:
        """Address of the client; "" when it has none."""
        return self.via.address if self.via else self.request.remote or ""

    @property
    def scheme(self) -> str:
        """The scheme of the client's URL: ``http`` or ``https``."""
        return self.via.scheme if self.via else self.request.scheme

    @property
    def host(self) -> str:
        """The host of the client's URL: name, and port if it is not the usual one."""
        return (self.via.host if self.via else "") or self.request.headers.get(
            "Host", ""
        )

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add headers to the answer, whatever it will be; an earlier value stays."""
        self.headers = headers if self.headers is None else headers | self.headers

    def add_to(self, response: web.StreamResponse) -> None:
        """Give a response that has not begun the headers it needs."""
        if self.headers is None:
            return
        for name, value in self.headers.items():
            if name == "Vary" and "Vary" in response.headers:
                value = f"{response.headers['Vary']}, {value}"  # noqa: PLW2901
            response.headers[name] = value
