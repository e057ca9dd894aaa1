"""Registry of a gateway's open streams: their number, idle times and shutdown.

One `Live` belongs to a gateway.  Each stream enters it, and gets its heartbeats from it;
when the gateway stops, each is told so and then has `drain_timeout` to end.
"""

from __future__ import annotations

import asyncio
import select
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from kitmsg.metrics.families import counter, gauge
from kitmsg.transport.wheel import Wheel
from kitmsg_gateways.edge.admission import full
from kitmsg_gateways.edge.catalogue import unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.metrics.families import Family

__all__ = ["Live", "Party", "drop_if_gone"]


def drop_if_gone(transport: asyncio.BaseTransport | None) -> None:
    """End a connection that the other side has left.

    One that is not read from, because nobody takes what comes, does not notice.
    """
    socket = transport.get_extra_info("socket") if transport is not None else None
    if socket is None or not isinstance(transport, asyncio.WriteTransport):
        return
    if not hasattr(select, "poll"):  # Windows
        return
    poll = select.poll()
    poll.register(socket.fileno(), getattr(select, "POLLRDHUP", 0))
    if poll.poll(0):
        transport.abort()


class Party(Protocol):
    """One open stream."""

    kind: str
    """How its client sees it: ``sse``, ``ndjson``, ``bytes``, ``upload``, ``websocket``."""

    def beat(self) -> None:
        """Show the client that we are there, and find out whether it is."""
        ...

    def leave(self) -> None:
        """End, soon: the gateway stops."""
        ...


class Live:
    """The open streams.

    Args:
        most: How many there may be; more are refused.
        beat_seconds: Time between two heartbeats of each.

    Attributes:
        is_draining: Whether the gateway stops.
        ended: How many ended, by kind and outcome: ``ok``, the code of an error, or
            ``client`` for those whose client did not keep the protocol or went away.
    """

    def __init__(self, most: int, beat_seconds: float) -> None:
        self.is_draining = False
        self.ended: Counter[tuple[str, str]] = Counter()
        self._most = most
        self._beat_seconds = beat_seconds
        self._open: dict[Party, None] = {}
        self._wheel: Wheel[Party] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self) -> None:
        """Make sure that there is room for one more.

        Raises:
            ResourceExhausted: There is none.
            Unavailable: The gateway stops.
        """
        if self.is_draining:
            raise unavailable("the gateway is stopping")
        if len(self._open) >= self._most:
            raise full(self._most, "streams are open")

    def enter(self, party: Party) -> None:
        """Count a stream, and give it heartbeats."""
        if self._wheel is None:
            self._wheel = Wheel(self._beat_seconds, _beat)
        self._open[party] = None
        self._wheel.add(party)
        if self.is_draining:
            party.leave()

    def exit(self, party: Party, outcome: str) -> None:
        """Count a stream that is over; see `ended`."""
        if self._wheel is not None and party in self._open:
            del self._open[party]
            self._wheel.remove(party)
            self.ended[party.kind, outcome] += 1

    def drain(self) -> None:
        """Take no more, and tell each that the gateway stops."""
        self.is_draining = True
        for party in list(self._open):
            party.leave()

    def collect(self) -> Iterator[Family]:
        """Yield metric families."""
        now = Counter(party.kind for party in self._open)
        present = gauge("kitmsg_gateway_streams", "Streams that are open.")
        for kind, count in sorted(now.items()):
            present.add(count, gateway="http", kind=kind)
        yield present
        past = counter(
            "kitmsg_gateway_streams_ended_total",
            "Streams that ended: well, with an error, or by their client.",
        )
        for (kind, outcome), count in sorted(self.ended.items()):
            past.add(count, gateway="http", kind=kind, outcome=outcome)
        yield past


def _beat(party: Party) -> None:
    party.beat()
