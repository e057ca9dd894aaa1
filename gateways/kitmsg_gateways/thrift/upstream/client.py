"""Connections to Thrift servers: a pool for each address, one call at a time on each.

Thrift servers answer in order and many take one call at a time, so a connection has one
call; a call that is given up closes its connection, because its answer may still come.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from kitmsg.errors import DataLoss, DeadlineExceeded, ResourceExhausted, Unavailable
from kitmsg_gateways.thrift.protocol import Malformed, OverLimit, protocols
from kitmsg_gateways.thrift.protocol.framing import Inbox, Speech, framed
from kitmsg_gateways.thrift.upstream.options import check_address
from kitmsg_gateways.upstream import CannotConnect

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg_gateways.thrift.protocol import Limits, ThriftProtocol
    from kitmsg_gateways.thrift.upstream.options import UpstreamOptions

    Read = Callable[[ThriftProtocol, bytes, int], tuple[Any, int]]

__all__ = ["Client"]

_TIMED_OUT: Final = "the server did not answer in time"


class Client:
    """Sends messages to servers; opens its connections when they are first needed.

    Args:
        name: Of the upstream, for messages.
        options: Limits, times, certificates.
        limits: What an answer may be.

    Raises:
        ValueError: The files for TLS cannot be used.
    """

    def __init__(self, name: str, options: UpstreamOptions, limits: Limits) -> None:
        self._name = name
        self._options = options
        self._limits = limits
        self._speech = Speech(options.protocol, options.transport == "framed")
        self._protocols = protocols(limits)
        self._tls = _tls(options)
        self._pools: dict[str, _Pool] = {}

    @property
    def protocol(self) -> ThriftProtocol:
        """What is spoken."""
        return self._protocols[self._speech.protocol]

    async def send(
        self, address: str, message: bytes, read: Read | None, timeout: float
    ) -> Any:
        """Send a message and return its answer.

        Args:
            address: Of the server.
            message: All of it.
            read: Reads the answer; None for a message that has none.
            timeout: Seconds for all of it.

        Raises:
            CannotConnect: There is no connection, so nothing was sent.
            DeadlineExceeded: Time ran out.
            Unavailable: The connection broke; the server may have done the work.
            DataLoss: The answer cannot be read.
            ResourceExhausted: It is longer than allowed.
        """
        pool = self._pools.get(address)
        if pool is None:
            pool = self._pools[address] = _Pool(
                address, self._options, self._tls, self._open
            )
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(pool, message, read)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"{self._name}: {_TIMED_OUT}") from exc
        except ConnectionError as exc:
            raise Unavailable(
                f"{self._name}: the connection to the server broke"
            ) from exc
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
        inbox = Inbox(self._limits, speech.protocol, speech.is_framed)
        return _Connection(inbox, self._protocols)

    def forget(self, address: str) -> None:
        """Close the idle connections to an address that is no more."""
        pool = self._pools.pop(address, None)
        if pool is not None:
            pool.close()

    def close(self) -> None:
        """Close the connections; a later message opens them again."""
        for address in list(self._pools):
            self.forget(address)


class _Pool:
    """The connections to one address."""

    def __init__(
        self,
        address: str,
        options: UpstreamOptions,
        tls: ssl.SSLContext | None,
        make: Callable[[], _Connection],
    ) -> None:
        self._host, self._port = check_address(address)
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


def _tls(options: UpstreamOptions) -> ssl.SSLContext | None:
    """Return what TLS needs; None without it.

    Raises:
        ValueError: A file cannot be read or holds no certificate.
    """
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca_file or None)
        if options.cert_file:
            context.load_cert_chain(options.cert_file, options.key_file or None)
    except OSError as exc:  # an SSLError is one
        raise ValueError(f"the files for TLS cannot be used: {exc}") from exc
    return context
