"""Both ends of a stream doing anything at any moment, against a model of what they said."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import KitError
from kitmsg.message import encode_headers
from kitmsg.testing.loop import VirtualTimeLoop
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.opening import accept, open_stream

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from kitmsg.message import Message
    from kitmsg.transport.stream import Stream

ABORTED = encode_headers({"Kit-Code": "aborted", "Nats-Service-Error": "enough"})
MOST_WAITING = 256

sides = st.sampled_from([0, 1])  # the caller, the service


class End:
    """One end, what it sent and got, and how its reading ended."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.has_finished = False
        self.ended: BaseException | None = None
        self.tasks: list[asyncio.Task[None]] = []

    async def send(self, data: bytes) -> None:
        """Send; what was refused does not count."""
        with contextlib.suppress(KitError):
            await self.stream.send(data)
            self.sent.append(data)

    async def read(self) -> None:
        """Read one item, or the end."""
        try:
            self.got.append((await anext(self.stream)).data)
        except (StopAsyncIteration, KitError) as exc:
            self.ended = exc


class Interleaved(RuleBasedStateMachine):
    """Two ends on one bus; each rule is one thing that one of them does."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.bus = MemoryBus(seed=1)
        self.count = 0
        self.broken = False  # somebody gave up, failed, or the bus was lost
        self.ends: list[End] = self.run_now(self.open())

    def run_now(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Let the loop turn until `work` is done; the rest goes on beside it."""
        return self.runner.run(work)

    async def open(self) -> list[End]:
        taken: list[Stream] = []

        def receive(message: Message) -> None:
            taken.append(accept(self.bus, message, "test.stream", takes_items=True))

        self.bus.subscribe("test.stream", receive)
        ours = await open_stream(self.bus, "test.stream", b"", heartbeat=1.0)
        return [End(ours), End(taken[0])]

    @rule(side=sides, many=st.integers(1, 40))
    def send_in_a_task(self, side: int, many: int) -> None:
        """Several items; the task may wait for room while other things happen."""
        end = self.ends[side]

        async def send_all(items: list[bytes]) -> None:
            for data in items:
                await end.send(data)

        async def begin() -> None:
            first, self.count = self.count, self.count + many
            items = [b"%d" % n for n in range(first, self.count)]
            end.tasks.append(asyncio.create_task(send_all(items)))

        self.run_now(begin())

    @rule(side=sides)
    def read_in_a_task(self, side: int) -> None:
        """The task may wait; several may wait at once."""

        async def begin() -> None:
            end = self.ends[side]
            end.tasks.append(asyncio.create_task(end.read()))

        self.run_now(begin())

    @rule(side=sides, turns=st.integers(0, 3))
    def cancel_a_task(self, side: int, turns: int) -> None:
        """A task that waits, to send or to read, is cancelled."""

        async def cancel() -> None:
            tasks = self.ends[side].tasks
            if tasks:
                tasks[-1].cancel()
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run_now(cancel())

    @rule(side=sides)
    def finish(self, side: int) -> None:
        """No more from here; the service's end is the end of all."""
        self.ends[side].has_finished = True
        self.run_now(self.ends[side].stream.finish())

    @precondition(lambda self: len(self.ends[0].sent) > 5)
    @rule(side=sides)
    def give_up(self, side: int) -> None:
        """A cancellation."""
        self.broken = True
        self.run_now(self.act(self.ends[side].stream.cancel))

    @precondition(lambda self: len(self.ends[1].sent) > 5)
    @rule()
    def fail(self) -> None:
        """The service ends with an error."""
        self.broken = True
        end = self.ends[1].stream
        self.run_now(self.act(lambda: end.finish_with(b"", ABORTED)))

    @precondition(lambda self: self.count > 100)
    @rule()
    def lose_the_bus(self) -> None:
        """And find it again."""
        self.broken = True
        self.run_now(self.act(self.bus.disconnect))
        self.run_now(self.act(self.bus.reconnect))

    async def act(self, what: Any) -> None:
        what()

    @rule(turns=st.integers(0, 5))
    def turn(self, turns: int) -> None:
        """A few turns of the loop."""

        async def wait() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)

        self.run_now(wait())

    @rule(seconds=st.sampled_from([0.1, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        """Time goes by; heartbeats keep the stream."""
        self.run_now(asyncio.sleep(seconds))
        both = [end.stream.is_open for end in self.ends]
        assert both[0] == both[1]
        if not self.broken and not self.ends[1].has_finished:
            assert both[0]

    @invariant()
    def what_came_was_sent(self) -> None:
        """In order, whole, and nothing twice; and no more waits than may."""
        for end, other in (self.ends, self.ends[::-1]):
            came = [*end.got, *(m.data for m in end.stream._in.items)]
            assert came == other.sent[: len(came)]
            assert len(end.stream._in.items) <= MOST_WAITING

    @invariant()
    def a_good_end_is_a_whole_one(self) -> None:
        """Who reads to a good end has all that the other side sent."""
        for end, other in (self.ends, self.ends[::-1]):
            if isinstance(end.ended, StopAsyncIteration) and not end.stream._in.items:
                assert other.has_finished
                if end.stream.error is None:
                    assert end.got == other.sent

    def teardown(self) -> None:
        """Whatever happened: nothing is left, and nobody waits for ever."""

        async def end_all() -> None:
            self.ends[0].stream.cancel()
            await asyncio.sleep(30)
            tasks = [task for end in self.ends for task in end.tasks]
            assert all(task.done() for task in tasks)
            for task in tasks:
                if not task.cancelled():
                    assert task.exception() is None
            for end in self.ends:
                assert not end.stream.is_open
                assert len(end.stream._in.waiters) == 0
                assert len(end.stream._out.waiters) == 0
                with contextlib.suppress(KitError):
                    await end.stream.send(b"late")
                    raise AssertionError("a stream that is over took an item")
            assert len(inbox_of(self.bus)) == 0
            await self.bus.close()

        self.run_now(end_all())
        self.runner.close()


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
