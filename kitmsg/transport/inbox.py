"""The streams of one connection: their inbox, and the heartbeats that show who is gone."""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
import weakref
from typing import TYPE_CHECKING, Final, Protocol

from kitmsg.errors import BusDenied, KitError
from kitmsg.transport.frames import CANCEL_FRAME
from kitmsg.transport.wheel import Wheel
from kitmsg.wire import STREAM_INBOX

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.message import Message

__all__ = ["Inbox", "Party", "inbox_of"]

_log = logging.getLogger("kitmsg.transport")

_TICKS: Final = 4  # to a heartbeat
_QUIET: Final = 3  # ticks without sending anything before a heartbeat goes out
_RENEW: Final = 8  # ticks; see `Party.renew`
_BUSY_SECONDS: Final = 0.1  # for so long a stream counts as busy that took items
_SECRET_BYTES: Final = 9  # 72 bits, in 12 characters
_LOST: Final = 7  # ticks without hearing anything before the peer counts as lost


class Party(Protocol):
    """Receiver of the messages to one subject of the inbox."""

    quiet: int
    """Ticks since something was sent."""

    silent: int
    """Ticks since something came."""

    age: int
    """Ticks since the peer was told where to send to; see `renew`."""

    def take(self, message: Message) -> None:
        """Take one message."""
        ...

    def beat(self) -> None:
        """Tell the peer that this side is there."""
        ...

    def renew(self) -> None:
        """Have the peer send to another subject of this inbox from now on.

        A NATS user that may only answer may do so for a while, counted from when it first
        saw the reply subject.
        """
        ...

    def lost(self, error: str) -> None:
        """End: the peer is silent, or the bus was lost."""
        ...

    def denied(self, subject: str) -> None:
        """Hear that the server forbids `subject`, in lower case."""
        ...


class Inbox:
    """One inbox for all streams on a bus; made by `inbox_of`.

    Its messages go to the party that has their subject, by number.  Those that are
    watched have a heartbeat: silence is counted in ticks that this process really had, so
    that one that stood still for a while does not take everybody else for dead.

    A bus in memory may outlive its event loop; the parties of a loop that was before are
    forgotten with it.
    """

    def __init__(self, bus: Bus) -> None:
        self.prefix = f"{bus.inbox.removesuffix('.')}{STREAM_INBOX}."
        self._bus = weakref.ref(bus)
        self._parties: dict[str, Party] = {}
        self._wheels: dict[float, Wheel[Party]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        bus.subscribe(f"{self.prefix}*", self._take)
        self._busy: set[int] = set()
        self._were_busy = 0
        self._count_until = 0.0
        self._is_denied = False  # this user may not hear what comes to it
        bus.watch(self._changed)
        bus.watch_denials(self._denied)

    def __len__(self) -> int:
        return len(self._parties)

    def next_subject(self) -> str:
        """Return a subject of the inbox that nobody has, and nobody can guess.

        It holds the loop's clock, as the reply subjects of asks do.
        """
        now = int(asyncio.get_running_loop().time() * 1000)
        return f"{self.prefix}{now}-{secrets.token_urlsafe(_SECRET_BYTES)}"

    def join(self, subject: str, party: Party) -> None:
        """Give `party` what comes to `subject`, which is from `next_subject`.

        Raises:
            BusDenied: This user may not subscribe to it.
        """
        if self._is_denied:
            raise self.denial()
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._parties.clear()
            self._wheels.clear()
            self._count_until = 0.0
            self._loop = loop
        self._parties[subject] = party

    def watch(self, party: Party, beat: float) -> None:
        """Have `party` send a heartbeat every `beat` seconds, and hear of silence."""
        wheel = self._wheels.get(beat)
        if wheel is None:
            look = functools.partial(_look, tick=beat / _TICKS)
            wheel = self._wheels[beat] = Wheel(beat / _TICKS, look)
        wheel.add(party)

    def leave(self, subject: str, party: Party, beat: float = 0) -> None:
        """Give nobody what comes to `subject` any more, and watch `party` no more."""
        self._parties.pop(subject, None)
        wheel = self._wheels.get(beat)
        if wheel is not None:
            wheel.remove(party)
            if not len(wheel):
                del self._wheels[beat]

    def busy(self, party: Party) -> int:
        """Return how many parties take items just now, `party` among them."""
        now = asyncio.get_running_loop().time()
        if now >= self._count_until:
            is_recent = now < self._count_until + _BUSY_SECONDS
            self._were_busy = len(self._busy) if is_recent else 0
            self._busy.clear()
            self._count_until = now + _BUSY_SECONDS
        self._busy.add(id(party))
        return max(len(self._busy), self._were_busy)

    def refuse(self, message: Message) -> None:
        """Tell whoever sent `message`, and hopes for more, that nobody is here."""
        bus = self._bus()
        if not message.reply or bus is None or not bus.inboxes.takes(message.reply):
            return
        try:
            bus.publish(message.reply, b"", "", CANCEL_FRAME)
        except KitError as exc:
            _log.debug("%s cannot be told: %s", message.reply, exc)

    def _take(self, message: Message) -> None:
        party = self._parties.get(message.subject)
        if party is not None:
            party.silent = 0
            party.take(message)
        else:  # somebody may count on a stream that is over
            self.refuse(message)

    def denial(self) -> BusDenied:
        """Return what to say where nothing can come to this inbox."""
        return BusDenied(
            f"this NATS user may not subscribe to {self.prefix}*, so it can have no"
            " streams and no long payloads; let it subscribe to its inboxes with '>'"
        )

    def _denied(self, subject: str) -> None:
        if subject == f"{self.prefix}*".lower():
            self._is_denied = True
        for party in list(self._parties.values()):
            party.denied(subject)

    def _changed(self, is_connected: bool) -> None:
        if not is_connected:
            self._is_denied = False  # the next server is asked again
            for party in list(self._parties.values()):
                party.lost("the connection to the bus was lost")


def _look(party: Party, *, tick: float) -> None:
    """See how long it has been since a party sent and heard; once every `tick` seconds."""
    party.silent += 1
    party.quiet += 1
    party.age += 1
    if party.silent >= _LOST:
        seconds = tick * _LOST
        party.lost(f"nothing was heard from the peer for {seconds:g} s")
    elif party.age >= _RENEW:
        party.quiet = party.age = 0
        party.renew()
    elif party.quiet >= _QUIET:
        party.quiet = 0
        party.beat()


# A inbox is kept alive by its bus, which has its handlers; so it must not be what keeps the
# bus alive.
_inboxes: weakref.WeakKeyDictionary[Bus, Inbox] = weakref.WeakKeyDictionary()


def inbox_of(bus: Bus) -> Inbox:
    """Return the inbox of a bus; it is made when the first stream needs it.

    Raises:
        Disconnected: The bus is closed.
    """
    inbox = _inboxes.get(bus)
    if inbox is None:
        inbox = _inboxes[bus] = Inbox(bus)
    return inbox
