"""When commands are written: at once, joined, or after a few turns of the loop."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from kitmsg.bus.outbox import Outbox
from kitmsg.bus.soon import Soon


class Wire:
    """A socket that notes what is written to it."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def get_write_buffer_size(self) -> int:
        return 0


class Fixture:
    """An outbox on such a socket, with as many asks awaited as a test says."""

    def __init__(self) -> None:
        self.asks = 0
        self.wire = Wire()
        soon = Soon(lambda _: None)
        self.out = Outbox(soon, lambda: self.asks, 1 << 20, lambda: None)
        self.out.attach(cast("asyncio.WriteTransport", self.wire))


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
