"""The connections of an HTTP upstream: requests, redirects, streams.

Bounded on every side: time, connections, redirects, and the bytes of a response.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

import kitmsg
from kitmsg.errors import InvalidArgument, ResourceExhausted, Unavailable
from kitmsg_gateways.http.upstream.reply import HttpReply, replies_of
from kitmsg_gateways.upstream.errors import connection_errors
from kitmsg_gateways.upstream.options import tls_context
from kitmsg_gateways.upstream.pool import CannotConnect

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractContextManager

    from kitmsg_gateways.http.upstream.call import HttpMethod
    from kitmsg_gateways.http.upstream.operation import HttpRequest
    from kitmsg_gateways.http.upstream.options import UpstreamOptions
    from kitmsg_gateways.upstream.client import Outgoing

__all__ = ["HttpClient", "HttpReplies"]

_OK: Final = range(200, 300)
_FOLLOWED: Final = frozenset({301, 302, 303, 307, 308})
_SEE_OTHER: Final = 303  # fetch the answer there; RFC 9110, section 15.4.4
_KEPT: Final = frozenset({307, 308})  # the same request again
_PORTS: Final = {"http": 80, "https": 443}
# aiohttp says with these that it never had a connection.
_UNREACHED: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientProxyConnectionError,
)


class HttpClient:
    """Sends requests; opens its connections when they are first needed."""

    def __init__(self, name: str, options: UpstreamOptions) -> None:
        self._name = name
        self._options = options
        self._session: aiohttp.ClientSession | None = None
        self._fixed = options.headers()
        self._ssl: ssl.SSLContext | bool = True
        if options.ca_file or options.cert_file:
            self._ssl = tls_context(options)

    def _open(self) -> aiohttp.ClientSession:
        options = self._options
        if self._session is None or self._session.closed:
            connector = aiohttp.TCPConnector(
                limit=0,
                limit_per_host=options.max_connections,
                keepalive_timeout=options.keepalive_timeout,
                ssl=self._ssl,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=options.connect_timeout
                ),
                headers={"User-Agent": f"kitmsg/{kitmsg.__version__}"},
            )
        return self._session

    async def close(self, address: str = "") -> None:
        """Close the connections; those to one address alone close when they are idle."""
        session = self._session
        if session is not None and not address:
            self._session = None
            await session.close()

    def propagate(
        self, request: HttpRequest, along: Outgoing, *, is_endless: bool
    ) -> None:
        """Write the headers of a call; see `Transport`."""
        request.headers.update(along.web_headers())
        if not is_endless:
            milliseconds = max(1, int(along.timeout * 1000))
            request.headers["Request-Timeout"] = f"{milliseconds / 1000:.3f}"
            request.headers["X-Request-Timeout-Ms"] = str(milliseconds)

    async def send(
        self,
        address: str,
        method: HttpMethod | None,
        request: HttpRequest,
        limit: float,
    ) -> HttpReply:
        """Return the response to a request, be it an error; see `Transport`.

        Raises:
            CannotConnect: There is no connection, so nothing was sent.
            DeadlineExceeded: Time ran out.
            Unavailable: The connection broke; the server may have done the work.
            ResourceExhausted: The response is longer than allowed.
        """
        with self.errors():
            async with asyncio.timeout(limit):
                return await self._follow(address + request.target, request)

    async def stream(
        self,
        address: str,
        method: HttpMethod,
        request: HttpRequest,
        limit: float | None,
        items: AsyncIterator[Any] | None,
    ) -> HttpReply | HttpReplies:
        """Return the response to a request that streams; see `Transport`.

        The limit is for its beginning; redirects are not followed.
        """
        url = address + request.target
        body = request.body if items is None else method.lines(items)
        seconds = limit or method.declaration.options.timeout or self._options.timeout
        with self.errors():
            async with asyncio.timeout(seconds):
                response = await self._ask(url, request.method, request.headers, body)
            if method.declaration.signature.gives_items and response.status in _OK:
                return HttpReplies(self, response, self._options.max_response_bytes)
            async with response:
                return await self._read(response)

    def errors(self) -> AbstractContextManager[None]:
        """Make a `KitError` of a connection that breaks, or takes too long."""
        return connection_errors(self._name, aiohttp.ClientError)

    async def _follow(self, url: str, request: HttpRequest) -> HttpReply:
        method, body = request.method, request.body
        for _ in range(self._options.max_redirects + 1):
            async with await self._ask(url, method, request.headers, body) as response:
                reply = await self._read(response)
            to = reply.headers.get("Location", "")
            if reply.status not in _FOLLOWED or not to:
                return reply
            target = _target(url, to)
            if not target:
                return reply
            if reply.status == _SEE_OTHER:
                method, body = ("HEAD" if method == "HEAD" else "GET"), None
            elif reply.status not in _KEPT and method not in ("GET", "HEAD"):
                return reply  # clients disagree on what becomes of the body
            url = target
        raise Unavailable(
            f"{self._name}: more than {self._options.max_redirects} redirects"
        )

    async def _ask(
        self, url: str, method: str, headers: Mapping[str, str], body: Any
    ) -> aiohttp.ClientResponse:
        """Return a response whose headers are there.

        Raises:
            CannotConnect: There is no connection, so nothing was sent.
            InvalidArgument: A header holds what HTTP cannot carry.
        """
        try:
            return await self._open().request(
                method,
                URL(url, encoded=True),
                data=body,
                headers={**self._fixed, **headers},
                allow_redirects=False,
            )
        except _UNREACHED as exc:
            raise CannotConnect(_why(exc)) from exc
        except ValueError as exc:  # aiohttp checks what hooks may have put in
            raise InvalidArgument(f"the request cannot be sent: {exc}") from exc

    async def _read(self, response: aiohttp.ClientResponse) -> HttpReply:
        limit = self._options.max_response_bytes
        if (response.content_length or 0) <= limit or response.method == "HEAD":
            try:
                await response.content.readexactly(limit + 1)
            except asyncio.IncompleteReadError as exc:  # as it should be
                return HttpReply(response.status, response.headers, exc.partial)
        response.close()
        raise ResourceExhausted(
            f"{self._name}: the response is longer than {limit} bytes"
        )


class HttpReplies:
    """A response that streams: a reply for each item.

    Attributes:
        head: Status and headers; the body is not in it.
    """

    def __init__(
        self, client: HttpClient, response: aiohttp.ClientResponse, limit: int
    ) -> None:
        self.head = HttpReply(response.status, response.headers, b"")
        self._client = client
        self._response = response
        self._limit = limit

    def __aiter__(self) -> AsyncIterator[HttpReply]:
        return replies_of(self.head.content_type, self._chunks(), self._limit)

    async def _chunks(self) -> AsyncIterator[bytes]:
        with self._client.errors():
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        """Close the connection; what is still to come is not wanted."""
        self._response.close()


def _why(error: aiohttp.ClientError) -> str:
    """Return why there is no connection, in a few words and without aiohttp's own."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return "it takes too long to connect"
    if isinstance(error, aiohttp.ClientSSLError):
        cause = getattr(error, "certificate_error", None) or error.os_error
        return f"TLS failed: {getattr(cause, 'verify_message', '') or cause}"
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else None
    if cause is None:
        return str(error)
    number = cause.errno or 0
    # asyncio writes the address into the text of an errno; getaddrinfo's are others.
    is_dns = isinstance(cause, socket.gaierror) or number <= 0
    return (cause.strerror or str(cause)) if is_dns else os.strerror(number)


def _target(url: str, location: str) -> str:
    """Return where a redirect leads; "" for elsewhere: our headers may hold secrets."""
    try:
        target = urljoin(url, location)
        is_sound = target.isascii() and target.isprintable() and " " not in target
        return target if is_sound and _is_same_host(url, target) else ""
    except ValueError:
        return ""


def _is_same_host(url: str, target: str) -> bool:
    """Tell whether `target` may have what `url` had: same host, no step down from TLS.

    Raises:
        ValueError: One is no URL.
    """
    old, new = urlsplit(url), urlsplit(target)
    if old.hostname != new.hostname or new.scheme not in _PORTS:
        return False
    ports = [p.port or _PORTS[p.scheme] for p in (old, new)]
    is_upgrade = (old.scheme, new.scheme) == ("http", "https")
    return (old.scheme == new.scheme and ports[0] == ports[1]) or (
        is_upgrade and ports == [80, 443]
    )
