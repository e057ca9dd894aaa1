"""The gateway's own pages: health, readiness, metrics, OpenAPI, AsyncAPI, schemas and docs.

These paths are the gateway's own; no service can take them.  The docs page is one file with
its own styles and script: its content policy lets it run exactly those, and talk to this
gateway only.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

import kitmsg
from kitmsg.asyncapi import document as events_document
from kitmsg.codec import JSON
from kitmsg.errors import Unavailable
from kitmsg.metrics import variables
from kitmsg.metrics.prometheus import negotiate
from kitmsg_gateways.http import rpc
from kitmsg_gateways.http.errors import refusal
from kitmsg_gateways.http.openapi.document import SCHEMAS, document, schemes_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from kitmsg_gateways.edge.events import EventDoor
    from kitmsg_gateways.edge.lifecycle import Gateway
    from kitmsg_gateways.http.methods import Table
    from kitmsg_gateways.http.options import GatewayOptions

    Page: TypeAlias = Callable[[web.BaseRequest, str], web.Response]

__all__ = ["RESERVED", "Pages"]

RESERVED: Final = (
    *("/", "/debug/vars", "/docs", "/healthz", "/metrics", "/openapi.json", "/readyz"),
    "/asyncapi.json",
    rpc.PATH,
)
"""Paths that no service can take."""

_FOR_EVER: Final = "max-age=31536000, immutable"  # another schema has another hash
_ALLOW: Final = "GET, HEAD, OPTIONS"
_FOUND: Final = 302
_NO_CONTENT: Final = 204


_DOCS: Final = files("kitmsg_gateways.http").joinpath("static/docs.html").read_bytes()


def _hashes(tag: str) -> str:
    """Return the sources that a policy names for the page's inline `tag` elements."""
    pattern = rf"<{tag}>(.*?)</{tag}>".encode()
    digests = (
        hashlib.sha256(text).digest() for text in re.findall(pattern, _DOCS, re.DOTALL)
    )
    return " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)


_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""Headers of all pages, but for what a page says itself."""

_DOCS_HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hashes('script')};"
        f" style-src {_hashes('style')}; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Pages:
    """The gateway's own paths."""

    def __init__(
        self, gateway: Gateway[GatewayOptions, Table], events: EventDoor | None = None
    ) -> None:
        self._catalogue = gateway.catalogue
        self._metrics = gateway.metrics
        self._readiness = gateway.health
        self._events = events
        self._title = gateway.options.title
        self._schemes = schemes_of(gateway.options)
        # Documents by path, each with the table that it describes.
        self._documents: dict[str, tuple[Table | None, bytes]] = {}
        self._makers = {
            "/openapi.json": self._made,
            "/asyncapi.json": self._made_events,
        }
        self._making = asyncio.Lock()
        home, docs = self._home, self._docs
        health, ready = self._health, self._ready
        counts = self._variables, self._metrics_page
        pages = home, counts[0], docs, health, counts[1], self._openapi, ready
        self._pages = dict(zip(RESERVED, (*pages, self._asyncapi), strict=False))
        self._has_schemas = gateway.options.openapi
        for path in _switched_off(gateway.options):
            del self._pages[path]

    def find(self, path: str) -> Page | None:
        """Return what serves a path; None if it is not the gateway's own."""
        page = self._pages.get(path)
        if page is None and path.startswith(SCHEMAS) and self._has_schemas:
            page = self._schema(path.removeprefix(SCHEMAS))
        if page is None:
            return None
        if page == self._metrics_page:
            return lambda request, id_: _serve(
                lambda: self._metrics_page(request.headers.get("Accept", "")),
                request,
                id_,
            )
        return lambda request, id_: _serve(page, request, id_)

    def _schema(self, hash_: str) -> Callable[[], web.Response] | None:
        """Return the page of the schemas with a hash; None if there are none."""
        schema = self._catalogue.table.schemas.get(hash_)
        if schema is None:
            return None
        response = _json(msgspec.json.encode(schema))
        response.headers["Cache-Control"] = _FOR_EVER
        return lambda: response

    def _home(self) -> web.Response:
        return web.Response(status=_FOUND, headers={"Location": "/docs"})

    def _docs(self) -> web.Response:
        return web.Response(body=_DOCS, headers=_DOCS_HEADERS)

    def _health(self) -> web.Response:
        return _json(b'{"status":"ok"}')

    def _ready(self) -> web.Response:
        if problem := self._readiness.problem():
            raise Unavailable(problem)
        body = {"status": "ok", "services": len(self._catalogue.table.services)}
        return _json(msgspec.json.encode(body))

    def _metrics_page(self, accept: str = "") -> web.Response:
        kind, text = negotiate(accept, self._metrics.page())
        return web.Response(body=text.encode(), headers={"Content-Type": kind})

    def _variables(self) -> web.Response:
        return _json(variables.render(self._metrics.page()))

    async def prepare(self, path: str) -> None:
        """Make the document of a new table, if `path` shows one.

        In a thread: that of thousands of endpoints takes a second, and calls go on.
        """
        make = self._makers.get(path)
        if make is None:
            return
        async with self._making:
            table = self._catalogue.table
            if self._documents.get(path, (None,))[0] is not table:
                self._documents[path] = table, await asyncio.to_thread(make, table)

    def _made(self, table: Table) -> bytes:
        found = document(
            table, title=self._title, schemes=self._schemes, events=self._events
        )
        return msgspec.json.encode(found)

    def _made_events(self, table: Table) -> bytes:
        found = events_document(
            table.events,
            table.services.values(),
            title=self._title,
            version=kitmsg.__version__,
            conflicts=table.event_conflicts,
        )
        return msgspec.json.encode(found)

    def _openapi(self) -> web.Response:
        return _json(self._documents["/openapi.json"][1])

    def _asyncapi(self) -> web.Response:
        return _json(self._documents["/asyncapi.json"][1])


def _switched_off(options: GatewayOptions) -> list[str]:
    """Return the paths of pages that there are none of."""
    has_docs = options.docs and options.openapi
    return [
        *(() if has_docs else ("/", "/docs")),
        *(() if options.openapi else ("/openapi.json", "/asyncapi.json")),
        *(() if options.metrics_page else ("/metrics", "/debug/vars")),
    ]


def _serve(
    page: Callable[[], web.Response], request: web.BaseRequest, id_: str
) -> web.Response:
    if request.method == "OPTIONS":
        return web.Response(status=_NO_CONTENT, headers={"Allow": _ALLOW})
    if request.method not in ("GET", "HEAD"):
        raise refusal(
            405,
            f"this path is the gateway's own; it takes {_ALLOW}",
            headers={"Allow": _ALLOW},
        )
    response = page()
    response.headers["X-Request-Id"] = id_
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _json(body: bytes) -> web.Response:
    headers = {"Content-Type": JSON.content_type, "Cache-Control": "no-store"}
    return web.Response(body=body, headers=headers)
