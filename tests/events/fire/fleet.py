"""The ledger's workers as processes, the network to them, and all that befalls both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kitmsg.errors import KitError
from kitmsg.events.declared import apply, plan
from kitmsg.service.stored import declared_by
from tests.bus.proxy import Proxy
from tests.events.fire.ledger import Happened, Ledger
from tests.worker.commands import Command, until
from tests.worker.faults import WorkerFaults

if TYPE_CHECKING:
    import random
    from collections.abc import (
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer

__all__ = [
    "ACK_WAIT",
    "PATIENCE",
    "ROOT",
    "LossyProxy",
    "Storm",
    "at_once",
    "end",
    "fleet",
    "is_long",
    "make_streams",
    "publish",
    "said",
    "serving",
    "tell",
]

ROOT: Final = Path(__file__).parents[3]
SERVICE: Final = "tests.events.fire.ledger:Ledger"
ACK_WAIT: Final = 2.0
"""Seconds for which the store waits for a word in short forms."""

PATIENCE: Final = 120.0  # seconds
BETWEEN: Final = 6.0 if os.environ.get("KITMSG_LONG") else 1.2
"""Longest time from one fault to the next, in seconds; a worker is back in ten at most."""

_ACKNOWLEDGED: Final = b'"seq":'


class LossyProxy(Proxy):
    """A network that loses what a stream says of what it stored, and then the connection.

    Args:
        port: Where it passes on to.
        chance: Random numbers.

    Attributes:
        loses: The share of acknowledgements that are lost.
        lost: How many were.
    """

    def __init__(self, port: int, chance: random.Random) -> None:
        super().__init__(port)
        self._chance = chance
        self.loses = 0.0
        self.lost = 0

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await super()._accept(reader, writer)
        except OSError:  # the server is down
            writer.close()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sink):
            while data := await source.read(64 << 10):
                is_ack = not is_up and _ACKNOWLEDGED in data
                if is_ack and self._chance.random() < self.loses:
                    self.lost += 1
                    return
                sink.write(data)
                await sink.drain()


@contextlib.contextmanager
def fleet(
    folder: Path, urls: Sequence[str], environ: Mapping[str, str], workers: int = 2
) -> Iterator[list[Command]]:
    """Run so many workers at each address, once the streams are there."""
    args = ["-m", "kitmsg.cli", "run", SERVICE, "--workers", str(workers)]
    args += ["--log-fold", "0"]
    with ExitStack() as stack:
        commands = [
            stack.enter_context(
                Command(args, folder, nats_url=url, environ=settings(folder, environ))
            )
            for url in urls
        ]
        for command in commands:
            serving(command, workers)
        yield commands


def serving(command: Command, workers: int = 1) -> None:
    """Return when so many of its workers serve."""
    said(command, "is serving as", workers)


def said(command: Command, text: str, count: int) -> None:
    """Return when it has printed a text so often; however busy the machine is."""
    until(lambda: command.output.count(text) >= count, command.output, PATIENCE)


def settings(folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ledger's processes."""
    return {
        "PYTHONPATH": str(ROOT),
        "FIRE_JOURNAL": str(folder / "journal"),
        "FIRE_ACK_WAIT": str(ACK_WAIT),
        **environ,
    }


async def make_streams(kit: Kit, ack_wait: float = ACK_WAIT, replicas: int = 1) -> None:
    """Make the streams and consumers of the ledger, as ``kitmsg streams apply`` does."""
    declared = declared_by(Ledger)
    for name, stream in declared.streams.items():
        declared.streams[name] = replace(stream, replicas=replicas)
    for key, consumer in declared.consumers.items():
        declared.consumers[key] = replace(consumer, ack_wait=ack_wait)
    await apply(kit.jetstream, await plan(kit.jetstream, declared))


async def publish(kit: Kit, event: Happened) -> None:
    """Publish an event until it is stored, under one id."""
    await _insist(lambda: kit.publish(event, id=f"e{event.number}"))


async def tell(kit: Kit, number: int, seconds: float) -> None:
    """Tell the ledger, until that is stored, under one id."""
    await _insist(lambda: kit.tell(Ledger, id=f"t{number}").told(number, seconds))


async def _insist(attempt: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await attempt()
        except KitError:
            await asyncio.sleep(0.05)
        else:
            return


async def at_once(
    work: Iterable[Callable[[], Awaitable[None]]],
    most: int,
    pause: Callable[[], float],
) -> None:
    """Do all of it, so much side by side, with a pause before each."""
    left = iter(work)

    async def some() -> None:
        for each in left:
            await asyncio.sleep(pause())
            await each()

    async with asyncio.TaskGroup() as group:
        for _ in range(most):
            group.create_task(some())


@dataclass
class Storm:
    """Kills and stops workers, and does more to the servers; several at a time.

    Attributes:
        commands: Those whose workers it breaks.
        chance: Random numbers.
        longest: Longest stop of a worker, in seconds.
        more: Further kinds of faults, with the weight of each; they mend what they break.
        done: How often each was.
        outages: From when to when the store was not there, or led by another.
    """

    commands: Sequence[Command]
    chance: random.Random
    longest: float
    more: Mapping[Callable[[], Awaitable[None]], int] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    outages: list[tuple[float, float]] = field(default_factory=list)

    async def rage(self, until: asyncio.Future[None]) -> None:
        """Begin a fault every now and then, each kind at least once, until there is an end."""
        # A stop may be longer than the store waits.
        workers = WorkerFaults(self.commands, self.chance, self.longest)
        kinds = {workers.kill_worker: 2, workers.stop_worker: 2, **self.more}
        first = self.chance.sample(list(kinds), len(kinds))
        async with asyncio.TaskGroup() as group:
            while first or not until.done():
                await asyncio.sleep(self.chance.uniform(0.1, BETWEEN))
                drawn = self.chance.choices(list(kinds), list(kinds.values()))
                fault = first.pop() if first else drawn[0]
                self.done[getattr(fault, "__name__", "?")] += 1
                group.create_task(fault())  # type: ignore[arg-type]

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """A time in which the store may forget what it handed out just before."""
        began = time.monotonic() - ACK_WAIT
        yield
        self.outages.append((began, time.monotonic() + ACK_WAIT))

    def restart(self, *servers: EmbeddedServer) -> Callable[[], Awaitable[None]]:
        """Return a fault: one of the servers is killed, and comes back after a moment."""
        busy = asyncio.Lock()

        async def restart_server() -> None:
            async with busy:
                server = self.chance.choice(servers)
                with self.outage():
                    server.kill()
                    await asyncio.sleep(self.chance.uniform(0.0, 1.0))
                    await asyncio.to_thread(server.start)

        return restart_server


def end(commands: Sequence[Command]) -> str:
    """End the workers; returns what they printed."""
    for command in commands:
        command.send(signal.SIGTERM)
    codes = [command.process.wait(PATIENCE) for command in commands]
    output = "".join(command.output for command in commands)
    assert not any(codes), output
    return output


def is_long() -> bool:
    """Tell whether the long form is asked for."""
    return bool(os.environ.get("KITMSG_LONG"))
