"""The connections of a Thrift upstream: a pool for each address, one call on each.

Thrift servers answer in order and many take one call at a time, so a connection has one
call; a call that is given up closes its connection, because its answer may still come.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from kitmsg.errors import DataLoss, ResourceExhausted
from kitmsg.wire import TIMEOUT
from kitmsg_gateways.thrift.protocol import protocols
from kitmsg_gateways.thrift.protocol.base import Limits, Malformed, OverLimit
from kitmsg_gateways.thrift.protocol.framing import Inbox, Speech, framed
from kitmsg_gateways.thrift.protocol.header import header_frame
from kitmsg_gateways.thrift.upstream.call import (
    SEQID,
    ThriftMethod,
    ThriftReply,
    ThriftRequest,
)
from kitmsg_gateways.upstream.client import Transport
from kitmsg_gateways.upstream.errors import connection_errors
from kitmsg_gateways.upstream.options import address_parts, tls_context
from kitmsg_gateways.upstream.pool import CannotConnect

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from kitmsg_gateways.thrift.protocol.base import ThriftProtocol
    from kitmsg_gateways.thrift.upstream.options import UpstreamOptions
    from kitmsg_gateways.upstream.client import Outgoing

    Read = Callable[[ThriftProtocol, bytes, int], tuple[Any, int]]

__all__ = ["ThriftClient"]

_NOTHING: Final = ThriftReply(is_failure=False, fields={})  # a oneway has no answer


class ThriftClient(Transport[ThriftMethod, ThriftRequest, ThriftReply]):
    """Sends messages to servers; opens its connections when they are first needed.

    Args:
        name: Of the upstream, for messages.
        options: Limits, times, certificates.
        prefix: In front of each method's name.

    Raises:
        ValueError: The files for TLS cannot be used.
    """

    def __init__(self, name: str, options: UpstreamOptions, prefix: str = "") -> None:
        self._name = name
        self._options = options
        self._limits = limits = Limits(options.max_message_bytes)
        self._prefix = prefix
        has_header = options.transport == "header"
        is_framed = options.transport == "framed" or has_header
        self._speech = Speech(options.protocol, is_framed, has_header)
        self._protocols = protocols(limits)
        self._protocol = self._protocols[options.protocol]
        self._tls = tls_context(options) if options.tls else None
        self._pools: dict[str, _Pool] = {}

    def propagate(
        self, request: ThriftRequest, along: Outgoing, *, is_endless: bool
    ) -> None:
        """Write the headers of a call, where there are some; see `Transport`."""
        if self._speech.has_header:
            milliseconds = str(max(1, int(along.timeout * 1000)))
            request.headers |= {**along.web_headers(), TIMEOUT: milliseconds}

    async def send(
        self, address: str, method: ThriftMethod, request: ThriftRequest, limit: float
    ) -> ThriftReply:
        """Return the answer to a call; see `Transport`.

        Raises:
            DataLoss: The answer cannot be read.
            ResourceExhausted: It is longer than allowed.
        """
        message = method.write(self._protocol, request, self._prefix)
        if self._speech.has_header:
            name = self._speech.protocol
            message = header_frame(name, SEQID, request.headers, message)
        read = None if method.method.is_oneway else method.read
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = _Pool(
                address, self._options, self._tls, self._open
            )
        try:
            with connection_errors(self._name, ConnectionError):
                async with asyncio.timeout(limit):
                    return await self._exchange(pool, message, read) or _NOTHING
        except Malformed as exc:
            error = ResourceExhausted if isinstance(exc, OverLimit) else DataLoss
            raise error(f"{self._name}: the answer cannot be read: {exc}") from exc

    async def _exchange(self, pool: _Pool, message: bytes, read: Read | None) -> Any:
        connection = await pool.take()
        try:
            answer = await connection.exchange(framed(message, self._speech), read)
        except BaseException:
            connection.close()
            raise
        finally:
            pool.give(connection)
        return answer

    def _open(self) -> _Connection:
        speech = self._speech
        inbox = Inbox(
            self._limits,
            speech.protocol,
            speech.is_framed,
            has_header=speech.has_header,
        )
        return _Connection(inbox, self._protocols)

    async def close(self, address: str = "") -> None:
        """Close the idle connections to one address, or all; others once they are."""
        for each in [address] if address else list(self._pools):
            pool = self._pools.pop(each, None)
            if pool is not None:
                pool.close()


class _Pool:
    """The connections to one address."""

    def __init__(
        self,
        address: str,
        options: UpstreamOptions,
        tls: ssl.SSLContext | None,
        make: Callable[[], _Connection],
    ) -> None:
        self._host, self._port = address_parts(address)
        self._options = options
        self._tls = tls
        self._make = make
        self._room = asyncio.Semaphore(options.max_connections)
        self._idle: deque[tuple[_Connection, float]] = deque()
        self._is_closed = False

    async def take(self) -> _Connection:
        """Return a connection that nobody uses.

        Raises:
            CannotConnect: There is none, and none can be had.
        """
        await self._room.acquire()
        try:
            return self._reused() or await self._connected()
        except BaseException:
            self._room.release()
            raise

    def give(self, connection: _Connection) -> None:
        """Take it back."""
        self._room.release()
        if self._is_closed:
            connection.close()
        elif connection.is_open:
            self._idle.append((connection, asyncio.get_running_loop().time()))

    def close(self) -> None:
        """Close what is idle, and the others when they are given back."""
        self._is_closed = True
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()

    def _reused(self) -> _Connection | None:
        """Return the connection that was used last; the others grow old and go."""
        oldest = asyncio.get_running_loop().time() - self._options.keepalive_timeout
        while self._idle and (
            self._idle[0][1] < oldest or not self._idle[0][0].is_open
        ):
            self._idle.popleft()[0].close()
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _connected(self) -> _Connection:
        connecting = asyncio.get_running_loop().create_connection(
            self._make, self._host, self._port, ssl=self._tls
        )
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                _, connection = await connecting
        except TimeoutError as exc:
            raise CannotConnect("it took too long") from exc
        except OSError as exc:
            raise CannotConnect(str(exc)) from exc
        return connection


class _Connection(asyncio.Protocol):
    """One connection, with one call at a time."""

    def __init__(self, inbox: Inbox, known: dict[str, ThriftProtocol]) -> None:
        self._inbox = inbox
        self._protocols = known
        self._transport: asyncio.Transport | None = None
        self._read: Read | None = None
        self._answer: asyncio.Future[Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, message: bytes, read: Read | None) -> Any:
        """Send a message and return its answer; `read` is None if there is none.

        Raises:
            ConnectionError: The connection broke.
            Malformed: The answer is none.
        """
        if self._transport is None:
            raise ConnectionResetError
        self._transport.write(message)
        if read is None:
            return None
        self._read = read
        self._answer = asyncio.get_running_loop().create_future()
        try:
            return await self._answer
        finally:
            self._read = self._answer = None

    def close(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that it can be used."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the call that waits."""
        self._transport = None
        self._fail(exc if isinstance(exc, ConnectionError) else ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        """Read an answer; one that nobody waits for ends the connection."""
        if self._read is None:
            self.close()
            return
        self._inbox.feed(data)
        try:
            taken = self._inbox.take(self._protocols, self._read)
        except Malformed as exc:
            self._fail(exc)
            self.close()
            return
        if taken is not None and self._answer is not None and not self._answer.done():
            self._answer.set_result(taken)

    def _fail(self, why: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(why)
