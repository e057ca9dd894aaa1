"""HTTP to a system of discovery: JSON in, JSON out, within bounds of time and size.

Consul, etcd (its JSON gateway) and Eureka are spoken to with this and nothing else: their
Python clients lack TLS (aetcd), limits (py-consul, py-eureka-client) or an event loop of
their user's (py-eureka-client), and all that is needed here is a few requests each.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, Self, TypeVar

import aiohttp
import msgspec

from kitmsg.discovery.address import Address, join_host_port
from kitmsg.discovery.instancer import MAX_BYTES
from kitmsg.errors import Unavailable

__all__ = ["Answer", "Lines", "Rest", "basic", "decode"]

T = TypeVar("T")

_SHOWN: Final = 120  # characters of an error's text
_OK: Final = range(200, 300)
_UNAUTHORIZED: Final = range(401, 404)


class Answer(NamedTuple):
    """The answer to one request."""

    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def is_ok(self) -> bool:
        """Whether the status is one of success."""
        return self.status in _OK


class Rest:
    """Requests to the servers of an address; the next server after a failure.

    Args:
        address: With the servers, user, password and TLS.
        default_port: Port of servers that are given without one.
        headers: Sent with every request.
        timeout: Seconds that one request may take.
        secrets: Texts that no error may show.
    """

    def __init__(
        self,
        address: Address,
        default_port: int,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 5.0,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self.timeout = timeout
        self.headers = dict(headers or {})
        self._tls = address.tls()
        scheme = "http" if self._tls is None else "https"
        self._bases = [
            f"{scheme}://{join_host_port(host, port)}"
            for host, port in address.servers(default_port)
        ]
        self._turn = 0
        self._secrets = tuple(each for each in (*secrets, address.password) if each)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        body: Any = None,
        timeout: float | None = None,
    ) -> Answer:
        """Return the answer to a request, whatever its status.

        Raises:
            Unavailable: None came in time, or it is longer than `MAX_BYTES`.
        """
        seconds = self.timeout if timeout is None else timeout
        async with self._sent(method, path, params, body, seconds) as response:
            data = await _bounded(response)
            return Answer(response.status, response.headers, data)

    async def ask(
        self, type_: type[T], method: str, path: str, *, body: Any = None
    ) -> T:
        """Return the decoded answer to a request that must succeed.

        Raises:
            Unavailable: It fails, or the answer is not what it should be.
        """
        answer = await self.call(method, path, body=body)
        self.check(answer)
        return decode(answer.data, type_)

    @asynccontextmanager
    async def stream(self, path: str, body: Any) -> AsyncIterator[Lines]:
        """Send a request whose answer goes on: its lines, as they come.

        Raises:
            Unavailable: It fails.
        """
        async with self._sent("POST", path, None, body, None) as response:
            if response.status not in _OK:
                data = await _bounded(response)
                self.check(Answer(response.status, response.headers, data))
            yield Lines(response)

    def check(self, answer: Answer) -> None:
        """Check that a request succeeded.

        Raises:
            Unavailable: It did not; the message has what the server says of it.
        """
        if answer.is_ok:
            return
        noun = "access refused" if answer.status in _UNAUTHORIZED else "an error"
        raise Unavailable(f"{noun}: HTTP {answer.status}{self._said(answer.data)}")

    def _said(self, data: bytes) -> str:
        """Return the beginning of an error's body, for a message."""
        text = " ".join(data[: 4 * _SHOWN].decode("utf-8", "replace").split())
        for secret in self._secrets:
            text = text.replace(secret, "***")
        shown = "".join(each for each in text if each.isprintable())[:_SHOWN]
        return f", {shown}" if shown else ""

    @asynccontextmanager
    async def _sent(
        self, method: str, path: str, params: Any, body: Any, seconds: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            self._session = aiohttp.ClientSession(auto_decompress=False)
        base = self._bases[self._turn % len(self._bases)]
        try:
            async with (
                asyncio.timeout(self.timeout if seconds is None else seconds) as limit,
                self._session.request(
                    method,
                    base + path,
                    params=params,
                    data=None if body is None else msgspec.json.encode(body),
                    headers={"Accept-Encoding": "identity", **self.headers},
                    ssl=True if self._tls is None else self._tls,
                    # A server elsewhere must not be sent the token.
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(connect=self.timeout),
                ) as response,
            ):
                if seconds is None:
                    limit.reschedule(None)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            self._turn += 1
            raise Unavailable(f"{base}: {_why(exc, seconds or self.timeout)}") from exc
        except Unavailable:
            self._turn += 1
            raise


class Lines:
    """Lines of an answer that goes on.  A wait for one may be cancelled and begun again."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._buffer = b""

    async def next(self) -> bytes:
        """Return the next line that is not empty.

        Raises:
            Unavailable: The answer ended, or a line is longer than `MAX_BYTES`.
        """
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                if line.strip():
                    return line
                continue
            if len(self._buffer) > MAX_BYTES:
                raise Unavailable(f"an answer is longer than {MAX_BYTES >> 20} MB")
            data = await self._response.content.readany()
            if not data:
                raise Unavailable("it ended the watch")
            self._buffer += data


def decode(data: bytes, type_: type[T]) -> T:
    """Return what JSON says.

    Raises:
        Unavailable: It is none, or not of that type.
    """
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Unavailable(f"its answer makes no sense: {exc}") from exc


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP basic authentication; none without a user."""
    if not user:
        return {}
    token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {token}"}


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    length = 0
    async for part in response.content.iter_any():
        parts.append(part)
        length += len(part)
        if length > MAX_BYTES:
            raise Unavailable(f"its answer is longer than {MAX_BYTES >> 20} MB")
    return b"".join(parts)


def _why(exc: Exception, seconds: float) -> str:
    if isinstance(exc, TimeoutError):
        return f"no answer within {seconds:g} s"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"cannot connect: {exc.os_error.strerror or exc.os_error}"
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
