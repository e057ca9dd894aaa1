"""Holds on the way are seen by a caller's clock in its reply subjects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from kitmsg import Service, endpoint
from kitmsg.message import encode_headers
from kitmsg.transport.lateness import Lateness
from kitmsg.wire import INBOX_MARK, SECRET_CHARS

if TYPE_CHECKING:
    from kitmsg import Kit

INBOX = f"_INBOX.{INBOX_MARK}abc"


def reply(sent: float, *, seq: int = 0, inbox: str = INBOX) -> str:
    """Return the reply subject of an ask that was sent at `sent` by its caller's clock."""
    return f"{inbox}.{int(sent * 1000)}-{seq:0{SECRET_CHARS}}"


def test_a_hold_is_what_is_over_the_usual_way():
    """Clocks that have nothing to do with each other, and a way of 2 ms."""
    lateness = Lateness()
    for second in range(10):
        assert lateness.of(reply(500.0 + second), 9000.002 + second) == 0.0
    assert lateness.of(reply(511.0), 9014.002) == pytest.approx(3.0, abs=0.01)
    assert lateness.of(reply(515.0), 9015.002) == 0.0


def test_nothing_is_known_of_the_first_request():
    """It may have been held; the second one tells, if it was not."""
    lateness = Lateness()
    assert lateness.of(reply(0.0), 3.0) == 0.0
    assert lateness.of(reply(1.0), 1.001) == 0.0
    assert lateness.of(reply(1.0, seq=1), 4.0) == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(
    "other",
    [
        "_INBOX.abcdefgh.17",
        "_INBOX.abc.999999999999999",
        f"_INBOX.{INBOX_MARK}abc.s.17",
        f"_INBOX.{INBOX_MARK}abc.Xy7",
        "plain",
        "",
    ],
)
def test_callers_that_stamp_nothing_are_never_late(other: str) -> None:
    """Whatever their subjects look like, and however long it takes."""
    lateness = Lateness()
    assert [lateness.of(other, float(at)) for at in range(0, 1000, 100)] == [0.0] * 10


def test_a_way_that_got_longer_is_no_hold_for_ever():
    """After two windows the new way is the usual one."""
    lateness = Lateness()
    for at in range(10):
        lateness.of(reply(float(at)), at + 0.001)
    late = [lateness.of(reply(float(at)), at + 0.2) for at in range(10, 100)]
    assert late[0] == pytest.approx(0.2, abs=0.01)
    assert late[-1] == 0.0


def test_what_it_remembers_is_bounded():
    """A flood of inboxes makes it forget, not grow."""
    lateness = Lateness()
    for n in range(10_000):
        lateness.of(reply(1.0, inbox=f"_INBOX.{INBOX_MARK}{n}"), 1.0)
    assert len(lateness._ways) <= 4096


@given(
    offset=st.floats(-1e6, 1e6),
    ways=st.lists(st.floats(0.0, 0.04), min_size=1, max_size=50),
    hold=st.floats(0.2, 100.0),
)
def test_a_free_way_is_never_late_and_a_hold_is_never_overrated(offset, ways, hold):
    """Whatever the clocks' difference, and however the way varies within the noise."""
    lateness, base = Lateness(), 2e6
    for n, way in enumerate(ways):
        sent = base + n * 0.5
        assert lateness.of(reply(sent), sent + offset + way) == 0.0
    sent = base + len(ways) * 0.5
    late = lateness.of(reply(sent), sent + offset + hold)
    assert hold - 0.05 <= late <= hold + 0.005


class Desk(Service):
    """Notes what it begins."""

    def __init__(self) -> None:
        self.begun: list[int] = []

    @endpoint
    async def note(self, number: int) -> None:
        self.begun.append(number)


async def test_requests_that_piled_up_before_a_new_worker_do_not_begin_late(
    kit: Kit,
) -> None:
    """It never heard their caller; the newest one tells how old the others are."""
    desk = Desk()
    await kit.serve(desk)
    block = encode_headers({"Kit-Timeout": "500"})
    for number in range(10):
        ask = b'{"number":%d}' % number
        kit.bus.publish("desk.note", ask, reply(100 + number * 0.3), block)
    await kit.bus.flush()
    await asyncio.sleep(1)
    assert desk.begun == [8, 9]
