"""When commands are written: at once, joined, or after a few turns of the loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from kitmsg.bus.outbox import Outbox
from kitmsg.bus.soon import Soon
from kitmsg.errors import Disconnected, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable


class Wire:
    """A socket that notes what is written to it.

    Closed, it raises as uvloop's does; full, it has a million bytes to write.
    """

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = self.is_full = False

    def write(self, data: bytes) -> None:
        if self.is_closed:
            raise RuntimeError("unable to perform operation; the handler is closed")
        self.writes.append(data)

    def get_write_buffer_size(self) -> int:
        return 2_000_000 if self.is_full else 0


class Fixture:
    """An outbox on such a socket, with as many asks awaited as a test says."""

    def __init__(self) -> None:
        self.asks = 0
        self.wire = Wire()
        self.written = 0  # how often all was said to be written
        self.dropped: list[int] = []
        soon = Soon(lambda _: None)
        self.out = Outbox(
            soon, lambda: self.asks, 1 << 20, self._count, lambda _: self._drop()
        )
        self.out.attach(cast("asyncio.WriteTransport", self.wire))
        self.steps: list[Callable[[], object]] = []
        self.seconds = 0.0  # of the last one

    def _count(self) -> None:
        self.written += 1

    def _drop(self) -> None:
        self.dropped.append(self.out.detach())

    def expect(self, monkeypatch: pytest.MonkeyPatch, target: int) -> None:
        """Have commands wait for `target` of them; `step` is what the timer does."""
        linger = self.out._linger
        monkeypatch.setattr(type(linger), "measure", lambda _, count: count < 0)
        linger.target, linger.is_worth = target, True
        monkeypatch.setattr(Soon, "later", lambda _, *given: self._note(*given))

    def _note(self, seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        self.seconds = seconds
        self.steps.append(call)
        loop = asyncio.get_running_loop()
        return loop.call_later(60, lambda: None)  # cancelled, or the loop's end

    def step(self) -> None:
        self.steps.pop()()


@pytest.fixture
async def box() -> Fixture:
    """One for each test, made inside its loop."""
    return Fixture()


async def turn() -> None:
    await asyncio.sleep(0)


async def test_a_lone_command_is_written_at_once(box: Fixture) -> None:
    """Nobody else is waiting, so nothing is waited for."""
    box.out.send(b"a")
    assert box.wire.writes == [b"a"]


async def test_commands_of_a_turn_are_joined(box: Fixture) -> None:
    """The first went out at once; the others go together."""
    for command in (b"a", b"b", b"c"):
        box.out.send(command)
    await turn()
    assert box.wire.writes == [b"a", b"bc"]


async def test_what_nobody_waits_for_leaves_with_the_rest_of_its_turn(
    box: Fixture,
) -> None:
    """Not at once; in its place; and no batch of those who are waited for ends it."""
    box.out.join(b"a")
    box.out.send(b"b")
    for _ in range(29):
        box.out.join(b"c")
    assert box.wire.writes == []
    await turn()
    assert box.wire.writes == [b"ab" + b"c" * 29]
    for _ in range(40):
        box.out.join(b"d")
    box.out.send(b"e")
    assert box.wire.writes[1:] == [b"d" * 40 + b"e"]


async def test_what_nobody_waits_for_leaves_when_it_is_much(box: Fixture) -> None:
    """A turn may be long, and the other side has work with it."""
    for _ in range(300):
        box.out.join(b"a")
    assert box.wire.writes == [b"a" * 256]
    await turn()
    assert box.wire.writes[1:] == [b"a" * 44]


async def test_what_nobody_waits_for_is_refused_as_the_rest(box: Fixture) -> None:
    """There is room for it, or its sender is told."""
    box.wire.is_full = True
    box.out.join(b"a")
    await turn()
    with pytest.raises(ResourceExhausted):
        box.out.join(b"b")


async def test_with_many_asks_a_command_waits_for_the_next_turn(box: Fixture) -> None:
    """One a turn becomes one write; the first turn without any ends the wait."""
    box.asks = 16
    for command in (b"a", b"b", b"c"):
        box.out.send(command)
        await turn()
    assert box.wire.writes == []
    await turn()
    assert box.wire.writes == [b"abc"]


async def test_it_never_waits_long(box: Fixture) -> None:
    """After eight commands, or eight turns, they go however many more come."""
    box.asks = 1000
    for _ in range(9):
        box.out.send(b"x")
        await turn()
    assert box.wire.writes[0] == b"x" * 8


async def test_with_few_asks_nothing_waits(box: Fixture) -> None:
    """The latency of a few is worth more than the cost of a write."""
    box.asks = 15
    box.out.send(b"a")
    await turn()
    box.out.send(b"b")
    assert box.wire.writes == [b"a", b"b"]


# -- refusals and losses


async def test_a_closed_socket_refuses_a_lone_command(box: Fixture) -> None:
    """It is not said to be written, and the connection hears of it at once."""
    box.wire.is_closed = True
    with pytest.raises(Disconnected):
        box.out.send(b"a")
    assert (box.written, box.dropped) == (0, [0])
    await turn()


async def test_a_closed_socket_drops_what_was_joined(box: Fixture) -> None:
    """Nobody is there to be told but the connection, which counts it."""
    for command in (b"a", b"b", b"c"):
        box.out.send(command)
    box.wire.is_closed = True
    await turn()
    assert box.wire.writes == [b"a"]
    assert (box.written, box.dropped) == (1, [2])


async def test_a_closed_socket_refuses_the_command_that_fills_a_batch(
    box: Fixture,
) -> None:
    """It is the one whose sender can still be told."""
    box.wire.is_closed = True
    box.out.put(b"a")
    for _ in range(30):
        box.out.send(b"b")
    with pytest.raises(Disconnected):
        box.out.send(b"c")
    assert box.dropped == [32]


async def test_what_keeps_state_alike_is_never_refused(box: Fixture) -> None:
    """A SUB or a PING has room where a message has none, and keeps its place."""
    box.wire.is_full = True
    box.out.send(b"a")
    await turn()
    with pytest.raises(ResourceExhausted):
        box.out.send(b"b")
    box.out.put(b"c")
    await turn()
    assert box.wire.writes == [b"a", b"c"]


# -- waiting by the clock; how many for is tested in `test_linger`


@pytest.fixture
async def waiting(box: Fixture, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    """One that waits for three commands, while a few asks are awaited."""
    box.asks = 3
    box.out.send(b"first")
    box.expect(monkeypatch, 3)
    await turn()  # which finds that from now on commands wait
    box.wire.writes.clear()
    return box


async def send_each_turn(box: Fixture, *commands: bytes) -> None:
    for command in commands:
        box.out.send(command)
        await turn()


async def test_commands_wait_for_as_many_as_are_worth_it(waiting: Fixture) -> None:
    """They leave with the last of them, not with the timer."""
    await send_each_turn(waiting, b"a", b"b")
    assert waiting.wire.writes == []
    waiting.out.send(b"c")
    assert waiting.wire.writes == [b"abc"]


async def test_a_wait_ends_when_a_step_brings_nothing(waiting: Fixture) -> None:
    """A millisecond without company is enough."""
    await send_each_turn(waiting, b"a")
    waiting.step()
    assert waiting.wire.writes == [b"a"]


async def test_a_step_lasts_a_millisecond_at_least(waiting: Fixture) -> None:
    """Also by uvloop's timers, which may come one too early."""
    await send_each_turn(waiting, b"a")
    assert waiting.seconds - 0.001 >= 0.001


async def test_a_wait_ends_after_two_steps(waiting: Fixture) -> None:
    """Even if the second one brought some."""
    await send_each_turn(waiting, b"a")
    waiting.out.send(b"b")
    waiting.step()
    assert waiting.wire.writes == []
    waiting.step()
    assert waiting.wire.writes == [b"ab"]


async def test_after_a_wait_the_next_command_waits_anew(waiting: Fixture) -> None:
    """Nothing of the wait before is left over."""
    await send_each_turn(waiting, b"a", b"b", b"c", b"d")
    assert waiting.wire.writes == [b"abc"]
    waiting.step()
    assert waiting.wire.writes == [b"abc", b"d"]


async def test_without_asks_nothing_waits(waiting: Fixture) -> None:
    """An answer, or an event, has nobody behind it who would bring more."""
    waiting.asks = 0
    await send_each_turn(waiting, b"a")
    assert waiting.wire.writes == [b"a"]


async def test_a_flush_does_not_wait(waiting: Fixture) -> None:
    """Commands after it begin a batch of their own, which leaves in time."""
    await send_each_turn(waiting, b"a")
    waiting.out.write()
    assert waiting.wire.writes == [b"a"]
    waiting.out.send(b"b")
    waiting.step()
    assert waiting.wire.writes == [b"a", b"b"]


async def test_a_lost_connection_ends_a_wait(waiting: Fixture) -> None:
    """Nothing that waited is written to the next one."""
    await send_each_turn(waiting, b"a")
    assert waiting.out.detach() == 1
    waiting.out.attach(cast("asyncio.WriteTransport", waiting.wire))
    waiting.step()
    assert waiting.wire.writes == []
