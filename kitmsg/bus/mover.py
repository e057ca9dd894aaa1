"""Leaves a server in lame duck mode for another one, without a gap.

The new link subscribes; then everything is written there; then the old link, read until it
has nothing left, is closed.  The parts are in `kitmsg.bus.moving`.  Where no other server
can be reached so, the connection is given up and made again, once nothing is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from kitmsg.bus.dialer import Dialer, text_of
from kitmsg.bus.link import CLOSE_SECONDS
from kitmsg.bus.moving import Held, Overlap, Parting
from kitmsg.bus.natspy import errors
from kitmsg.bus.wire import Parser
from kitmsg.errors import KitError

if TYPE_CHECKING:
    from kitmsg.bus.connection import Connection
    from kitmsg.bus.link import Link
    from kitmsg.bus.natspy import Srv
    from kitmsg.bus.options import NatsOptions

__all__ = ["Mover", "Scout"]

_log = logging.getLogger("kitmsg.bus")

_STEP: Final = 0.1
_STEPS: Final = 50
_PARTING_SECONDS: Final = 1.0


class Scout(Dialer):
    """Reaches another server, and gives its link away."""

    async def reach(self, server: Srv) -> None:
        """Do the handshake with `server`, and read nothing after it."""
        await self.dial(f"{server.uri.scheme}://{server.uri.netloc}")
        self.stop_tasks()

    async def _read_loop(self) -> None:
        """Leave what comes to the one who gets the link."""

    def abandon(self, taken: Link) -> None:
        """Close the link, unless it is the one that was `taken`."""
        if self._transport is not taken:
            self.abort()


class Mover:
    """Moves one connection to another server, whenever its own is about to stop.

    Args:
        connection: The connection.
        settings: How to reach another server, and as whom.
    """

    def __init__(self, connection: Connection, settings: NatsOptions) -> None:
        self._connection = connection
        self._settings = settings
        # Held while one server is left for another: there are two links at once, never
        # three, since `Overlap` tells copies from repetitions by two.
        self._moving = asyncio.Lock()
        # The end of the last move, during which the old link is still read; the next move
        # waits for it.  None before the first one.
        self._parting: asyncio.Task[None] | None = None

    async def leave(self) -> None:
        """Move, unless another call of this has done so meanwhile."""
        duck = self._connection.server
        async with self._moving:
            if self._parting is not None:
                await asyncio.wait((self._parting,))
            if self._connection.server is duck:
                await self._leave(duck)

    async def _leave(self, duck: Srv | None) -> None:
        connection = self._connection
        others = connection.servers_but(duck)
        if not others:
            _log.warning(
                "NATS at %s is about to stop; no other known", connection.where()
            )
            return
        _log.warning("NATS at %s is about to stop; leaving it", connection.where())
        if connection.is_fast:
            for server in others:
                if await self._move(server) or connection.server is not duck:
                    return
        await self._leave_with_a_gap()

    async def _leave_with_a_gap(self) -> None:
        """Connect to another server once nothing is awaited, or after 5 s."""
        for _ in range(_STEPS):
            if not self._connection.asks:
                break
            await asyncio.sleep(_STEP)
        self._connection.write()
        await self._connection.force_reconnect()

    async def _move(self, server: Srv) -> bool:
        """Go over to `server` with everything; False if that did not succeed."""
        connection, scout = self._connection, Scout(self._settings)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await scout.reach(server)
                await self._change_links(scout, server)
        except (OSError, errors.Error, KitError, RuntimeError) as error:
            _log.debug("cannot move to %s: %s", server.uri.netloc, text_of(error))
            scout.abandon(connection.link)
            connection.parser.deliver_to(connection.inbound.deliver)
            return False
        return True

    async def _change_links(self, scout: Scout, server: Srv) -> None:
        """Subscribe at the new link, then write there, then leave the old one."""
        connection, old, new = self._connection, self._connection.link, scout.link
        known = connection.subscribed.ids()
        overlap = Overlap(connection.inbound.deliver, connection.subscribed.queued())
        # Before the new link is in use: only its PONG counts.
        arriving = Parting(new, [])
        fresh = Parser(overlap.new, arriving.control)
        new.read_with(fresh.feed, arriving.lost)
        connection.parser.deliver_to(overlap.old)
        await arriving.ask(b"".join(connection.subscribed.commands()))
        if not connection.up or connection.link is not old or new.wire.is_closing():
            raise ConnectionResetError
        # From here on the new link is the connection's; the old one is read until it has
        # nothing left.
        held = Held()
        leaving = connection.change_links(scout, server, fresh, held)
        connection.put(*connection.subscribed.changes(known))
        self._parting = connection.spawn(self._part(old, leaving, held, known))
        _log.info("moved to NATS at %s", connection.where())

    async def _part(
        self, old: Link, leaving: Parting, held: Held, known: set[int]
    ) -> None:
        """Write again when the old server has all that it was told; leave it in a while."""
        fresh = self._connection.parser
        try:
            new = self._connection.link
            await _briefly(leaving.ask())
            self._connection.write_held(held, new)
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
        fresh.deliver_to(self._connection.inbound.deliver)


async def _briefly(future: asyncio.Future[bool]) -> None:
    """Wait for `future`, a second at most."""
    await asyncio.wait([future], timeout=CLOSE_SECONDS)
