"""Background work: supervised with its instance, ended by drain."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg import Kit, Service, background
from kitmsg.errors import FailedPrecondition

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", ["memory"])]


async def test_background_work_begins_again_when_it_fails(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    class Poller(Service):
        begun = 0
        ended = 0

        @background
        async def poll(self) -> None:
            type(self).begun += 1
            if self.begun < 4:
                raise RuntimeError("boom")
            try:
                await asyncio.sleep(3600)
            finally:
                type(self).ended += 1

    host = await kit.serve(Poller)
    await asyncio.sleep(0.4 + 0.8 + 1.6)
    assert Poller.begun == 3
    await asyncio.sleep(2)
    assert Poller.begun == 4
    assert caplog.text.count("poller.poll failed; it begins again in") == 3
    await host.drain()
    assert Poller.ended == 1


async def test_background_work_that_returns_is_done(kit: Kit) -> None:
    class Once(Service):
        begun = 0

        @background
        async def warm(self) -> None:
            type(self).begun += 1

    await kit.serve(Once)
    await asyncio.sleep(100)
    assert Once.begun == 1


async def test_drain_waits_for_what_was_spawned(kit: Kit) -> None:
    class Spawning(Service):
        done = False

        async def work(self) -> None:
            await asyncio.sleep(2)
            type(self).done = True

    host = await kit.serve(Spawning)
    host.service.spawn(host.service.work())  # type: ignore[attr-defined]
    await host.drain()
    assert Spawning.done


async def test_drain_cancels_what_takes_too_long(kit: Kit) -> None:
    class Spawning(Service):
        drain_timeout = 1.0

    host = await kit.serve(Spawning)
    task = host.service.spawn(asyncio.sleep(3600))
    await host.drain()
    assert task.cancelled()


async def test_a_spawned_failure_is_logged(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    class Spawning(Service):
        async def work(self) -> None:
            raise RuntimeError("boom")

    host = await kit.serve(Spawning)
    host.service.spawn(host.service.work(), name="mine")  # type: ignore[attr-defined]
    await asyncio.sleep(1)
    assert "spawning: a spawned task failed" in caplog.text
    assert "RuntimeError: boom" in caplog.text


async def test_nobody_spawns_before_it_is_served() -> None:
    class Spawning(Service): ...

    with pytest.raises(FailedPrecondition, match="Spawning is not served"):
        Spawning().spawn(asyncio.sleep(1))


async def test_background_is_for_coroutines() -> None:
    with pytest.raises(TypeError, match="must be an async def without arguments"):

        class Odd(Service):
            @background  # type: ignore[type-var]
            def poll(self) -> None: ...
