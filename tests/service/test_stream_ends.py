"""Streams that end early: errors, cancellation, deadlines, readers that leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from kitmsg import (
    Kit,
    Service,
    endpoint,
)
from kitmsg.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
)
from kitmsg.transport.inbox import inbox_of
from tests.service.meter import Meter, Reading, TooFar


async def test_a_declared_error_after_items(kit: Kit, meter: Meter) -> None:
    """The items come first, then the error with its fields."""
    counting = kit.client(Meter).count(2, fails=True)
    assert [(await anext(counting)).at for _ in range(2)] == [0, 1]
    with pytest.raises(TooFar) as caught:
        await anext(counting)
    assert caught.value.limit == 2


async def test_an_undeclared_error_says_nothing(
    kit: Kit, meter: Meter, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets `Internal` and a request id; the log has the rest."""
    with pytest.raises(Internal) as caught:
        async for _ in kit.client(Meter).broken():
            pass
    assert "hunter2" not in str(caught.value)
    assert "hunter2" in caplog.text


async def test_leaving_the_loop_ends_the_work(kit: Kit, meter: Meter) -> None:
    """``break`` is enough: the generator of the service runs its ``finally``."""
    async for _ in kit.client(Meter).ticks():
        break
    await asyncio.sleep(0.01)
    assert meter.closed == ["ticks"]
    assert len(inbox_of(kit.bus)) == 0


async def test_closing_ends_the_work(kit: Kit, meter: Meter) -> None:
    """`aclosing` works as with any generator."""
    async with aclosing(kit.client(Meter).ticks()) as ticks:
        assert await anext(ticks) == "tick"
    await asyncio.sleep(0.01)
    assert meter.closed == ["ticks"]


async def test_cancelling_the_reader_ends_the_work(kit: Kit, meter: Meter) -> None:
    """A task that is cancelled while it reads takes the service's work with it."""

    async def read() -> None:
        async for _ in kit.client(Meter).ticks():
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(2.5)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    del reading
    await asyncio.sleep(0.01)
    assert meter.closed == ["ticks"]


async def test_an_abandoned_call_is_never_sent(kit: Kit, meter: Meter) -> None:
    """A stream that nobody reads is not opened at all."""
    kit.client(Meter).ticks()
    await asyncio.sleep(1)
    assert kit.hosts[0].snapshots()["meter.ticks"].requests == 0


async def test_an_error_in_the_callers_own_stream(kit: Kit, meter: Meter) -> None:
    """It is raised as it is, and the service's work is cancelled."""

    async def broken() -> AsyncIterator[Reading]:
        yield Reading(1, 1.0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await kit.client(Meter).total(0, broken())
    await asyncio.sleep(0.01)
    assert kit.hosts[0].snapshots()["meter.total"].cancelled == 1


async def test_a_service_may_answer_early(kit: Kit, meter: Meter) -> None:
    """The rest of the caller's items is not waited for, endless as they may be."""
    asked = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield "word"
            await asyncio.sleep(1)

    assert await kit.client(Meter).early(endless()) == "word"
    before = asked
    await asyncio.sleep(10)
    assert asked == before


async def test_a_declared_timeout_is_for_the_whole_stream(
    kit: Kit, meter: Meter
) -> None:
    """At its end the caller has `DeadlineExceeded`."""
    stream = kit.client(Meter).short()
    assert await anext(stream) == 1
    with pytest.raises(DeadlineExceeded):
        await anext(stream)


async def test_a_stream_has_no_default_deadline(kit: Kit, meter: Meter) -> None:
    """What bounds an ask, 5 s, does not bound a stream."""
    stream = kit.client(Meter, timeout=1.0).ticks()
    for _ in range(100):
        assert await anext(stream) == "tick"


async def test_a_callers_deadline_bounds_a_stream(kit: Kit, meter: Meter) -> None:
    """A turn with 2 s left cannot read for longer."""

    class Reader(Service):
        @endpoint(timeout=2.0)
        async def read(self) -> int:
            n = 0
            with contextlib.suppress(DeadlineExceeded):
                async for _ in kit.client(Meter).ticks():
                    n += 1
            return n

    await kit.serve(Reader())
    with pytest.raises(DeadlineExceeded):
        await kit.client(Reader, timeout=30).read()
    await asyncio.sleep(0.1)
    assert meter.closed == ["ticks"]


async def test_a_cancelled_open_reaches_the_service(kit: Kit) -> None:
    """A caller that is cancelled before the stream was taken leaves nothing behind."""

    class Slow(Service):
        @endpoint
        async def ticks(self) -> AsyncIterator[int]:
            await asyncio.sleep(1000)
            yield 1

    await kit.serve(Slow())
    reading = asyncio.create_task(anext(kit.client(Slow).ticks()))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await reading
    await asyncio.sleep(0.1)
    assert len(inbox_of(kit.bus)) == 0


async def test_a_stream_that_another_thread_collects(kit: Kit, meter: Meter) -> None:
    """The garbage collector may run anywhere; the service's work still ends."""
    ticks = kit.client(Meter).ticks()
    await anext(ticks)
    holder = [ticks]
    del ticks
    await asyncio.to_thread(holder.clear)
    await asyncio.sleep(0.1)
    assert meter.closed == ["ticks"]
