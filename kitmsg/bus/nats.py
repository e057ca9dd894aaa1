"""The bus over NATS.

`NatsBus.connect` opens it.  What it promises is in `kitmsg.bus`; what keeps the promise
when links break is in `kitmsg.bus.connection`.  Here are the public face, the first
connection, and the one table that turns nats-py's errors into ours.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from kitmsg.bus.asks import cancellations
from kitmsg.bus.checks import check_pattern, check_publish, check_queue
from kitmsg.bus.connection import Connection, errors
from kitmsg.bus.inboxes import Inboxes
from kitmsg.bus.options import DEFAULT_SERVER, NatsOptions, parse_servers
from kitmsg.bus.watchers import Watchers
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    KitError,
    Unauthenticated,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kitmsg.bus import Handler
    from kitmsg.bus.asks import Ask
    from kitmsg.bus.natspy import Client
    from kitmsg.message import Message

__all__ = ["NatsBus", "NatsStats"]

_log = logging.getLogger("kitmsg.bus")
_FIRST_WAIT: Final = 0.25
_REMEMBERED: Final = 1024
_REMIND: Final = 30.0  # seconds between two lines about the same absence
_LONGEST_WAIT: Final = 2.0


@dataclass(frozen=True)
class NatsStats:
    """Counters of a connection.

    Args:
        reconnects: How often it was lost and made again.
        bad_subjects: Messages thrown away because their subject is not UTF-8.
        late_replies: Replies that came when nobody waited for them any more.
        refused: Answers that peers wanted on subjects that are no inboxes.
        dropped: Commands accepted and thrown away unwritten when the link broke.
    """

    reconnects: int
    bad_subjects: int
    late_replies: int
    refused: int
    dropped: int


class _NatsSubscription:
    __slots__ = ("_connection", "_sid", "subject")

    def __init__(self, connection: Connection, sid: int, subject: str) -> None:
        self._connection = connection
        self._sid = sid
        self.subject = subject

    def unsubscribe(self) -> None:
        self._connection.unlisten(self._sid)


class NatsBus:
    """A bus over one NATS connection; made by `connect`, used on one event loop."""

    def __init__(self, options: NatsOptions) -> None:
        self._options = options
        self._watchers = Watchers()
        self._connection = Connection(options, self._watchers.tell)
        self._connection.asks.on_abandoned = self._abandon
        self._open = self._connection.asks.open
        # Subjects that are well formed, and what a command with headers that asks there
        # begins with.  Empty while there is no connection, or no reply can come.
        self._asked: dict[str, bytes] = {}
        self._watchers.add(lambda _: self._asked.clear())
        self._connection.denials.on_inbox_denied = self._asked.clear
        self._closers: list[Callable[[], Awaitable[object]]] = []

    @classmethod
    async def connect(
        cls,
        servers: str | Sequence[str] = DEFAULT_SERVER,
        *,
        name: str = "",
        user: str = "",
        password: str = "",
        token: str = "",
        nkey_file: str = "",
        nkey_seed: str = "",
        creds: str = "",
        tls: ssl.SSLContext | None = None,
        tls_ca: str = "",
        tls_cert: str = "",
        tls_key: str = "",
        tls_hostname: str = "",
        tls_first: bool = False,
        inbox_prefix: str = "_INBOX",
        peer_inboxes: Sequence[str] = (),
        connect_timeout: float = 2.0,
        reconnect: bool = True,
        wait: bool = False,
        ping_interval: float = 5.0,
        max_pending: int = 8 << 20,
        fast: bool = True,
    ) -> NatsBus:
        """Connect to one of `servers`, in random order.

        Args:
            servers: Addresses, as a list or separated by commas; a user may stand in
                them: ``nats://user:password@host:port``.
            name: As the rest in `NatsOptions`.
            user: See `NatsOptions`.
            password: See `NatsOptions`.
            token: See `NatsOptions`.
            nkey_file: See `NatsOptions`.
            nkey_seed: See `NatsOptions`.
            creds: See `NatsOptions`.
            tls: See `NatsOptions`.
            tls_ca: See `NatsOptions`.
            tls_cert: See `NatsOptions`.
            tls_key: See `NatsOptions`.
            tls_hostname: See `NatsOptions`.
            tls_first: See `NatsOptions`.
            inbox_prefix: See `NatsOptions`.
            peer_inboxes: See `NatsOptions`.
            connect_timeout: See `NatsOptions`; in seconds.
            reconnect: See `NatsOptions`.
            wait: See `NatsOptions`.
            ping_interval: See `NatsOptions`; in seconds.
            max_pending: See `NatsOptions`; in bytes.
            fast: See `NatsOptions`.

        Raises:
            Unavailable: No server answers within `connect_timeout` seconds each.
            Unauthenticated: A server answers and refuses.
            InvalidArgument: An option is wrong, or a file cannot be used.
        """
        urls, url_user, url_password = parse_servers(servers)
        options = NatsOptions(
            servers=urls,
            name=name,
            user=user,
            password=password,
            token=token,
            nkey_file=nkey_file,
            nkey_seed=nkey_seed,
            creds=creds,
            tls=tls,
            tls_ca=tls_ca,
            tls_cert=tls_cert,
            tls_key=tls_key,
            tls_hostname=tls_hostname,
            tls_first=tls_first,
            inbox_prefix=inbox_prefix,
            peer_inboxes=tuple(peer_inboxes),
            connect_timeout=connect_timeout,
            reconnect=reconnect,
            wait=wait,
            ping_interval=ping_interval,
            max_pending=max_pending,
            fast=fast,
        )
        return await cls.open(_with_user(options, url_user, url_password))

    @classmethod
    async def open(cls, options: NatsOptions) -> NatsBus:
        """Connect as `options` say.  Raises as `connect` does."""
        delay = _FIRST_WAIT
        waited = 0.0
        while True:
            try:
                return await cls._first(options)
            except Unavailable as error:
                if not options.wait:
                    raise
                if waited >= _REMIND:
                    waited = 0.0
                if not waited:
                    _log.warning("%s; waiting for it", error)
            await asyncio.sleep(delay)
            waited += delay
            delay = min(2 * delay, _LONGEST_WAIT)

    @classmethod
    async def _first(cls, options: NatsOptions) -> NatsBus:
        """Try each server once."""
        failures: dict[str, Exception] = {}
        order = random.sample(options.servers, len(options.servers))
        for server in order:
            bus = cls(options)
            try:
                await bus._connection.open(server, options.servers)
            except (OSError, errors.Error, TimeoutError, KitError) as error:
                failures[server] = error
                if bus._connection.lacks_certificate:
                    failures[server] = errors.Error(_NO_CERTIFICATE)
            else:
                return bus
        raise _translate(options, failures)

    @property
    def client(self) -> Client:
        """The nats-py client underneath, for JetStream and its like."""
        return self._connection

    @property
    def is_connected(self) -> bool:
        """Whether a message can be sent now."""
        return self._connection.up

    def fileno(self) -> int:
        """Return the descriptor of the socket to the server; -1 when there is none."""
        return self._connection.fileno()

    @property
    def is_busy(self) -> bool:
        """Whether a quarter of `max_pending` waits to be written."""
        return self._connection.is_busy()

    @property
    def max_payload(self) -> int:
        """Longest header block and payload together, in bytes; the server's limit."""
        most: int = self._connection.max_payload
        return most

    @property
    def inbox(self) -> str:
        """Prefix of the subjects that reach this connection alone."""
        return self._connection.inbox

    @property
    def inboxes(self) -> Inboxes:
        """The rule of where an answer may go."""
        return self._connection.inboxes

    @property
    def stats(self) -> NatsStats:
        """Counters of the connection."""
        connection = self._connection
        return NatsStats(
            reconnects=connection.stats["reconnects"],
            bad_subjects=connection.inbound.bad_subjects,
            late_replies=connection.asks.late,
            refused=connection.inboxes.refused,
            dropped=connection.dropped,
        )

    def publish(
        self, subject: str, data: bytes, reply: str = "", header_block: bytes = b""
    ) -> None:
        """Send to whoever listens.  At most once.  See `Bus`."""
        connection = self._connection
        if not connection.up:
            raise Disconnected(connection.why_down)
        size = len(data) + len(header_block)
        check_publish(subject, reply, size, connection.max_payload)
        connection.send(_command(subject, reply, data, header_block))

    def respond(self, message: Message, data: bytes, header_block: bytes = b"") -> None:
        """Answer `message`.  See `Bus`.

        Hot path: the subject came from the server and needs no check.
        """
        connection = self._connection
        if not connection.up:
            raise Disconnected(connection.why_down)
        head = len(header_block)
        size = head + len(data)
        if size > connection.max_payload:
            check_publish(message.reply, "", size, connection.max_payload)
        subject, sizes = message.reply.encode(), _SIZES[head, size]
        connection.send(
            b"".join((b"HPUB ", subject, sizes, header_block, data, b"\r\n"))
            if head
            else b"".join((b"PUB ", subject, sizes, data, b"\r\n"))
        )

    def acknowledge(self, message: Message, data: bytes) -> None:
        """Answer `message` where nobody waits for it.  See `Bus`.

        Hot path, as `respond`.
        """
        connection = self._connection
        if not connection.up:
            raise Disconnected(connection.why_down)
        size = len(data)
        if size > connection.max_payload:
            check_publish(message.reply, "", size, connection.max_payload)
        connection.join(
            b"".join((b"PUB ", message.reply.encode(), _SIZES[0, size], data, b"\r\n"))
        )

    async def request(
        self, subject: str, data: bytes, timeout: float, header_block: bytes = b""
    ) -> Message:
        """Send and wait for one reply, at most `timeout` seconds.  See `Bus`."""
        ask = self.ask(subject, data, timeout, header_block)
        return await self._connection.asks.reply(ask)

    def ask(
        self, subject: str, data: bytes, timeout: float, header_block: bytes = b""
    ) -> Ask:
        """Send, and return the reply to await.  See `Bus`."""
        connection = self._connection
        head = len(header_block)
        size = head + len(data)
        start = self._asked.get(subject)
        if start is None or size > connection.max_payload:
            start = self._check(subject, size)
        ask = self._open(subject, timeout)
        if not head:
            start = start[1:]  # PUB
        sizes = _SIZES[head, size]
        try:
            connection.send(
                b"".join((start, ask.key, sizes, header_block, data, b"\r\n"))
            )
        except BaseException as error:
            self.give_up(ask, error)
            raise
        return ask

    def give_up(self, ask: Ask, error: BaseException) -> None:
        """Wait no longer for an ask.  See `Bus`."""
        self._connection.asks.give_up(ask, error)

    def subscribe(
        self, subject: str, handler: Handler, queue: str = ""
    ) -> _NatsSubscription:
        """Call `handler` with each message on `subject`.  See `Bus`."""
        check_pattern(subject)
        check_queue(queue)
        connection = self._connection
        if connection.is_closed:
            raise Disconnected(connection.why_down)
        return _NatsSubscription(
            connection, connection.listen(subject, queue, handler), subject
        )

    def watch(self, on_change: Callable[[bool], None]) -> Callable[[], None]:
        """Call `on_change` with `is_connected` whenever it changes; returns an undo."""
        return self._watchers.add(on_change)

    def watch_denials(self, on_denied: Callable[[str], None]) -> None:
        """Call `on_denied` with each subject that this user may not use.  See `Bus`."""
        self._connection.denials.watch(on_denied)

    def watch_pings(self, on_ping: Callable[[], object]) -> None:
        """Call `on_ping` at each ping of the server; of one who watches, the last."""
        self._connection.on_ping = on_ping

    def soon(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the present read is over, or next turn.  See `Bus`."""
        self._connection.soon(callback)

    def stood(self, now: float) -> float:
        """Return for how long what is handed over now may have lain here.  See `Bus`."""
        return self._connection.stood(now)

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server knows all that was sent or subscribed before.

        Raises:
            DeadlineExceeded: It took longer than `timeout` seconds.
            Disconnected: No connection, or lost while waiting.
        """
        if not self._connection.up:
            raise Disconnected(self._connection.why_down)
        try:
            async with asyncio.timeout(timeout):
                await self._connection.ping()
        except TimeoutError:
            raise DeadlineExceeded(f"NATS took no notice in {timeout:g} s") from None

    def set_servers(self, servers: str | Sequence[str]) -> None:
        """Take these servers from now on, beside those that the cluster tells of.

        The present connection stays while it is good, also to one that is not among them.

        Raises:
            InvalidArgument: An address cannot be read.
        """
        self._connection.set_servers(parse_servers(servers)[0])

    def on_close(self, close: Callable[[], Awaitable[object]]) -> None:
        """Call `close` when the bus is closed, before it disconnects."""
        self._closers.append(close)

    async def close(self) -> None:
        """Send what is buffered, end the waits, disconnect.  Takes 2 s at most."""
        closers, self._closers = self._closers, []
        for close in closers:
            await close()
        if not self._connection.is_closed:
            await self._connection.shut("the bus is closed")

    def _check(self, subject: str, size: int) -> bytes:
        connection = self._connection
        if not connection.up:
            raise Disconnected(connection.why_down)
        if connection.denials.inbox_denied:
            raise connection.denials.inbox_error()
        check_publish(subject, "", size, self._connection.max_payload)
        if len(self._asked) >= _REMEMBERED:
            self._asked.clear()
        start = self._asked[subject] = f"HPUB {subject} {connection.inbox}".encode()
        return start

    def _abandon(self, asks: list[Ask]) -> None:
        """Tell the services that nobody awaits the answers to `asks` any more."""
        try:
            for subject, data in cancellations(asks, self._connection.inbox):
                self.publish(subject, data)
        except KitError as error:
            _log.debug("could not tell that %d asks ended: %s", len(asks), error)


class _Sizes(dict[tuple[int, int], bytes]):
    """End of a command's line, by length of the header block, and of it and payload.

    Most messages are as long as others were: a look-up takes a third of formatting them.
    """

    def __missing__(self, lengths: tuple[int, int]) -> bytes:
        head, size = lengths
        text = b" %d %d\r\n" % lengths if head else b" %d\r\n" % size
        if len(self) < _REMEMBERED:
            self[lengths] = text
        return text


_SIZES: Final = _Sizes()


def _command(subject: str, reply: str, data: bytes, header_block: bytes) -> bytes:
    """Return the command that publishes."""
    head = len(header_block)
    kind = b"HPUB " if head else b"PUB "
    to = f"{subject} {reply}" if reply else subject
    sizes = _SIZES[head, head + len(data)]
    return b"".join((kind, to.encode(), sizes, header_block, data, b"\r\n"))


def _with_user(options: NatsOptions, user: str, password: str) -> NatsOptions:
    """Return `options` with the user that stood in an address."""
    if not user:
        return options
    if options.identity != "no user":
        raise InvalidArgument("the NATS address names a user and so do the options")
    if password:
        return replace(options, user=user, password=password)
    return replace(options, token=user)


# -- errors: (class of nats-py or the system, what to say); the first that fits counts.

_REASONS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (
        ssl.SSLCertVerificationError,
        "its certificate is not trusted: {0.verify_message}",
    ),
    (ssl.SSLError, "TLS failed: {0.reason}"),
    (socket.gaierror, "host name not found"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionResetError, "it closed the connection"),
    (TimeoutError, "no answer in time"),
    (errors.SecureConnWantedError, "it does not offer TLS"),
    (errors.UnexpectedEOF, "it closed the connection"),
)
_NO_CERTIFICATE: Final = "authentication by certificate: set tls_cert and tls_key"


def _translate(options: NatsOptions, failures: dict[str, Exception]) -> KitError:
    """Return the error for a first connection that no server took."""
    for server, error in failures.items():
        reason = _reason(error)
        if isinstance(error, errors.Error) and "auth" in reason.lower():
            return Unauthenticated(
                f"NATS server at {server} refused {options.identity}: {reason}"
            )
        if isinstance(error, KitError) and not isinstance(error, Unavailable):
            return error
    where = ", ".join(options.servers)
    why = "; ".join(dict.fromkeys(map(_reason, failures.values())))
    return Unavailable(
        f"no NATS server at {where}: {why}; start one with `kitmsg dev` or"
        " `docker compose up nats`, or set NATS_URL"
    )


def _reason(error: Exception) -> str:
    for kind, text in _REASONS:
        if isinstance(error, kind):
            return text.format(error)
    text = str(error).removeprefix("nats: ").strip("'") or type(error).__name__
    # Several addresses of one name: asyncio puts their failures into one OSError.
    return "connection refused" if "Connect call failed" in text else text
