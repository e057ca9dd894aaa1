"""One pool of connections, and what happens to a request on it.

Bounded on every side: time, connections, redirects, and the bytes of a response.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

import kitmsg
from gateways.http.upstream.reply import HttpReply
from gateways.upstream import CannotConnect
from kitmsg.errors import DeadlineExceeded, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from gateways.http.upstream.operation import HttpRequest
    from gateways.http.upstream.options import UpstreamOptions

__all__ = ["HttpClient"]

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
        try:
            async with asyncio.timeout(timeout):
                return await self._follow(base + request.target, request)
        except TimeoutError as exc:
            raise DeadlineExceeded(
                f"{self._name}: the server did not answer in time"
            ) from exc
        except aiohttp.ClientError as exc:
            raise Unavailable(
                f"{self._name}: the connection to the server broke"
            ) from exc

    async def _follow(self, url: str, request: HttpRequest) -> HttpReply:
        method, body = request.method, request.body
        for _ in range(self._options.max_redirects + 1):
            reply = await self._once(url, method, request, body)
            to = reply.headers.get("Location", "")
            if reply.status not in _FOLLOWED or not to:
                return reply
            target = urljoin(url, to)
            if not _is_same_host(url, target):
                return reply  # our headers may hold secrets
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
        headers = {**self._fixed, **request.headers}
        try:
            sending = await self._open().request(
                method,
                URL(url, encoded=True),
                data=body,
                headers=headers,
                allow_redirects=False,
            )
        except _UNREACHED as exc:
            raise CannotConnect(f"{type(exc).__name__}: {exc}") from exc
        async with sending as response:
            data = await self._read(response)
            return HttpReply(response.status, response.headers, data)

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


def _is_same_host(url: str, target: str) -> bool:
    """Tell whether `target` may have what `url` had: same host, no step down from TLS."""
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
