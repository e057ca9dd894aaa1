"""One inbox for all streams of a bus: who hears what, and for how long."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import DeadlineExceeded
from kitmsg.message import Message
from kitmsg.testing.loop import VirtualTimeLoop
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.opening import accept, open_stream

if TYPE_CHECKING:
    from kitmsg.transport.stream import Stream


def test_a_bus_in_memory_outlives_its_loop() -> None:
    """Streams of a loop that ended are forgotten, as its asks are."""
    bus = MemoryBus(seed=1)
    taken: list[Stream] = []

    def receive(message: Message) -> None:
        taken.append(accept(bus, message, "test.stream", takes_items=True))

    bus.subscribe("test.stream", receive)

    async def leave_one_open() -> Stream:
        stream = await open_stream(bus, "test.stream", b"")
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        del task
        return stream

    async def use_another() -> None:
        stream = await open_stream(bus, "test.stream", b"", heartbeat=0.2)
        assert len(inbox_of(bus)) == 2  # both ends of this one
        await taken[-1].send(b"x")
        await asyncio.sleep(5)  # heartbeats go on
        assert (await anext(stream)).data == b"x"
        bus.disconnect()  # tells every stream it knows
        assert len(inbox_of(bus)) == 0

    kept = []
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        kept.append(runner.run(leave_one_open()))
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(use_another())


@pytest.mark.parametrize("reply", ["a..b", "a.*", "a b", "."])
async def test_a_frame_for_nobody_from_an_odd_subject(
    memory_bus: MemoryBus, reply: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be answered, and that is all."""
    inbox = inbox_of(memory_bus)
    with caplog.at_level(logging.ERROR):
        inbox._take(Message(f"{inbox.prefix}99", b"", reply))
    assert not caplog.records


async def test_a_peer_may_take_its_time_to_take_a_stream(memory_bus: MemoryBus) -> None:
    """Before a stream is taken nobody owes a heartbeat; its opening has its own time."""
    memory_bus.subscribe("test.stream", lambda _: None)
    with pytest.raises(DeadlineExceeded, match=r"nobody took 'test.stream' in 0.3 s"):
        await open_stream(
            memory_bus, "test.stream", b"", heartbeat=0.02, open_timeout=0.3
        )


class Silent:
    """A party that takes nothing."""

    quiet = silent = age = 0

    def renew(self) -> None: ...

    def take(self, message: Message) -> None: ...

    def beat(self) -> None: ...

    def lost(self, error: str) -> None: ...

    def denied(self, subject: str) -> None: ...


def test_busy_parties_are_counted_for_a_moment() -> None:
    """Those that took items lately share the connection; the idle ones do not count."""

    async def count() -> None:
        inbox = inbox_of(MemoryBus(seed=1))
        parties = [Silent() for _ in range(5)]
        assert [inbox.busy(party) for party in parties] == [1, 2, 3, 4, 5]
        assert inbox.busy(parties[0]) == 5
        await asyncio.sleep(0.15)
        assert inbox.busy(parties[0]) == 5  # as many as a moment ago
        await asyncio.sleep(0.15)
        assert inbox.busy(parties[0]) == 1
        await asyncio.sleep(10)
        assert inbox.busy(parties[0]) == 1

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(count())
