"""What callers see when workers are replaced or killed, and when the bus is.

The service keeps a journal of what it began, in a file: what a caller was told is held
against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

import kitmsg
from benchmarks.figures.figure import Figure
from benchmarks.figures.offered import Outcome, endings, offer, run
from benchmarks.figures.services import JOURNAL, Recorder
from benchmarks.worker import Worker, wait_until
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["killed_worker", "outage", "rolling_restart"]

_TARGET: Final = f"{Path(__file__).with_name('services.py')}:Recorder"
_PER_SECOND: Final = 500
_DEADLINE: Final = 1.0
_STEP_SECONDS: Final = 0.05  # the clock that expires asks
_STEADY_SECONDS: Final = 0.5
_NOTICE_SECONDS: Final = 0.1
_RECOVERY_SECONDS: Final = 2.0
_DOWN_SECONDS: Final = 1.0
_UNAVAILABLE: Final = frozenset({"Unavailable", "Disconnected", "NoResponders"})


@dataclass
class _Scene:
    """A bus, workers with a journal, and callers.

    Attributes:
        bus: The NATS server.
        worker: Parent of the workers.
        journal: What was begun.
    """

    bus: EmbeddedServer
    worker: Worker
    journal: Path

    def begun(self) -> dict[int, int]:
        """Return the process id that began each ask, by its number."""
        lines = self.journal.read_text().splitlines()
        return {int(n): int(pid) for n, pid in (line.split() for line in lines)}

    def under_load(self, event: Callable[[], Awaitable[None]]) -> list[Outcome]:
        """Return the outcomes of asks sent before, during and after `event`."""
        return run(self._under_load(event))

    async def _under_load(self, event: Callable[[], Awaitable[None]]) -> list[Outcome]:
        ended = asyncio.Event()
        async with kitmsg.connect(self.bus.url) as kit:
            recorder = kit.client(Recorder, timeout=_DEADLINE)
            load = asyncio.create_task(offer(recorder.record, _PER_SECOND, ended))
            await asyncio.sleep(_STEADY_SECONDS)
            await event()
            await asyncio.sleep(_STEADY_SECONDS)
            ended.set()
            return await load


@contextlib.contextmanager
def _scene(workers: int) -> Iterator[_Scene]:
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer() as bus:
        journal = Path(folder) / "journal"
        environ = {JOURNAL: str(journal)}
        with Worker(bus.url, _TARGET, workers=workers, environ=environ) as worker:
            yield _Scene(bus, worker, journal)


def rolling_restart(is_quick: bool) -> Iterator[Figure]:
    """Replace all workers under load."""
    with _scene(workers=3) as scene:
        old = set(scene.worker.children)

        async def roll() -> None:
            scene.worker.roll()
            await asyncio.to_thread(wait_until, lambda: _are_new(scene, old), "rolled")

        outcomes = scene.under_load(roll)
    errors = sum(bool(o.error) for o in outcomes)
    yield Figure(
        f"3 workers replaced (SIGHUP) under {_PER_SECOND} asks/s: errors",
        "0",
        f"{errors} ({endings(outcomes)})",
        errors,
        not errors,
    )


def _are_new(scene: _Scene, old: set[int]) -> bool:
    present = set(scene.worker.children)
    return len(present) == len(old) and not present & old and not _alive(old)


def _alive(pids: set[int]) -> bool:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
            return True
    return False


@dataclass
class _Kill:
    """What came of one killed worker.

    Attributes:
        outcomes: Of all asks.
        failed: Those with an error.
        elsewhere: Those with an error that another worker had begun.
        unseen: Those with an error that no worker had begun.
        last: When the last one that failed was sent, in seconds after the kill.
    """

    outcomes: list[Outcome]
    failed: list[Outcome]
    elsewhere: int
    unseen: int
    last: float


def _kill_one() -> _Kill:
    with _scene(workers=3) as scene:
        victim = scene.worker.children[0]
        killed = 0.0

        async def kill() -> None:
            nonlocal killed
            killed = perf_counter()
            os.kill(victim, signal.SIGKILL)

        outcomes = scene.under_load(kill)
        begun = scene.begun()
    failed = [o for o in outcomes if o.error]
    return _Kill(
        outcomes,
        failed,
        elsewhere=sum(begun.get(o.number, victim) != victim for o in failed),
        unseen=sum(o.number not in begun for o in failed),
        last=max((o.sent - killed for o in failed), default=0.0),
    )


def killed_worker(is_quick: bool) -> Iterator[Figure]:
    """Kill one of three workers under load, and see who suffers."""
    kills = [_kill_one() for _ in range(1 if is_quick else 5)]
    elsewhere = sum(kill.elsewhere for kill in kills)
    told = endings([outcome for kill in kills for outcome in kill.outcomes])
    unseen = sum(kill.unseen for kill in kills)
    yield Figure(
        f"kill -9 of one of 3 workers under {_PER_SECOND} asks/s: asks lost elsewhere",
        "0",
        f"{elsewhere} ({told}; {unseen} of them not begun)",
        elsewhere,
        not elsewhere,
    )
    failed = [outcome for kill in kills for outcome in kill.failed]
    slowest = max((o.took for o in failed), default=0.0)
    yield Figure(
        "... those it held fail by their deadline, s",
        f"<= {_DEADLINE:g} and a step of {_STEP_SECONDS:g}",
        f"{slowest:.3f}",
        slowest,
        slowest <= _DEADLINE + 2 * _STEP_SECONDS,
    )
    last = max(0.0, *(kill.last for kill in kills))
    yield Figure(
        "... asks sent later than this after it succeed, ms",
        "the next ask succeeds (<= 10)",
        f"{last * 1e3:.1f}",
        last * 1e3,
        last <= 0.01,  # noqa: PLR2004  # the kernel and the server need a moment
    )


def outage(is_quick: bool) -> Iterator[Figure]:
    """Kill the NATS server under load and start it again."""
    notices, recoveries = [], []
    ghosts = unsent = 0
    outcomes: list[Outcome] = []
    for _ in range(1 if is_quick else 3):
        with _scene(workers=1) as scene:
            times: list[float] = []

            async def fail(scene: _Scene = scene, times: list[float] = times) -> None:
                times.append(perf_counter())
                await asyncio.to_thread(scene.bus.kill)
                await asyncio.sleep(_DOWN_SECONDS)
                await asyncio.to_thread(scene.bus.restart)
                times.append(perf_counter())
                await asyncio.sleep(_RECOVERY_SECONDS)

            outcomes = scene.under_load(fail)
            begun = scene.begun()
        down, back = times
        notices.append(_notice(outcomes, down))
        recoveries.append(_recovery(outcomes, back))
        unsent += sum(o.is_unsent for o in outcomes)
        ghosts += sum(o.is_unsent and o.number in begun for o in outcomes)
    yield Figure(
        "NATS server killed: asks in hand and the next say Unavailable after, ms",
        f"<= {_NOTICE_SECONDS * 1e3:g}",
        f"{max(notices) * 1e3:.1f} (last run: {endings(outcomes)})",
        max(notices) * 1e3,
        max(notices) <= _NOTICE_SECONDS,
    )
    yield Figure(
        "... and back: the first result after, s",
        f"<= {_RECOVERY_SECONDS:g}",
        f"{max(recoveries):.2f}",
        max(recoveries),
        max(recoveries) <= _RECOVERY_SECONDS,
    )
    yield Figure(
        "... carried out though reported as not sent",
        "0",
        f"{ghosts} of {unsent:,} reported so",
        ghosts,
        not ghosts,
    )


def _notice(outcomes: list[Outcome], down: float) -> float:
    """Return when the last ask that was in hand at `down`, or the next, said Unavailable.

    Infinite if one said something else, or nothing was said.
    """
    told = sorted(
        (o for o in outcomes if o.error and o.ended >= down), key=lambda o: o.sent
    )
    in_hand = [o for o in told if o.sent <= down]
    following = [o for o in told if o.sent > down][:1]
    if not following or any(o.error not in _UNAVAILABLE for o in in_hand + following):
        return float("inf")
    return max(o.ended for o in in_hand + following) - down


def _recovery(outcomes: list[Outcome], back: float) -> float:
    """Return how long after `back` the first ask sent after it had a result."""
    ended = [o.ended for o in outcomes if not o.error and o.sent >= back]
    return min(ended, default=float("inf")) - back
