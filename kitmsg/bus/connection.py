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
from typing import TYPE_CHECKING, Any, Final, cast

from kitmsg.bus.asks import Asks
from kitmsg.bus.denials import Denials
from kitmsg.bus.dialer import Dialer, backoff, text_of
from kitmsg.bus.foreign import Foreign
from kitmsg.bus.inbound import Inbound
from kitmsg.bus.inboxes import Inboxes
from kitmsg.bus.link import CLOSE_SECONDS, Link
from kitmsg.bus.mover import Mover
from kitmsg.bus.moving import Parting
from kitmsg.bus.natspy import PERMISSIONS_ERR, Client, Subscription, errors, is_tried
from kitmsg.bus.outbox import Outbox
from kitmsg.bus.soon import Soon
from kitmsg.bus.subscribed import Subscribed
from kitmsg.bus.watchdog import Watchdog
from kitmsg.bus.wire import Parser, ProtocolError
from kitmsg.errors import Disconnected
from kitmsg.wire import INBOX_MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kitmsg.bus import Handler
    from kitmsg.bus.moving import Held
    from kitmsg.bus.natspy import Srv
    from kitmsg.bus.options import NatsOptions

__all__ = ["Connection", "errors"]

_log = logging.getLogger("kitmsg.bus")

_READ_BYTES: Final = 64 << 10
_LOST: Final = "the connection to the bus was lost"  # where and why: in the log

# Errors after which the server keeps the connection open.
_HARMLESS = ("maximum subscriptions exceeded", "invalid subject", "invalid publish")


class Connection(Dialer):
    """One link to one of several servers, and the waits that hang on it.

    Args:
        options: How to reach the servers, and as whom.
        on_change: Called with `up` whenever it changes.

    Raises:
        InvalidArgument: The credentials in `options` cannot be used.
    """

    def __init__(self, options: NatsOptions, on_change: Callable[[bool], None]) -> None:
        super().__init__(options)
        self.asks = Asks()
        # `_pongs`, nats-py's: one future for each PING that is in the outbox or beyond, in
        # order; a PING is put before its future, so one that is refused leaves no future.
        self.subscribed = Subscribed(self._subs)
        # True exactly from the PONG behind the subscriptions until `_go_down`; asks and
        # publishes fail at once while it is False.
        self.up = False
        self.why_down = "not connected to NATS"
        self.dropped = 0  # commands thrown away unwritten, over all links
        self.on_ping: Callable[[], object] = lambda: None  # when the server pings
        nuid = self._nuid.next().decode()
        self.inbox = f"{options.inbox_prefix}.{INBOX_MARK}{nuid}."
        self.inboxes = Inboxes(options.inbox_prefix, *options.peer_inboxes)
        self.denials = Denials(self.asks, self.inbox)
        self._on_change = on_change
        self._foreign = Foreign(
            super()._process_msg, self.spawn, self._note_bad_subject
        )
        self.inbound = Inbound(self.asks, self.inbox, self._foreign.put)
        # Reads the link in use; `change_links` puts another one here together with the link,
        # and what is incomplete in it belongs to that link.
        self.parser = Parser(self.inbound.deliver, self._control)
        self.is_fast = options.fast and is_tried()
        self._soon = Soon(self.parser.feed)
        self.soon = self._soon.call
        # Attached to a wire exactly while a link may be written to: from `_take_over` until
        # `_go_down`, to a `Held` for a moment of a move.
        asks, most = self.asks, options.max_pending
        self._out = Outbox(self._soon, asks.count, most, asks.mark_written, self.lose)
        self.send = self._out.send
        self.join = self._out.join
        self.write = self._out.write
        self.is_busy = self._out.is_busy
        self._loop = asyncio.get_running_loop()
        self._watchdog = Watchdog(self)
        self.stood = self._watchdog.stood
        # Tasks of ours that are not nats-py's; `shut` cancels them.
        self._background: set[asyncio.Task[None]] = set()
        self._mover = Mover(self, options)

    # -- connecting ---------------------------------------------------------------

    async def open(self, server: str, pool: tuple[str, ...]) -> None:
        """Connect to `server`; later ones are taken from `pool`.

        Raises whatever went wrong: an `OSError`, a nats-py `Error` or a `TimeoutError`.
        """
        options = self._settings
        try:
            async with asyncio.timeout(options.connect_timeout):
                await self.dial(server)
                self._take_over()
                self._watchdog.start()
                await self._subscribe_inbox()
                await self.ping()
        except BaseException as error:
            self._drop_link()
            self._status = Client.CLOSED
            # uvloop's, of a transport that it has closed
            if isinstance(error, RuntimeError):
                raise ConnectionResetError from error
            raise
        self.options["allow_reconnect"] = options.reconnect
        self.add_servers(pool)
        self._go_up()

    def _take_over(self) -> None:
        """Use the link that the handshake left, subscriptions first."""
        # The handshake leaves CONNECTING when an INFO came before the PONG.
        self._status = Client.CONNECTED
        self.denials.inbox_denied = False
        self._out.attach(self.link.wire)
        self._watchdog.caught_up()  # what comes is younger than what asks for it
        self.put(*self.subscribed.commands())
        self.write()

    async def _process_info(
        self, info: dict[str, Any], initial_connection: bool = False
    ) -> None:
        """Follow what the server says of itself; leave it when it is about to stop."""
        if not initial_connection:
            self._server_info = {**self._server_info, **info}
            self._max_payload = info.get("max_payload", self._max_payload)
        await super()._process_info(info, initial_connection)
        if info.get("ldm") and not initial_connection:
            self.spawn(self._mover.leave())

    # A plain attribute, since it is looked at for each message; nats-py sets the other.
    max_payload: int = 1 << 20

    @property
    def _max_payload(self) -> int:
        return self.max_payload

    @_max_payload.setter
    def _max_payload(self, size: int) -> None:
        self.max_payload = size

    # -- up and down --------------------------------------------------------------

    def _go_up(self) -> None:
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
        self.lose(e)

    def lose(self, e: Exception) -> None:
        """Take the link for lost."""
        if self.is_closed or self.is_reconnecting:
            return
        if not self.up:  # whoever connects waits for a pong, and decides
            self._fail_pongs(e)
            return
        _log.warning("NATS connection to %s lost: %s", self.where(), text_of(e))
        if not self.options["allow_reconnect"]:
            self.spawn(self.shut(_LOST))
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
            await asyncio.sleep(backoff(attempt, len(self._server_pool)))
            try:
                async with asyncio.timeout(2 * self._settings.connect_timeout):
                    await self._select_next_server()
                    await self._process_connect_init()
                    self._take_over()
                    await self.ping()
            except Exception as error:  # noqa: BLE001  # never give up
                self.complain(attempt, error)
                attempt = self.next_attempt(attempt, error)
                continue
            self.stats["reconnects"] += 1
            _log.info("connected again to NATS at %s", self.where())
            self._go_up()
            return

    def _drop_link(self) -> None:
        """Let go of the socket and of the tasks that use it, without a wait."""
        self.abort()
        self.dropped += self._out.detach()
        self._ps.reset()
        self.parser.reset()
        self._fail_pongs(Disconnected("not connected to NATS"))

    # -- checks; see `Watchdog` -----------------------------------------------------

    @property
    def reads(self) -> int:
        """Number of chunks read so far."""
        return self._soon.reads

    @property
    def is_linked(self) -> bool:
        """Whether a server may send messages, be it that nothing is up yet."""
        return self._out.wire is not None

    @property
    def is_expecting(self) -> bool:
        """Whether an ask or a PONG is awaited."""
        return bool(self.asks) or bool(self._pongs)

    def ping_now(self, pong: asyncio.Future[Any]) -> None:
        """Ask for a sign of life, and wait for nothing."""
        self._ping(pong)
        self.write()

    def revive(self) -> bool:
        """Bring back what died without a word; returns whether anything had."""
        reading, connecting = self._reading_task, self._reconnection_task
        if self.up and (reading is None or reading.done()):
            self.spawn(self._process_op_err(errors.Error("the reader stopped")))
            return True
        is_wanted = not self.up and self.options["allow_reconnect"]
        if is_wanted and (connecting is None or connecting.done()):
            self._start_reconnecting()
            return True
        return False

    # -- moving to another server; see `Mover` --------------------------------------

    @property
    def server(self) -> Srv | None:
        """The server connected to, or tried last."""
        return self._current_server

    def change_links(
        self, scout: Dialer, server: Srv, fresh: Parser, held: Held
    ) -> Parting:
        """Read the link of `scout` with `fresh` from now on, and write to `held`.

        Returns:
            The old link, which is still read, and gets nothing but what was written before.
        """
        old, parser, new = self.link, self.parser, scout.link
        leaving, self._pongs = Parting(old, self._pongs), []
        self._pings_outstanding = 0
        self.write()
        self._out.attach(cast("asyncio.WriteTransport", held))
        self._transport, self.parser = new, fresh
        self._current_server, self._server_info = server, scout._server_info  # noqa: SLF001
        self._max_payload = scout.max_payload
        parser.control_with(leaving.control)
        old.feed_with(parser.feed, leaving.lost)
        fresh.control_with(self._control)
        self._soon.feed_with(fresh.feed)
        new.feed_with(self._soon.feed, lambda error: self._on_lost(new, error))
        return leaving

    def write_held(self, held: Held, new: Link) -> None:
        """Write to `new` what was held, and all that follows."""
        wire: object = self._out.wire
        if wire is held:  # else the new link is lost already
            self._out.attach(new.wire)
            for chunk in held.chunks:
                new.wire.write(chunk)

    # -- the end ------------------------------------------------------------------

    async def shut(self, reason: str) -> None:
        """Write what is buffered, fail the waits, let go; in about 2 s, no errors."""
        self._watchdog.stop()
        for task in self._background - {asyncio.current_task()}:
            task.cancel()
        self.write()
        self._go_down(reason)
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await super()._close(Client.CLOSED)
        except Exception as error:  # noqa: BLE001  # a dead link; it is closed all the same
            _log.debug("closing the NATS connection: %s", text_of(error))
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
        self.write()

    def put(self, *commands: bytes) -> None:
        """Write `commands` soon, however much is waiting; see `Outbox`."""
        for command in commands:
            self._out.put(command)

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
            self._out.put(self.subscribed.command(sid))
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
        if self.is_fast and isinstance(self._transport, Link):
            link = self._transport
            link.read_with(self._soon.feed, lambda error: self._on_lost(link, error))
            await self._loop.create_future()  # nats-py wants a task that lives
        await self._read_plainly()

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        if link is self._transport:
            self.spawn(self._process_op_err(error or errors.UnexpectedEOF()))

    def _control(self, line: bytes) -> None:
        """Take a line that is no message; those that may wait get a task."""
        if line == b"PING":
            self._pong()
        elif line == b"PONG":
            self._ponged()
        elif line.startswith(b"-ERR"):
            text = line[4:].strip().decode(errors="replace").lower()
            self.spawn(self._process_err(text))
        elif line.startswith(b"INFO"):
            self.spawn(self._process_info(json.loads(line[4:])))
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
            await self._foreign.take(sid, subject, reply, data, headers)

    def _note_bad_subject(self) -> None:
        self.inbound.bad_subjects += 1

    async def _process_ping(self) -> None:
        self._pong()

    async def _process_pong(self) -> None:
        self._ponged()

    def _pong(self) -> None:
        self.on_ping()
        if self._out.wire is not None:
            self._out.put(b"PONG\r\n")
            self.write()

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
            self.complain_once(text)
            self.denials.note(text)
        elif text.startswith(_HARMLESS):
            self.complain_once(text)
        else:
            await self._process_op_err(errors.Error(text))

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work`, and cancel it when this is shut."""
        task = self._loop.create_task(work)
        self._background.add(task)  # the loop itself holds a task only weakly
        task.add_done_callback(self._background.discard)
        return task
