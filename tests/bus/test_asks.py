"""Asks: tokens, deadlines, and what becomes of those nobody awaits any more."""

from __future__ import annotations

import asyncio
import gc
import math
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.asks import TICK, Asks
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    NoResponders,
    PermissionDenied,
)
from kitmsg.message import Message
from kitmsg.wire import cancel_subject

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context


class Clock:
    """Counts the timers set on the running loop, and moves its time by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loop = asyncio.get_running_loop()
        self.timers: list[asyncio.TimerHandle] = []
        self.now = 1000.0
        monkeypatch.setattr(loop, "time", lambda: self.now)
        monkeypatch.setattr(loop, "call_at", self._call_at)

    def _call_at(
        self,
        when: float,
        callback: Callable[..., None],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        handle = asyncio.TimerHandle(when, callback, args, loop, context)
        self.timers.append(handle)
        return handle

    def run(self, seconds: float) -> None:
        """Let `seconds` pass, and with them the timers that are due."""
        until = self.now + seconds
        while due := [t for t in self.timers if t.when() <= until]:
            timer = min(due, key=lambda t: t.when())
            self.timers.remove(timer)
            if not timer.cancelled():
                self.now = timer.when()
                timer._run()
        self.now = until

    @property
    def armed(self) -> list[float]:
        """Seconds until each timer that is set."""
        return [t.when() - self.now for t in self.timers if not t.cancelled()]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio's loop: its timer handles can be made by hand."""
    return "asyncio"


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def test_resolves_by_token(clock: Clock) -> None:
    """Each reply goes to the ask whose token it carries."""
    asks = Asks()
    one, two = asks.open("a", 1), asks.open("b", 1)
    assert one.token != two.token
    asks.resolve(two.key, Message("r", b"2"))
    asks.resolve(one.key, Message("r", b"1"))
    assert (await one.future).data == b"1"
    assert (await two.future).data == b"2"
    assert len(asks) == 0


async def test_expires_within_a_tick(clock: Clock) -> None:
    """An ask ends no earlier than its timeout and no later than a tick after."""
    asks = Asks()
    ask = asks.open("slow.it", 1.0)
    clock.run(1.0 - 1e-6)
    assert not ask.future.done()
    clock.run(TICK + 1e-6)
    with pytest.raises(DeadlineExceeded, match=r"no reply from 'slow\.it' in 1 s"):
        ask.future.result()


async def test_one_late_timer_ends_all_that_are_due(clock: Clock) -> None:
    """A loop that stood still is not made later by a turn for each tick that it missed."""
    asks = Asks()
    due = [asks.open("a", 0.1 * n) for n in range(1, 9)]
    later = asks.open("a", 2.0)
    clock.now += 1.0
    (timer,) = [t for t in clock.timers if not t.cancelled()]
    clock.timers.clear()
    timer._run()
    assert all(isinstance(a.future.exception(), DeadlineExceeded) for a in due)
    assert not later.future.done()
    assert clock.armed == [pytest.approx(1.0, abs=TICK)]


async def test_one_timer_serves_all(clock: Clock) -> None:
    """1,000 asks set one timer; a shorter one moves it; it stops when nothing waits."""
    asks = Asks()
    waiting = [asks.open("a", 5) for _ in range(1000)]
    assert len(clock.armed) == 1
    short = asks.open("a", 0.5)
    assert len(clock.armed) == 1
    clock.run(0.5 + TICK)
    assert short.future.exception() is not None
    assert len(clock.armed) == 1
    clock.run(5)
    assert all(isinstance(a.future.exception(), DeadlineExceeded) for a in waiting)
    assert clock.armed == []
    late = asks.open("a", 1)
    clock.run(1 + TICK)
    assert isinstance(late.future.exception(), DeadlineExceeded)


async def test_answered_asks_leave_nothing(clock: Clock) -> None:
    """The table and the timer are empty once everybody has a reply."""
    asks = Asks()
    for _ in range(1000):
        asks.resolve(asks.open("a", 5).key, Message("r"))
        clock.run(0.001)
    assert len(asks) == 0
    clock.run(6)
    assert clock.armed == []


@pytest.mark.parametrize("timeout", [0, -1, math.nan, -math.inf])
async def test_refuses_no_time(timeout: float) -> None:
    """Without time left there is nothing to wait for."""
    asks = Asks()
    with pytest.raises(DeadlineExceeded, match="no time left to ask 'a'"):
        asks.open("a", timeout)
    assert len(asks) == 0


async def test_can_wait_for_ever(clock: Clock) -> None:
    """An endless timeout is not swept, and does not stop others from expiring."""
    asks = Asks()
    forever = asks.open("a", math.inf)
    ask = asks.open("a", 1)
    clock.run(2)
    assert isinstance(ask.future.exception(), DeadlineExceeded)
    assert not forever.future.done()
    assert clock.armed == []


async def test_turns_503_into_no_responders() -> None:
    """The server's word for an empty house; a service's own 503 has a body."""
    asks = Asks()
    empty, own = asks.open("a.b", 1), asks.open("a.b", 1)
    block = b"NATS/1.0 503\r\n\r\n"
    asks.resolve(empty.key, Message("r", header_block=block))
    asks.resolve(own.key, Message("r", b"busy", header_block=block))
    with pytest.raises(NoResponders) as info:
        await empty.future
    assert info.value.subject == "a.b"
    assert (await own.future).status == 503


async def test_counts_late_replies() -> None:
    """A reply to a forgotten, answered or unknown token is dropped and counted."""
    asks = Asks()
    ask = asks.open("a", 1)
    assert asks.forget(ask)
    assert not asks.forget(ask)
    asks.resolve(ask.key, Message("r"))
    asks.resolve(b"12345", Message("r"))
    assert asks.late == 2
    assert not ask.future.done()


async def test_tells_what_was_sent() -> None:
    """When the link breaks, each ask learns whether it had been written."""
    asks = Asks()
    written = asks.open("a", 1)
    asks.mark_written()
    waiting = asks.open("a", 1)
    asks.fail_all("gone")
    for ask, sent in ((written, True), (waiting, False)):
        with pytest.raises(Disconnected, match="gone") as info:
            await ask.future
        assert info.value.sent is sent
    assert len(asks) == 0


async def test_fails_the_chosen() -> None:
    """Only the asks that the test picks are ended."""
    asks = Asks()
    denied, allowed = asks.open("a", 1), asks.open("b", 1)
    count = asks.fail_where(
        lambda ask: ask.subject == "a", lambda ask: PermissionDenied(ask.subject)
    )
    assert count == 1
    with pytest.raises(PermissionDenied):
        await denied.future
    assert not allowed.future.done()


async def test_a_failure_nobody_looks_at_is_quiet() -> None:
    """Failing and being cancelled in one turn leaves no complaint behind."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    asks = Asks()

    async def wait() -> None:
        ask = asks.open("a", 1)
        try:
            await ask.future
        finally:
            asks.forget(ask)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asks.fail_all("gone")
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()
    assert complaints == []


def test_a_table_may_outlive_its_loop() -> None:
    """A second event loop gets its own timer; the first one's asks are forgotten."""
    asks = Asks()

    async def leave() -> None:
        asks.attend(asyncio.get_running_loop())
        asks.open("a", 60)

    async def expire() -> None:
        asks.attend(asyncio.get_running_loop())
        with pytest.raises(DeadlineExceeded):
            await asks.open("a", 0.01).future

    asyncio.run(leave())
    asyncio.run(expire())
    assert len(asks) == 0


def test_cancel_subject_names_the_service() -> None:
    """The first token of a subject is its service."""
    assert cancel_subject("shop.buy.now") == "_kit.cancel.shop"
    assert cancel_subject("ping") == "_kit.cancel.ping"
