"""The account of a run: what was promised, held against journal, databases and streams."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from kitmsg.errors import KitError
from kitmsg.wire import DEAD_SUBJECT
from tests.events.fire.ledger import EFFECTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

    from kitmsg import Kit

__all__ = ["Account", "Attempt", "counted", "died", "read_journal", "settled", "stored"]

_EVENTS: Final = ("plain", "on_stream", "in_sqlite", "in_postgres")  # subscriptions
_STREAMS: Final = ("fire", "tell-ledger")


@dataclass
class Attempt:
    """A line of the journal, and the one that ends it.

    Attributes:
        deliveries: Number of the delivery: 1 unless it is marked as a redelivery.
        pid: Process of the worker.
        began: On the clock of this machine.
        ended: None where it never did.
    """

    deliveries: int
    pid: int
    began: float
    ended: float | None = None


Journal = dict[tuple[str, int], list[Attempt]]


def read_journal(path: Path) -> Journal:
    """Return the attempts at each event and tell, by kind and number."""
    found: Journal = defaultdict(list)
    for line in path.read_text().splitlines():
        what, number, deliveries, pid, word, at = line.split()
        attempts = found[what, int(number)]
        if word == "begins":
            attempts.append(Attempt(int(deliveries), int(pid), float(at)))
            continue
        running = (a for a in reversed(attempts) if a.pid == int(pid))
        next(a for a in running if a.ended is None).ended = float(at)
    return found


async def settled(kit: Kit, seconds: float) -> None:
    """Return when nothing is left to deliver, and all that was is acknowledged."""
    async with asyncio.timeout(seconds):
        for name in _STREAMS:
            while True:
                with contextlib.suppress(KitError):
                    stream = await kit.jetstream.stream(name)
                    infos = await stream.consumers()
                    if not any(info.pending or info.ack_pending for info in infos):
                        break
                await asyncio.sleep(0.1)


async def stored(kit: Kit, kind: str) -> Counter[int]:
    """Return how often each number is stored, of the events of a kind."""
    stream = await kit.jetstream.stream("fire")
    found: Counter[int] = Counter()
    async for one in stream.read(f"event.fire.{kind}.*"):
        found[int(one.subject.rpartition(".")[2])] += 1
    return found


async def counted(engine: AsyncEngine) -> Counter[int]:
    """Return how many effects each event had in a database."""
    async with engine.connect() as connection:
        return Counter((await connection.execute(select(EFFECTS))).scalars())


async def died(kit: Kit) -> Counter[int]:
    """Return how many dead letters there are of each event, by number."""
    stream = await kit.jetstream.stream("dead")
    found: Counter[int] = Counter()
    async for letter in stream.read("dead.ledger.*"):
        found[int(letter.headers[DEAD_SUBJECT].rpartition(".")[2])] += 1
    return found


@dataclass
class Account:
    """The fate of so many events and tells.

    Attributes:
        events: Numbers of the events that were published.
        tells: Numbers of the tells.
        journal: Attempts at them.
        stored: How often each event is stored, by number.
        effects: How often each event had its effect, where that is once: by place.
        poison: Numbers of the events that fail for good.
        dead: How many dead letters there are of each event.
        is_quiet: Whether no worker died or stood still, so that nothing comes twice.
        outages: When the store forgot what it had handed out: from, and to.
    """

    events: Iterable[int]
    tells: Iterable[int]
    journal: Journal
    stored: Counter[int]
    effects: Mapping[str, Counter[int]]
    poison: Iterable[int] = ()
    dead: Counter[int] = field(default_factory=Counter)
    is_quiet: bool = False
    outages: Sequence[tuple[float, float]] = field(default_factory=tuple)

    def broken(self) -> dict[str, list[str]]:
        """Return each promise that was broken, with the events; empty if all is well."""
        found = {
            "lost": list(self._lost()),
            "stored twice": [f"{n}" for n, count in self.stored.items() if count > 1],
            "effect twice": [
                f"{place} {n}"
                for place, counts in self.effects.items()
                for n, count in counts.items()
                if count > 1
            ],
            "redelivered unmarked": list(self._unmarked()),
            "redelivered while it was worked on": list(self._taken_away()),
            "dead without a reason": [
                f"{n}" for n in self.dead if n not in self.poison
            ],
        }
        return {promise: events for promise, events in found.items() if events}

    def redelivered(self) -> int:
        """Return how many attempts were not the first at their event."""
        return sum(len(attempts) - 1 for attempts in self.journal.values())

    def _lost(self) -> Iterable[str]:
        wanted = [(what, n) for what in _EVENTS for n in self.events]
        wanted += [("told", n) for n in self.tells]
        for what, n in wanted:
            attempts = self.journal.get((what, n), ())
            if not any(a.ended is not None for a in attempts):
                yield f"{what} {n}"
        for place, counts in self.effects.items():
            yield from (f"{place} {n}" for n in self.events if not counts[n])

        yield from (f"poison {n}" for n in self.poison if not self.dead[n])

    def _taken_away(self) -> Iterable[str]:
        """Events that came again though nobody died, stood still or failed."""
        for (what, n), attempts in self.journal.items():
            if self.is_quiet and what != "poisoned" and len(attempts) > 1:
                yield f"{what} {n}: {attempts}"

    def _unmarked(self) -> Iterable[str]:
        """Two first deliveries of one message, unless the store's memory was lost between."""
        for (what, n), attempts in self.journal.items():
            first = [a.began for a in attempts if a.deliveries == 1]
            for one, other in itertools.pairwise(first):
                if not any(a <= other and one <= b for a, b in self.outages):
                    yield f"{what} {n}: {attempts}"
