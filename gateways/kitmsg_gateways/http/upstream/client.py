"""One pool of connections, and what happens to a request on it.

Bounded on every side: time, connections, redirects, and the bytes of a response.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

import kitmsg
from kitmsg.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from kitmsg_gateways.http.upstream.reply import HttpReply
from kitmsg_gateways.upstream import CannotConnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from kitmsg_gateways.http.upstream.operation import HttpRequest
    from kitmsg_gateways.http.upstream.options import UpstreamOptions

__all__ = ["HttpClient", "HttpStream"]

_CHUNK: Final = 1 << 16
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
    """Sends requests; opens its connections when they are first needed.

    Args:
        name: Of the upstream, for messages.
        options: Limits, times, credentials.
    """

    def __init__(self, name: str, options: UpstreamOptions) -> None:
        self._name = name
        self._options = options
        self._session: aiohttp.ClientSession | None = None
        self._fixed = options.headers()
        self._ssl = _tls(options)

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

    async def close(self) -> None:
        """Close the connections; a later request opens them again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def send(self, base: str, request: HttpRequest, timeout: float) -> HttpReply:
        """Return the response to a request, be it an error.

        Args:
            base: Address of the server.
            request: What to send; cancelling closes its connection.
            timeout: Seconds for all of it.

        Raises:
            CannotConnect: There is no connection, so nothing was sent.
            DeadlineExceeded: Time ran out.
            Unavailable: The connection broke; the server may have done the work.
            ResourceExhausted: The response is longer than allowed.
        """
        async with self._told(), asyncio.timeout(timeout):
            return await self._follow(base + request.target, request)

    async def _follow(self, url: str, request: HttpRequest) -> HttpReply:
        method, body = request.method, request.body
        for _ in range(self._options.max_redirects + 1):
            reply = await self._once(url, method, request, body)
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

    async def _once(
        self, url: str, method: str, request: HttpRequest, body: bytes | None
    ) -> HttpReply:
        async with await self._ask(url, method, request.headers, body) as response:
            data = await self._read(response)
            return HttpReply(response.status, response.headers, data)

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

    async def stream(
        self,
        base: str,
        request: HttpRequest,
        timeout: float,
        body: AsyncIterator[bytes] | None,
    ) -> HttpStream:
        """Return a response that is read bit by bit; redirects are not followed.

        Args:
            base: Address of the server.
            request: What to send.
            timeout: Seconds until the response begins.
            body: Sent bit by bit instead of the request's own; None without.

        Raises:
            CannotConnect: There is no connection, so nothing was sent.
            DeadlineExceeded: Time ran out.
            Unavailable: The connection broke.
        """
        url = base + request.target
        data = request.body if body is None else body
        async with self._told():
            async with asyncio.timeout(timeout):
                response = await self._ask(url, request.method, request.headers, data)
        return HttpStream(self, response)

    @contextlib.asynccontextmanager
    async def _told(self) -> AsyncIterator[None]:
        """Make what aiohttp raises a `KitError`."""
        try:
            yield
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"{self._name}: the server did not answer in time"
            ) from exc
        except aiohttp.ClientError as exc:
            raise Unavailable(
                f"{self._name}: the connection to the server broke"
            ) from exc

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        limit = self._options.max_response_bytes
        too_long = ResourceExhausted(
            f"{self._name}: the response is longer than {limit} bytes"
        )
        if (response.content_length or 0) > limit and response.method != "HEAD":
            response.close()
            raise too_long
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_chunked(_CHUNK):
            size += len(chunk)
            if size > limit:
                response.close()
                raise too_long
            chunks.append(chunk)
        return b"".join(chunks)


class HttpStream:
    """A response that is read bit by bit.

    Attributes:
        head: Status and headers; the body is not in it.
    """

    def __init__(self, client: HttpClient, response: aiohttp.ClientResponse) -> None:
        self.head = HttpReply(response.status, response.headers, b"")
        self._client = client
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            Unavailable: The connection broke.
        """
        async with self._client._told():  # noqa: SLF001  two halves of one thing
            async for chunk in self._response.content.iter_any():
                yield chunk

    async def whole(self) -> HttpReply:
        """Return the response with all of its body, which has a bound.

        Raises:
            ResourceExhausted: It is longer than allowed.
            Unavailable: The connection broke.
        """
        async with self._client._told():  # noqa: SLF001
            body = await self._client._read(self._response)  # noqa: SLF001
        return HttpReply(self.head.status, self.head.headers, body)

    def close(self) -> None:
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


def _tls(options: UpstreamOptions) -> Any:
    """Return what aiohttp takes for TLS.

    Raises:
        ValueError: A file cannot be read or holds no certificate.
    """
    if not (options.ca_file or options.cert_file):
        return True
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file or None)
    except OSError as exc:  # an SSLError is one
        raise ValueError(f"the files for TLS cannot be used: {exc}") from exc
    return context
