"""Workers are kept alive, replaced and ended without a caller noticing more than it must."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.discovery.subject import find_stats
from kitmsg.errors import DeadlineExceeded, KitError
from kitmsg.worker import supervisor
from kitmsg.worker.settings import Settings
from kitmsg.worker.supervisor import Backoff
from tests.worker.commands import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.service import Kit
    from tests.worker.commands import Command

READY = "is serving as"


async def answer(
    kit: Kit, name: str, seconds: float = 10.0, **fields: object
) -> object:
    """Return the first answer that is no error."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await kit.call(name, dict(fields), timeout=1.0)
        except KitError:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.05)


async def until_busy(kit: Kit) -> None:
    """Return when a turn of the desk runs."""
    while True:
        for report in await find_stats(kit.bus, "desk", stall=0.02):
            if any(endpoint.data.get("running") for endpoint in report.endpoints):
                return


async def test_a_killed_worker_is_replaced(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """After kill -9 another process answers the next call."""
    with start("office:Desk") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            before = await kit.call("desk.pid")
            command.workers()[0].kill()
            command.says(READY, 2)
            assert await kit.call("desk.pid") != before
        assert "was killed by SIGKILL" in command.output


async def test_a_worker_that_stands_still_is_killed(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """A blocked event loop ends its worker, and the log shows where it stood."""
    with start("office:Desk", "--watchdog", "1") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            with pytest.raises(KitError):
                await kit.call("desk.stand_still", timeout=0.2)
            command.says(READY, 2)
            assert await kit.call("desk.pid")
        assert "has stood still" in command.output
        assert "in stand_still" in command.output


async def test_sigterm_finishes_what_runs(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """A call in flight is answered after SIGTERM; then all processes end, with code 0."""
    with start("office:Desk", "--workers", "2") as command:
        command.says(READY, 2)
        async with kitmsg.connect(nats_server.url) as kit:
            call = asyncio.create_task(kit.call("desk.slow", seconds=1.0))
            await until_busy(kit)
            command.send(signal.SIGTERM)
            assert isinstance(await call, int)
        assert command.ends() == 0
        command.leaves_nothing()


async def test_a_second_signal_ends_at_once(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """Who cannot wait for the drain sends a second signal; the exit code tells."""
    with start("office:Desk") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            call = asyncio.create_task(kit.call("desk.slow", seconds=60.0))
            await until_busy(kit)
            command.interrupt()
            command.says("in hand")
            command.interrupt()
            assert command.ends() == 130
            call.cancel()
        command.leaves_nothing()


async def test_sighup_replaces_every_worker_unnoticed(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """Under load, all workers are replaced and no call fails."""
    with start("office:Desk", "--workers", "2") as command:
        command.says(READY, 2)
        old = {process.pid for process in command.workers()}
        async with kitmsg.connect(nats_server.url) as kit:
            seen: set[object] = set()

            async def load() -> None:
                while not roll.done():
                    seen.add(await kit.call("desk.slow", seconds=0.01))

            await kit.call("desk.pid")
            command.send(signal.SIGHUP)
            done = "all workers are replaced"
            roll = asyncio.create_task(asyncio.to_thread(command.says, done))
            await asyncio.gather(roll, *(load() for _ in range(4)))
            assert not old & {await kit.call("desk.pid") for _ in range(20)}
        assert seen & old
        assert seen - old


@pytest.mark.parametrize(
    ("target", "code", "sentence"),
    [
        ("offise:Desk", 2, "did you mean 'office'"),
        ("office:Dask", 2, "did you mean 'Desk'"),
        ("office:Unstartable", 1, "the database is not there"),
    ],
)
def test_workers_that_cannot_start_end_it(
    start: Callable[..., Command], target: str, code: int, sentence: str
) -> None:
    """When no worker can start, one sentence says why, and the exit code tells."""
    with start(target, "--workers", "2") as command:
        assert command.ends() == code
        assert command.output.count("no worker can start") == 1
        assert sentence in command.output


def test_a_worker_that_the_bus_does_not_let_in_ends_it(
    start: Callable[..., Command],
) -> None:
    """Credentials that are refused end it with the code that all commands have for that."""
    with (
        EmbeddedServer(config='authorization { token: "secret" }') as server,
        start("office:Desk", nats_url=server.url) as command,
    ):
        assert command.ends() == 6
        assert "no worker can start" in command.output


async def test_a_later_failure_to_start_is_retried(
    start: Callable[..., Command], folder: Path, nats_server: EmbeddedServer
) -> None:
    """Once a worker served, one that cannot start is named and started again, later."""
    code = (folder / "office.py").read_text()
    with start("office:Desk") as command:
        command.says(READY)
        (folder / "office.py").write_text("raise RuntimeError('half written')")
        command.workers()[0].kill()
        command.says("office.py:1: RuntimeError: half written", 2)
        (folder / "office.py").write_text(code)
        command.says(READY, 2)
        async with kitmsg.connect(nats_server.url) as kit:
            assert await kit.call("desk.pid")


async def test_workers_end_with_their_parent(start: Callable[..., Command]) -> None:
    """A worker whose parent was killed drains and ends."""
    with start("office:Desk", "--workers", "2") as command:
        command.says(READY, 2)
        assert len(command.workers()) == 2
        command.send(signal.SIGKILL)
        command.leaves_nothing()
        assert command.output.count("is drained") == 2


async def test_waits_for_a_bus_that_is_not_there(start: Callable[..., Command]) -> None:
    """A worker started before the bus says that it waits, and serves when it comes."""
    server = EmbeddedServer()
    server.start()
    url = server.url
    server.kill()
    try:
        with start("office:Desk", nats_url=url) as command:
            command.says("waiting for it")
            server.restart()
            command.says(READY)
    finally:
        server.stop()


async def test_a_service_that_fails_too_often_ends_its_worker(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """Past the restart intensity the worker ends with 1, and its parent starts another."""
    with start("office:Brittle") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            before = await kit.call("brittle.pid")
            with pytest.raises(KitError):
                await kit.call("brittle.fail", how="one")
            command.says("was restarted")
            with pytest.raises(KitError):
                await kit.call("brittle.fail", how="two")
            command.says("ended with code 1")
            command.says(READY, 2)
            assert await answer(kit, "brittle.pid") != before


async def test_a_pause_of_the_parent_is_not_held_against_workers(
    start: Callable[..., Command],
) -> None:
    """A parent that was frozen, as when a laptop sleeps, kills nobody when it wakes."""
    with start("office:Desk", "--watchdog", "1") as command:
        command.says(READY)
        command.send(signal.SIGSTOP)
        asleep = time.monotonic() + 2.0
        until(lambda: time.monotonic() > asleep, "the time to pass")
        command.send(signal.SIGCONT)
        command.send(signal.SIGHUP)
        command.says("all workers are replaced")
        assert "stood still" not in command.output


async def test_blocking_endpoints_have_a_thread_each(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """As many plain `def` turns run at once as the service's concurrency says."""
    with start("office:Library") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            met = await asyncio.gather(*(kit.call("library.meet") for _ in range(20)))
        assert sorted(met) == list(range(20))


async def test_threads_that_hang_do_not_hold_up_the_end(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """They are named and left behind; the worker ends well, and is not said to hang."""
    with start("office:Hanging", "--watchdog", "1") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            with pytest.raises(DeadlineExceeded):
                await kit.call("hanging.read", timeout=0.1)
        command.send(signal.SIGTERM)
        assert command.ends() == 0
        assert (
            "ends without 1 threads that still run: kitmsg-hanging_0" in command.output
        )
        assert "in read" in command.output
        assert "stood still" not in command.output
        assert "killed" not in command.output


async def test_a_stop_that_fails_is_logged(start: Callable[..., Command]) -> None:
    """A service whose `stop` raises does not keep the others from draining."""
    with start("office:Messy", "office:Desk") as command:
        command.says(READY, 2)
        command.send(signal.SIGTERM)
        assert command.ends() == 0
        assert "lost the key" in command.output
        assert "is drained" in command.output


async def test_ends_without_a_bus(start: Callable[..., Command]) -> None:
    """A worker that has lost the bus comes back with it, and ends without it."""
    with (
        EmbeddedServer() as server,
        start("office:Desk", nats_url=server.url) as command,
    ):
        command.says(READY)
        server.kill()
        server.restart()
        async with kitmsg.connect(server.url) as kit:
            assert await answer(kit, "desk.pid")
        server.kill()
        command.send(signal.SIGTERM)
        assert command.ends() == 0


async def test_a_factory_can_be_served(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """A function that returns a service does where a class does."""
    with start("office:make_desk") as command:
        command.says(READY)
        async with kitmsg.connect(nats_server.url) as kit:
            assert await kit.call("desk.pid")


async def test_a_worker_at_rest_is_small(start: Callable[..., Command]) -> None:
    """Worker and parent stay under 70 MB resident."""
    with start("office:Desk") as command:
        command.says(READY)
        (worker,) = command.workers()
        assert worker.memory_info().rss < 70 << 20
        parent = psutil.Process(command.process.pid)
        assert parent.memory_info().rss < 70 << 20


def test_backoff_doubles_up_to_a_bound() -> None:
    """Waits double from a tenth of a second to ten, each up to half shorter."""
    backoff = Backoff()
    waits = [backoff.next() for _ in range(12)]
    for n, wait in enumerate(waits):
        full = min(10.0, 0.1 * 2**n)
        assert full / 2 <= wait <= full
    backoff.reset()
    assert backoff.next() <= 0.1


async def test_a_signal_to_the_whole_group_is_one_end(
    folder: Path,
    nats_server: EmbeddedServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A worker that hears it first is no failure, and is not started again."""
    monkeypatch.setattr(supervisor, "_GROUP_SECONDS", 60.0)
    monkeypatch.chdir(folder)
    settings = Settings(nats_url=nats_server.url)
    parent = supervisor.Supervisor(("office:Desk",), settings)
    running = asyncio.create_task(parent.run())
    assert await parent.wait_ready()
    (child,) = parent.children
    os.kill(child.pid, signal.SIGTERM)
    assert await child.wait() == 0
    for _ in range(10):  # for all who wait for the end of it
        await asyncio.sleep(0)
    parent.stop()
    assert await running == 0
    assert not [r for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
