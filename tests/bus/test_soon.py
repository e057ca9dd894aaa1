"""What is done at the end of a read, and a task that waits for it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.soon import Bell, Soon

if TYPE_CHECKING:
    from collections.abc import Callable

variable: ContextVar[str] = ContextVar("variable", default="outside")


async def in_a_read(feed: Callable[[Soon, bytes], None], chunk: bytes = b"") -> Soon:
    """Read `chunk` as a loop does, outside any task; return what it was read with."""
    done = asyncio.get_running_loop().create_future()
    soon = Soon(lambda data: feed(soon, data))

    def read() -> None:
        try:
            soon.feed(chunk)
        except BaseException as error:  # noqa: BLE001  it is looked at below
            done.set_exception(error)
        else:
            done.set_result(None)

    asyncio.get_running_loop().call_soon(read)
    await done
    return soon


async def test_waits_for_the_end_of_the_read() -> None:
    """What is due comes after the read, in order, and before anything else."""
    seen: list[str] = []
    loop = asyncio.get_running_loop()

    def feed(soon: Soon, data: bytes) -> None:
        loop.call_soon(seen.append, "next turn")
        soon.call(lambda: seen.append("first"))
        soon.call(lambda: soon.call(lambda: seen.append("last")))
        seen.append(data.decode())

    soon = await in_a_read(feed, b"chunk")
    await asyncio.sleep(0)
    assert seen == ["chunk", "first", "last", "next turn"]
    assert not soon.is_reading


async def test_outside_a_read_it_is_the_next_turn() -> None:
    """Nothing is called from within `call`."""
    seen: list[str] = []
    soon = Soon(lambda _: None)
    soon.call(lambda: seen.append("called"))
    assert seen == []
    await asyncio.sleep(0)
    assert seen == ["called"]


async def test_in_a_task_it_is_the_next_turn() -> None:
    """A read from within a task steps no other one."""
    seen: list[str] = []
    soon = Soon(lambda _: soon.call(lambda: seen.append("called")))
    soon.feed(b"")
    assert seen == []
    await asyncio.sleep(0)
    assert seen == ["called"]


async def test_a_failure_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the others are called, and so after a read that failed."""
    seen: list[str] = []

    def fail() -> None:
        raise LookupError("callback")

    def feed(soon: Soon, _: bytes) -> None:
        soon.call(fail)
        soon.call(lambda: seen.append("called"))
        raise ValueError("feed")

    with pytest.raises(ValueError, match="feed"):
        await in_a_read(feed)
    assert seen == ["called"]
    assert "LookupError: callback" in caplog.text


async def test_the_end_of_the_process_is_not_swallowed() -> None:
    """What no callback may raise is raised by the loop's next turn."""
    loop = asyncio.get_running_loop()
    raised: list[object] = []
    loop.set_exception_handler(lambda _, facts: raised.append(facts["exception"]))

    def end() -> None:
        raise GeneratorExit

    await in_a_read(lambda soon, _: soon.call(end))
    await asyncio.sleep(0)
    assert [type(error) for error in raised] == [GeneratorExit]


async def test_a_bell_steps_its_task_there_and_then() -> None:
    """In its own context and as the current task; then the ringer goes on."""
    seen: list[object] = []
    bell = Bell(loop=asyncio.get_running_loop())

    async def wait() -> None:
        variable.set("inside")
        await bell
        seen.append((asyncio.current_task() is task, variable.get()))
        await asyncio.sleep(0)
        seen.append("later")

    def ring() -> None:
        bell.ring()
        seen.append((asyncio.current_task(), variable.get()))

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert bell.is_awaited
    await in_a_read(lambda soon, _: soon.call(ring))
    assert seen[:2] == [(True, "inside"), (None, "outside")]
    await task
    assert seen[2:] == ["later"]


async def test_a_wait_for_a_bell_can_be_cancelled() -> None:
    """Whoever rings afterwards wakes nobody."""
    bell = Bell(loop=asyncio.get_running_loop())
    ends: list[str] = []

    async def wait() -> None:
        try:
            await bell
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    assert not bell.is_awaited
    await in_a_read(lambda soon, _: soon.call(bell.ring))
    await asyncio.wait([task])
    bell.ring()
    assert (task.cancelled(), ends) == (True, ["cancelled"])


async def test_a_task_cancelled_before_it_waits() -> None:
    """It does not begin to."""
    bell = Bell(loop=asyncio.get_running_loop())

    async def wait() -> None:
        asyncio.current_task().cancel()  # type: ignore[union-attr]
        await bell

    task = asyncio.create_task(wait())
    await asyncio.wait([task])
    assert task.cancelled()
    assert not bell.is_awaited


def test_a_loop_ends_though_a_task_waits_for_a_bell() -> None:
    """Its task is cancelled with the others."""
    tasks: list[asyncio.Task[None]] = []

    async def wait(bell: Bell) -> None:
        await bell

    async def main() -> None:
        bell = Bell(loop=asyncio.get_running_loop())
        tasks.append(asyncio.create_task(wait(bell)))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert tasks[0].cancelled()
