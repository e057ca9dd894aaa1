"""When a silent link is taken for dead."""

from __future__ import annotations

import pytest

from kitmsg.bus.pulse import STEP, Pulse, Verdict

FINE, PING, DEAD = Verdict.FINE, Verdict.PING, Verdict.DEAD


class Link:
    """A link that is checked at every step."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = self.backlog = 0
        self.is_expecting = True
        self._pulse = Pulse()
        self.check()

    def check(self) -> Verdict:
        return self._pulse.check(
            self.now, self.reads, self.backlog, is_expecting=self.is_expecting
        )

    def step(self, seconds: float = STEP) -> Verdict:
        self.now += seconds
        return self.check()


@pytest.fixture
def link() -> Link:
    link = Link()
    link.step()  # the first check of all is late, and the second finds nothing new
    link.reads += 1
    link.step()
    return link


def test_silence_is_asked_about_and_then_is_the_end(link: Link) -> None:
    """Four steps after the last read at most."""
    assert [link.step() for _ in range(3)] == [PING, FINE, DEAD]


def test_a_read_is_life(link: Link) -> None:
    """Whatever it is; the next silence is asked about again."""
    assert link.step() is PING
    link.reads += 1
    assert [link.step() for _ in range(2)] == [FINE, PING]


def test_where_nothing_is_awaited_silence_is_normal(link: Link) -> None:
    """An idle connection is looked after by its ping interval."""
    link.is_expecting = False
    assert [link.step() for _ in range(10)] == [FINE] * 10


def test_a_late_check_judges_nobody(link: Link) -> None:
    """A loop that was blocked has not read what came meanwhile."""
    link.step()
    link.step()
    assert link.step(5.0) is FINE
    assert link.step() is PING


def test_much_that_leaves_slowly_is_life(link: Link) -> None:
    """A PING waits behind it."""
    link.backlog = 8 << 20
    for _ in range(10):
        link.backlog -= 300_000
        assert link.step() is not DEAD
    assert [link.step() for _ in range(3)][-1] is DEAD


def test_a_few_bytes_that_leave_are_not(link: Link) -> None:
    """The kernel of a frozen server still acknowledges."""
    verdicts = []
    for backlog in (1000, 0, 1000, 0):
        link.backlog = backlog
        verdicts.append(link.step())
    assert DEAD in verdicts
