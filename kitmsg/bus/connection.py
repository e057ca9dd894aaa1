"""One connection to NATS: the client of nats-py, hardened, with a data path of its own.

nats-py keeps TLS, the handshake and JetStream.  This subclass takes over

- dispatch: our subscriptions are called straight from the reader, no task between;
- writing: one list for every command, joined and written once per loop turn, bounded;
- failure: whatever is wrong with the link ends in `_go_down`, which fails every wait at
  once and throws away what was not written, so that nothing is sent later;
- connecting again: for ever, with backoff and jitter, and a watchdog over it.

The private parts of nats-py that it touches are named in `kitmsg.bus.natspy`.

The hot path is `send`, which is the outbox's, and what the parser calls, `Inbound`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import operator
import random
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from kitmsg.bus.asks import Asks
from kitmsg.bus.credentials import Signer
from kitmsg.bus.denials import Denials
from kitmsg.bus.inbound import Inbound
from kitmsg.bus.inboxes import Inboxes
from kitmsg.bus.link import CLOSE_SECONDS, Link
from kitmsg.bus.moving import Held, Overlap, Parting
from kitmsg.bus.natspy import (
    PERMISSIONS_ERR,
    Client,
    Srv,
    Subscription,
    errors,
    is_tried,
)
from kitmsg.bus.outbox import Outbox
from kitmsg.bus.pulse import STEP, Pulse, Verdict
from kitmsg.bus.soon import Soon
from kitmsg.bus.wire import Parser, ProtocolError
from kitmsg.errors import Disconnected, KitError
from kitmsg.wire import INBOX_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Handler
    from kitmsg.bus.options import NatsOptions

__all__ = ["Connection", "errors"]

_log = logging.getLogger("kitmsg.bus")

_STOOD: Final = (
    STEP + 0.2
)  # seconds between two checks; more is a loop that stood still
_READ_BYTES: Final = 64 << 10
_LINE_BYTES: Final = 1 << 20  # the INFO of a big cluster is a long line
_FIRST_WAIT: Final = 0.25
_SLOWEST_ROUND: Final = 3  # 0.25 s doubled so often is the longest wait
_LAME_DUCK_STEP: Final = 0.1
_LAME_DUCK_STEPS: Final = 50
_PARTING_SECONDS: Final = 1.0
_REMEMBERED: Final = 1000
_LOST: Final = "the connection to the bus was lost"  # where and why: in the log

# Errors after which the server keeps the connection open.
_HARMLESS = ("maximum subscriptions exceeded", "invalid subject", "invalid publish")


class Connection(Client):
    """One link to one of several servers, and the waits that hang on it.

    Args:
        options: How to reach the servers, and as whom.
        on_change: Called with `up` whenever it changes.

    Raises:
        InvalidArgument: The credentials in `options` cannot be used.
    """

    def __init__(self, options: NatsOptions, on_change: Callable[[bool], None]) -> None:
        super().__init__()
        self.asks = Asks()
        self.up = False
        self.why_down = "not connected to NATS"
        self.dropped = 0
        self.on_ping: Callable[[], object] = lambda: None  # when the server pings
        nuid = self._nuid.next().decode()
        self.inbox = f"{options.inbox_prefix}.{INBOX_MARK}{nuid}."
        self.inboxes = Inboxes(options.inbox_prefix, *options.peer_inboxes)
        self.denials = Denials(self.asks, self.inbox)
        self._options = options
        self._on_change = on_change
        self.inbound = Inbound(self.asks, self.inbox, self._queue_foreign)
        self._complained: set[str] = set()
        self._foreign: deque[tuple[Any, ...]] = deque()
        self._parser = Parser(self.inbound.deliver, self._control)
        self._is_fast = options.fast and is_tried()
        self._soon = Soon(self._parser.feed)
        self.soon = self._soon.call
        self._out = Outbox(
            self._soon,
            self.asks.__len__,
            options.max_pending,
            self.asks.mark_written,
            self._lose,
        )
        self.send = self._out.send
        self.is_busy = self._out.is_busy
        self._loop = asyncio.get_running_loop()
        self._watchdog: asyncio.TimerHandle | None = None
        self._pulse = Pulse()
        # What is read now came later than this: the loop turned then, or it had stood still
        # and the server has answered since.
        self._turned = self._loop.time()
        self._background: set[asyncio.Task[None]] = set()
        # Held while one server is left for another: there are two links at once, never three,
        # since copies are told from repetitions by two.
        self._moving = asyncio.Lock()
        self._parting: asyncio.Task[None] | None = None  # from the server left last
        # nats-py's own reader of creds files never ends on a file without a JWT.
        self._signer = Signer(options) if options.needs_signer else None

    # -- connecting ---------------------------------------------------------------

    async def open(self, server: str, pool: tuple[str, ...]) -> None:
        """Connect to `server`; later ones are taken from `pool`.

        Raises whatever went wrong: an `OSError`, a nats-py `Error` or a `TimeoutError`.
        """
        options = self._options
        try:
            async with asyncio.timeout(options.connect_timeout):
                await self._connect(server)
                self._take_over()
                await self._subscribe_inbox()
                await self.ping()
        except BaseException as error:
            self._drop_link()
            self._status = Client.CLOSED
            if isinstance(
                error, RuntimeError
            ):  # uvloop's, of a transport it has closed
                raise ConnectionResetError from error
            raise
        self.options["allow_reconnect"] = options.reconnect
        known = {srv.uri.netloc for srv in self._server_pool}
        uris = [self._parse_server_uri(url) for url in pool]
        self._server_pool[:0] = [Srv(uri) for uri in uris if uri.netloc not in known]
        self._watchdog = self._loop.call_later(STEP, self._watch)
        self._go_up()

    def set_servers(self, pool: tuple[str, ...]) -> None:
        """Take later servers from `pool`, and from those that the cluster told of."""
        known = {srv.uri.netloc: srv for srv in self._server_pool}
        uris = {uri.netloc: uri for uri in map(self._parse_server_uri, pool)}
        told = {name: srv for name, srv in known.items() if srv.discovered}
        given = {name: known.get(name) or Srv(uri) for name, uri in uris.items()}
        # In place: whoever connects just now reads it.
        self._server_pool[:] = {**given, **told}.values()

    async def _connect(self, server: str) -> None:
        options, signer = self._options, self._signer
        if signer is not None and not options.creds:
            self._public_nkey = signer.public_key
        await super().connect(
            [server],
            error_cb=self._note_error,
            name=options.name or None,
            allow_reconnect=False,
            connect_timeout=options.connect_timeout,  # type: ignore[arg-type]
            ping_interval=options.ping_interval,  # type: ignore[arg-type]
            dont_randomize=True,
            user=options.user or None,
            password=options.password or None,
            token=options.token or None,
            signature_cb=signer.sign if signer is not None else None,
            user_jwt_cb=signer.jwt if signer is not None and options.creds else None,
            inbox_prefix=options.inbox_prefix,
            pending_size=0,
            tls=options.ssl_context(),
            tls_hostname=options.tls_hostname or None,
            tls_handshake_first=options.tls_first,
        )

    async def _select_next_server(self) -> None:
        """Try the next server once; the caller decides about another try."""
        server = self._server_pool.pop(0)
        self._server_pool.append(server)
        self._current_server = server
        self._transport = Link()  # type: ignore[no-untyped-call]
        await self._transport.connect(
            server.uri,
            buffer_size=_LINE_BYTES,
            connect_timeout=self.options["connect_timeout"],
        )

    def _take_over(self) -> None:
        """Use the link that the handshake left, subscriptions first."""
        assert isinstance(self._transport, Link)  # noqa: S101  # _select_next_server
        # The handshake leaves CONNECTING when an INFO came before the PONG.
        self._status = Client.CONNECTED
        self.denials.inbox_denied = False
        self._out.attach(self._transport.wire)
        for command in self._subscriptions():
            self._out.put(command)
        self._out.write()

    def _subscriptions(self) -> list[bytes]:
        commands: list[bytes] = []
        for sid, sub in list(self._subs.items()):
            left = sub._max_msgs - sub._received  # noqa: SLF001
            if sub._max_msgs > 0 and left <= 0:  # noqa: SLF001
                del self._subs[sid]
                continue
            queue = sub._queue or ""  # noqa: SLF001
            commands.append(f"SUB {sub.subject} {queue} {sid}\r\n".encode())
            if sub._max_msgs > 0:  # noqa: SLF001
                commands.append(b"UNSUB %d %d\r\n" % (sid, left))
        return commands

    async def _process_info(
        self, info: dict[str, Any], initial_connection: bool = False
    ) -> None:
        """Follow what the server says of itself; see that TLS is used when wanted."""
        if initial_connection:
            self._require_tls(info)
        else:
            self._server_info = {**self._server_info, **info}
            self._max_payload = info.get("max_payload", self._max_payload)
        await super()._process_info(info, initial_connection)
        if info.get("ldm") and not initial_connection:
            self._spawn(self._leave_lame_duck())

    # As nats-py's own, without a step in Python: it is looked at for each message.
    max_payload: property = property(operator.attrgetter("_max_payload"))

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 when there is none."""
        return self._transport.fileno() if isinstance(self._transport, Link) else -1

    @property
    def lacks_certificate(self) -> bool:
        """Whether the server wants a client's certificate and there is none to show."""
        options = self._options
        wanted = bool(self._server_info.get("tls_verify"))
        return wanted and options.tls is None and not options.tls_cert

    def _require_tls(self, info: dict[str, Any]) -> None:
        assert self._current_server is not None  # noqa: S101  # _select_next_server
        asked = "tls" in self.options or self._current_server.uri.scheme == "tls"
        if not asked or info.get("tls_required") or self._options.tls_first:
            return
        if not info.get("tls_available"):
            raise errors.SecureConnWantedError
        info["tls_required"] = True  # nats-py upgrades when it reads this

    # -- up and down --------------------------------------------------------------

    def stood(self, now: float) -> float:
        """Return for how long what is read now may have lain here.  See `Bus`."""
        gap = now - self._turned
        return gap if gap > _STOOD else 0.0

    def _go_up(self) -> None:
        self._turned = self._loop.time()
        self.up = True
        self._on_change(True)

    def _go_down(self, reason: str) -> None:
        """Fail every wait, and forget what was not written: the one way down."""
        was_up, self.up, self.why_down = self.up, False, reason
        self.dropped += self._out.detach()
        self.asks.fail_all(reason)
        self._fail_pongs(Disconnected(reason))
        if was_up:
            self._on_change(False)

    def _fail_pongs(self, error: Exception) -> None:
        pongs, self._pongs = self._pongs, []
        for future in pongs:
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: a life sign has nobody who waits for it

    async def _process_op_err(self, e: Exception) -> None:
        self._lose(e)

    def _lose(self, e: Exception) -> None:
        """Take the link for lost."""
        if self.is_closed or self.is_reconnecting:
            return
        if not self.up:  # whoever connects waits for a pong, and decides
            self._fail_pongs(e)
            return
        _log.warning("NATS connection to %s lost: %s", self._where(), _text(e))
        if not self.options["allow_reconnect"]:
            self._spawn(self.shut(_LOST))
            self._status = Client.DISCONNECTED
        else:
            self._status = Client.RECONNECTING
            self._start_reconnecting()
        self._go_down(_LOST)

    async def force_reconnect(self) -> None:
        """Leave this server for the next one of the pool."""
        await self._process_op_err(errors.Error("another server is wanted"))

    def _start_reconnecting(self) -> None:
        if self._reconnection_task is not None:
            self._reconnection_task.cancel()
        self._reconnection_task = self._loop.create_task(self._attempt_reconnect())

    async def _attempt_reconnect(self) -> None:
        attempt = 0
        pool, left = self._server_pool, self._current_server
        pool.sort(key=lambda server: server is left)  # the others first
        while not self.is_closed:
            self._drop_link()
            self._status = Client.RECONNECTING
            await asyncio.sleep(_backoff(attempt, len(self._server_pool)))
            try:
                async with asyncio.timeout(2 * self._options.connect_timeout):
                    await self._select_next_server()
                    await self._process_connect_init()
                    self._take_over()
                    await self.ping()
            except Exception as error:  # noqa: BLE001  # never give up
                _complain(attempt, self._where(), error)
                attempt = self._next_attempt(attempt, error)
                continue
            self.stats["reconnects"] += 1
            _log.info("connected again to NATS at %s", self._where())
            self._go_up()
            return

    def _next_attempt(self, attempt: int, error: Exception) -> int:
        """Count; who is refused goes on at the slowest pace, it takes a person."""
        refused = isinstance(error, errors.Error) and "auth" in _text(error).lower()
        return max(attempt + 1, _SLOWEST_ROUND * len(self._server_pool) * refused)

    def _drop_link(self) -> None:
        """Let go of the socket and of the tasks that use it, without a wait."""
        current = asyncio.current_task()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not current:
                task.cancel()
        if isinstance(self._transport, Link):
            self._transport.abort()
        self.dropped += self._out.detach()
        self._ps.reset()
        self._parser.reset()
        self._fail_pongs(Disconnected("not connected to NATS"))

    def _watch(self) -> None:
        """At each step: find what died without a word, and bring it back."""
        if self.is_closed:
            return
        self._note_turn()
        reading, connecting = self._reading_task, self._reconnection_task
        if self.up and (reading is None or reading.done()):
            self._spawn(self._process_op_err(errors.Error("the reader stopped")))
        elif self._should_be_connecting and (connecting is None or connecting.done()):
            self._start_reconnecting()
        elif self.up:
            self._feel_pulse()
        self._watchdog = self._loop.call_later(STEP, self._watch)

    def _note_turn(self) -> None:
        """Note that the loop turns; after a stop, once what lay here has been read."""
        now = self._loop.time()
        if now - self._turned <= _STOOD or not self.up:
            self._turned = now
            return
        pong: asyncio.Future[bool] = self._loop.create_future()
        pong.add_done_callback(lambda _: self._caught_up())
        self._ping(pong)  # its PONG stands behind it
        self._out.write()

    def _caught_up(self) -> None:
        self._turned = self._loop.time()

    def _feel_pulse(self) -> None:
        """Leave a server that answers nothing while something is awaited."""
        assert isinstance(self._transport, Link)  # noqa: S101  # _select_next_server
        verdict = self._pulse.check(
            self._loop.time(),
            self._soon.reads,
            self._transport.backlog,
            is_expecting=bool(self.asks) or bool(self._pongs),
        )
        if verdict is Verdict.PING:
            self._ping(self._loop.create_future())
            self._out.write()
        elif verdict is Verdict.DEAD:
            self._lose(errors.Error("it answers nothing, not even a ping"))

    @property
    def _should_be_connecting(self) -> bool:
        return not self.up and bool(self.options["allow_reconnect"])

    # -- moving to another server -------------------------------------------------

    async def _leave_lame_duck(self) -> None:
        """Move to another server, with two links for a moment, so that nothing is lost."""
        duck = self._current_server
        async with self._moving:
            if self._parting is not None:
                await asyncio.wait((self._parting,))
            if self._current_server is duck:
                await self._leave(duck)

    async def _leave(self, duck: Srv | None) -> None:
        others = [server for server in self._server_pool if server is not duck]
        if not others:
            _log.warning("NATS at %s is about to stop; no other known", self._where())
            return
        _log.warning("NATS at %s is about to stop; leaving it", self._where())
        if self._is_fast:
            for server in others:
                if await self._move(server) or self._current_server is not duck:
                    return
        await self._leave_with_a_gap()

    async def _leave_with_a_gap(self) -> None:
        """Move to another server once nothing is awaited, or after 5 s."""
        for _ in range(_LAME_DUCK_STEPS):
            if not self.asks:
                break
            await asyncio.sleep(_LAME_DUCK_STEP)
        self._out.write()
        await self.force_reconnect()

    async def _move(self, server: Srv) -> bool:
        """Go over to `server` with everything; False if that did not succeed."""
        scout = _Scout(self._options, lambda _: None)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                link = await scout.reach(f"{server.uri.scheme}://{server.uri.netloc}")
                await self._change_links(link, scout, server)
        except (OSError, errors.Error, KitError, RuntimeError) as error:
            _log.debug("cannot move to %s: %s", server.uri.netloc, _text(error))
            scout.abandon(self._transport)
            self._parser.deliver_to(self.inbound.deliver)
            return False
        return True

    async def _change_links(self, new: Link, scout: Client, server: Srv) -> None:
        """Subscribe at the new link, then write there, then leave the old one."""
        old, parser = self._transport, self._parser
        assert isinstance(old, Link)  # noqa: S101  # _select_next_server
        known = set(self._subs)
        queued = {sid for sid in known if self._subs[sid]._queue}  # noqa: SLF001
        overlap = Overlap(self.inbound.deliver, queued)
        # Before the new link is in use: only its PONG counts.
        arriving = Parting(new, [])
        fresh = Parser(overlap.new, arriving.control)
        new.read_with(fresh.feed, arriving.lost)
        parser.deliver_to(overlap.old)
        await arriving.ask(b"".join(self._subscriptions()))
        if old is not self._transport or not self.up or new.wire.is_closing():
            raise ConnectionResetError
        # From here on the new link is ours; the old one is read until it has nothing left.
        leaving, self._pongs = Parting(old, self._pongs), []
        self._pings_outstanding = 0
        self._out.write()
        held = Held()
        self._out.attach(cast("asyncio.WriteTransport", held))
        self._transport, self._parser = new, fresh
        self._current_server, self._server_info = server, scout._server_info  # noqa: SLF001
        self._max_payload = scout.max_payload
        parser.control_with(leaving.control)
        old.feed_with(parser.feed, leaving.lost)
        self._read_from(new, fresh)
        self._catch_up(known)
        self._parting = self._spawn(self._part(old, leaving, held, known))
        _log.info("moved to NATS at %s", self._where())

    def _read_from(self, new: Link, fresh: Parser) -> None:
        fresh.control_with(self._control)
        self._soon.feed_with(fresh.feed)
        new.feed_with(self._soon.feed, lambda error: self._on_lost(new, error))

    def _catch_up(self, known: set[int]) -> None:
        """Tell the new server of the subscriptions that came and went meanwhile."""
        for sid in known - set(self._subs):
            self._out.put(b"UNSUB %d\r\n" % sid)
        for sid in set(self._subs) - known:
            sub = self._subs[sid]
            queue = sub._queue or ""  # noqa: SLF001
            self._out.put(f"SUB {sub.subject} {queue} {sid}\r\n".encode())

    async def _part(
        self, old: Link, leaving: Parting, held: Held, known: set[int]
    ) -> None:
        """Write again when the old server has all that it was told; leave it in a while."""
        fresh = self._parser
        try:
            await self._write_again(leaving, held)
            # By then every server of the cluster knows the new subscriptions.
            await asyncio.sleep(_PARTING_SECONDS)
            await _briefly(leaving.ask(b"".join(b"UNSUB %d\r\n" % s for s in known)))
        except RuntimeError:  # uvloop's, of a transport that is closed
            _log.debug("a link to NATS ended before it was left")
        finally:
            leaving.lost()
            old.abort()
        # And by then the new link has brought the copies of what the old one brought.
        await asyncio.sleep(_PARTING_SECONDS)
        fresh.deliver_to(self.inbound.deliver)

    async def _write_again(self, leaving: Parting, held: Held) -> None:
        """Write to the new link, once the old server has all that it was told."""
        new = self._transport
        assert isinstance(new, Link)  # noqa: S101  # `_change_links`
        await _briefly(leaving.ask())
        wire: object = self._out.wire
        if wire is held:  # else the new link is lost already
            self._out.attach(new.wire)
            for chunk in held.chunks:
                new.wire.write(chunk)

    async def shut(self, reason: str) -> None:
        """Write what is buffered, fail the waits, let go; in about 2 s, no errors."""
        if self._watchdog is not None:
            self._watchdog.cancel()
        for task in self._background - {asyncio.current_task()}:
            task.cancel()
        self._out.write()
        self._go_down(reason)
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await super()._close(Client.CLOSED)
        except Exception as error:  # noqa: BLE001  # a dead link; it is closed all the same
            _log.debug("closing the NATS connection: %s", _text(error))
        self._drop_link()
        self._status = Client.CLOSED

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        await self.shut("the bus is closed")

    # -- writing ------------------------------------------------------------------

    async def ping(self) -> None:
        """Wait until the server has taken all that was sent before."""
        future = self._loop.create_future()
        await self._send_ping(future)
        await future

    # What nats-py itself writes (JetStream, PONG) goes the same way.

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        if self._out.wire is None:
            raise Disconnected(self.why_down)
        self._ping(future or self._loop.create_future())
        self._out.write()

    def _ping(self, pong: asyncio.Future[Any], command: bytes = b"PING\r\n") -> None:
        """Send `command`, which ends with a PING, and expect its PONG."""
        self._out.put(command)
        self._pongs.append(pong)

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        if self._out.wire is None:
            return  # a SUB: sent again later
        send = self.send if cmd.startswith((b"PUB", b"HPUB")) else self._out.put
        send(cmd)

    async def _flush_pending(self, force_flush: bool = False) -> None:
        """Nothing to do: `send` has seen to it."""

    async def _flusher(self) -> None:
        """Stand in for nats-py's writer, which others ask whether it is alive."""
        await self._loop.create_future()

    # -- subscriptions ------------------------------------------------------------

    def listen(self, subject: str, queue: str, handler: Handler) -> int:
        """Subscribe, now or when connected again; returns the subscription's id."""
        self._sid = sid = self._sid + 1
        self._subs[sid] = Subscription(self, sid, subject, queue, pending_msgs_limit=1)
        self.inbound.handlers[sid] = handler
        if self._out.wire is not None:
            self._out.put(f"SUB {subject} {queue} {sid}\r\n".encode())
        return sid

    def unlisten(self, sid: int) -> None:
        """Unsubscribe; what is on its way is still handed over."""
        if self._subs.pop(sid, None) is None:
            return
        if self._out.wire is None:
            self.inbound.handlers.pop(sid, None)
            return
        # The server answers the PING after the last message of this subscription.
        future = self._loop.create_future()
        future.add_done_callback(lambda _: self.inbound.handlers.pop(sid, None))
        self._ping(future, b"UNSUB %d\r\nPING\r\n" % sid)

    async def _subscribe_inbox(self) -> None:
        self.inbound.inbox_sid = self.listen(self.inbox + "*", "", self._ignore)

    def _ignore(self, _message: object) -> None:
        """Replies do not come this way; see `Inbound`."""

    # -- reading ------------------------------------------------------------------

    async def _read_loop(self) -> None:
        if self._is_fast and isinstance(self._transport, Link):
            link = self._transport
            link.read_with(self._soon.feed, lambda error: self._on_lost(link, error))
            await self._loop.create_future()  # nats-py wants a task that lives
        await self._read_plainly()

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        if link is self._transport:
            self._spawn(self._process_op_err(error or errors.UnexpectedEOF()))

    def _control(self, line: bytes) -> None:
        """Take a line that is no message; those that may wait get a task."""
        if line == b"PING":
            self._pong()
        elif line == b"PONG":
            self._ponged()
        elif line.startswith(b"-ERR"):
            text = line[4:].strip().decode(errors="replace").lower()
            self._spawn(self._process_err(text))
        elif line.startswith(b"INFO"):
            self._spawn(self._process_info(json.loads(line[4:])))
        elif not line.startswith(b"+OK"):
            raise ProtocolError(f"not of the NATS protocol: {line[:80]!r}")

    async def _read_plainly(self) -> None:
        """Read as nats-py does, through its own parser."""
        link = self._transport
        assert link is not None  # noqa: S101  # the handshake came over it
        try:
            while link is self._transport and not self.is_closed:
                chunk = await link.read(_READ_BYTES)
                if not chunk:
                    await self._process_op_err(errors.UnexpectedEOF())
                    return
                self._soon.reads += 1
                await self._ps.parse(chunk)
                if len(chunk) == _READ_BYTES:
                    await asyncio.sleep(0)  # more is here; first let it be worked on
        except Exception as error:  # noqa: BLE001  # whatever it is, the link is lost
            if not isinstance(error, (OSError, errors.Error)):
                _log.exception("the NATS reader failed")
            if link is self._transport:
                await self._process_op_err(error)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        if sid in self.inbound.handlers:
            self.inbound.deliver(sid, subject, reply, headers or b"", data)
        else:
            await self._process_foreign(sid, subject, reply, data, headers)

    def _queue_foreign(self, *message: Any) -> None:
        self._foreign.append(message)
        if len(self._foreign) == 1:
            self._spawn(self._pass_on())

    async def _pass_on(self) -> None:
        """Hand to nats-py, in order, what is not ours."""
        while self._foreign:
            sid, subject, reply, header_block, data = self._foreign[0]
            await self._process_foreign(sid, subject, reply, data, header_block)
            self._foreign.popleft()

    async def _process_foreign(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Hand over to nats-py: JetStream and its like."""
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except UnicodeDecodeError:
            self.inbound.bad_subjects += 1
        except Exception:  # noqa: BLE001  # logged; one message must not end the reader
            _log.exception("nats-py could not take a message")

    async def _process_ping(self) -> None:
        self._pong()

    async def _process_pong(self) -> None:
        self._ponged()

    def _pong(self) -> None:
        self.on_ping()
        if self._out.wire is not None:
            self._out.put(b"PONG\r\n")
            self._out.write()

    def _ponged(self) -> None:
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)
        self._pongs_received += 1
        self._pings_outstanding = 0

    # -- what the server complains about ------------------------------------------

    async def _process_err(self, err_msg: str) -> None:
        text = err_msg.strip("'")
        if PERMISSIONS_ERR in text:
            self._complain_once(text)
            self.denials.note(text)
        elif text.startswith(_HARMLESS):
            self._complain_once(text)
        else:
            await self._process_op_err(errors.Error(text))

    def _complain_once(self, text: str) -> None:
        if text not in self._complained and len(self._complained) < _REMEMBERED:
            self._complained.add(text)
            _log.warning("NATS at %s: %s", self._where(), text)

    async def _note_error(self, error: Exception) -> None:
        """Note what nats-py reports; it calls this from the reader, so never wait."""
        if isinstance(error, errors.SlowConsumerError):
            self._complain_once(f"slow consumer on {error.sub.subject!r}")
        else:
            _log.debug("nats-py reports: %s", _text(error))

    def _where(self) -> str:
        server = self._current_server
        return f"{server.uri.scheme}://{server.uri.netloc}" if server else "no server"

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._background.add(task)  # the loop itself holds a task only weakly
        task.add_done_callback(self._background.discard)
        return task


class _Scout(Connection):
    """Reaches another server, and gives its link away."""

    async def reach(self, server: str) -> Link:
        """Return a link to `server` after the handshake, with nothing read from it."""
        await self._connect(server)
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        assert isinstance(self._transport, Link)  # noqa: S101  # _select_next_server
        return self._transport

    async def _read_loop(self) -> None:
        """Leave what comes to the one who gets the link."""

    def abandon(self, taken: object) -> None:
        """Close the link, unless it is the one that was `taken`."""
        if self._transport is not taken:
            self._drop_link()


async def _briefly(future: asyncio.Future[bool]) -> None:
    """Wait for `future`, a second at most."""
    await asyncio.wait([future], timeout=CLOSE_SECONDS)


def _text(error: BaseException) -> str:
    return (str(error) or type(error).__name__).removeprefix("nats: ").strip("'")


def _backoff(attempt: int, servers: int) -> float:
    """Return how long to wait before `attempt`, in seconds: less with more servers."""
    longest = _FIRST_WAIT * 2.0 ** min(attempt // servers, _SLOWEST_ROUND)
    jitter = random.uniform(0.5, 1)  # noqa: S311  # spreads load
    return longest * jitter / servers


def _complain(attempt: int, where: str, error: Exception) -> None:
    """Log the first failure to connect again, then each tenth."""
    level = logging.WARNING if attempt % 10 == 0 else logging.DEBUG
    _log.log(level, "cannot connect to NATS at %s yet: %s", where, _text(error))
