"""Random faults that overlap, and callers that keep account of what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import kitmsg
from kitmsg.errors import Disconnected, KitError
from kitmsg.middleware import retry
from tests.worker.faults import WorkerFaults

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from benchmarks.relay import Relay
    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer
    from tests.worker.commands import Command

__all__ = ["LEDGER", "Callers", "Faults", "Journal"]

LEDGER: Final = """
import asyncio, os, time
from kitmsg import Service, endpoint

class Ledger(Service):
    drain_timeout = 5.0

    def __init__(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.journal = os.open(os.environ["JOURNAL"], flags)

    @endpoint
    async def note(self, number: int, deadline: float, seconds: float) -> int:
        late = time.monotonic() - deadline
        line = f"{number} {late:.4f} {os.getpid()} {time.monotonic():.3f}\\n"
        os.write(self.journal, line.encode())
        await asyncio.sleep(seconds)
        return number

    @endpoint
    async def block(self, seconds: float) -> None:
        time.sleep(seconds)
"""
"""A service that writes down what it begins, and how late; its clock is the caller's."""

_TIMEOUTS: Final = (0.3, 0.6, 1.2)
_HANG_SECONDS: Final = 5.0
_LATE_SECONDS: Final = 0.2
_TICK_SECONDS: Final = 0.01
_STOP_SECONDS: Final = 3.0  # the longest
_SCHEDSTAT: Final = Path("/proc/thread-self/schedstat")


@dataclass
class Journal:
    """What handlers began.

    Attributes:
        begun: How often each call was, by its number.
        late: Seconds after its deadline of each that began more than 50 ms late.
        where: The same, with the worker's process and the time, for whoever looks for why.
    """

    begun: Counter[int] = field(default_factory=Counter)
    late: list[float] = field(default_factory=list)
    where: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Journal:
        journal = cls()
        for line in path.read_text().splitlines():
            number, late, *_ = line.split()
            journal.begun[int(number)] += 1
            if float(late) > 0.05:
                journal.late.append(float(late))
                journal.where.append(line)
        return journal


class Callers:
    """Calls at a steady rate, over several connections, some with `retry`.

    Attributes:
        ends: How many ended how.
        unsent: Numbers of calls that ended with the word that they never began.
        hung: Numbers of those that did not end within seconds of their deadline.
        late: Each that ended over 0.2 s after its deadline, not counting the time in which
            this very event loop stood still, or waited for a processor.
    """

    def __init__(self, kits: list[Kit], chance: random.Random) -> None:
        repeat = retry()
        self._ways = [
            make_call(kit, middleware) for kit in kits for middleware in ([], [repeat])
        ]
        self._chance = chance
        self._stood = 0.0  # seconds that this loop stood still so far
        self.count = 0
        self.ends: Counter[str] = Counter()
        self.unsent: set[int] = set()
        self.hung: list[int] = []
        self.late: list[str] = []

    async def call(self, count: int, per_second: float) -> None:
        """Make so many calls, and wait for the ends of all."""
        clock = asyncio.create_task(self._watch_clock())
        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while self.count < count:
                due = int((time.monotonic() - start) * per_second)
                for number in range(self.count, min(due, count)):
                    group.create_task(self._one(number))
                self.count = max(self.count, min(due, count))
                await asyncio.sleep(0.005)
        clock.cancel()

    async def _watch_clock(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            self._stood += max(0.0, time.monotonic() - before - 2 * _TICK_SECONDS)

    async def _one(self, number: int) -> None:
        timeout = self._chance.choice(_TIMEOUTS)
        way = self._chance.choice(self._ways)
        seconds = self._chance.uniform(0.0, 0.02)
        stood, starved, start = self._stood, _starved(), time.monotonic()
        call = asyncio.ensure_future(way(number, start + timeout, seconds, timeout))
        await asyncio.wait({call}, timeout=timeout + _HANG_SECONDS)
        lost = max(self._stood - stood, _starved() - starved)
        over = time.monotonic() - start - timeout - lost
        if not call.done():
            self.hung.append(number)
            call.cancel()
            return
        if over > _LATE_SECONDS:
            self.late.append(f"{number}: {over:.3f} s over {timeout} s, {call!r}")
        self._note(number, call)

    def _note(self, number: int, call: asyncio.Future[int]) -> None:
        error = call.exception()
        if error is None:
            self.ends["ok" if call.result() == number else "wrong"] += 1
        elif isinstance(error, KitError):
            self.ends[error.code.value] += 1
            if error.refused or (isinstance(error, Disconnected) and not error.sent):
                self.unsent.add(number)
        else:
            self.ends[f"not a KitError: {error!r}"] += 1


def _starved() -> float:
    """Return the seconds that this thread waited for a processor so far; 0.0 if unknown."""
    try:
        return int(_SCHEDSTAT.read_text().split()[1]) / 1e9
    except OSError:  # not Linux
        return 0.0


def make_call(
    kit: Kit, middleware: list[Any]
) -> Callable[[int, float, float, float], Awaitable[int]]:
    """Return what calls ``ledger.note`` within a timeout."""

    class Ledger(kitmsg.Service):
        @kitmsg.endpoint
        async def note(self, number: int, deadline: float, seconds: float) -> int:
            raise NotImplementedError

    by_timeout = {
        timeout: kit.client(Ledger, timeout=timeout, middleware=middleware)
        for timeout in _TIMEOUTS
    }

    def call(
        number: int, deadline: float, seconds: float, timeout: float
    ) -> Awaitable[int]:
        return by_timeout[timeout].note(number, deadline, seconds)

    return call


class Faults:
    """Breaks what it is given, again and again, and leaves it whole.

    Attributes:
        done: How often each kind was.
        log: When each began and ended, by the clock of the journal.
    """

    def __init__(
        self,
        server: EmbeddedServer,
        network: Relay,
        commands: list[Command],
        chance: random.Random,
    ) -> None:
        self._server = server
        self._network = network
        self._workers = WorkerFaults(commands, chance, _STOP_SECONDS)
        self._chance = chance
        self._bus = asyncio.Lock()  # a server that is down cannot be frozen
        self.done: Counter[str] = Counter()
        self.log: list[str] = []

    async def run(self, seconds: float) -> None:
        """Begin a fault every now and then, for so long; several go on at once."""
        kinds = {
            self._workers.kill_worker: 1,
            self._workers.stop_worker: 4,
            self.block_worker: 3,
            self.restart_server: 1,
            self.freeze_server: 2,
            self.cut_network: 2,
            self.hold_network: 3,
        }
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < end:
                await asyncio.sleep(self._chance.uniform(0.1, 1.0))
                (fault,) = self._chance.choices(list(kinds), list(kinds.values()))
                self.done[fault.__name__] += 1
                group.create_task(self._do(fault))

    async def _do(self, fault: Callable[[], Awaitable[None]]) -> None:
        began = time.monotonic()
        await fault()
        self.log.append(f"{began:.3f} to {time.monotonic():.3f} {fault.__name__}")

    async def _wait(self, longest: float) -> None:
        await asyncio.sleep(self._chance.uniform(0.1, longest))

    async def block_worker(self) -> None:
        with contextlib.suppress(KitError):
            async with kitmsg.connect(self._server.url) as kit:
                seconds = self._chance.uniform(0.1, 2.0)
                await kit.call("ledger.block", seconds=seconds, timeout=0.1)

    async def restart_server(self) -> None:
        async with self._bus:
            self._server.kill()
            await self._wait(0.5)
            await asyncio.to_thread(self._server.start)

    async def freeze_server(self) -> None:
        async with self._bus:
            self._server.pause()
            await self._wait(2.5)
            self._server.resume()

    async def cut_network(self) -> None:
        self._network.cut()

    async def hold_network(self) -> None:
        ways = self._chance.choice([(True, True), (True, False), (False, True)])
        self._network.hold(up=ways[0], down=ways[1])
        await self._wait(3.0)
        self._network.let_go()
