"""When waiting for more commands pays, and how it is found out."""

from __future__ import annotations

import pytest

from kitmsg.bus.linger import Linger


class Process:
    """A process whose clocks a test sets."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.linger = Linger(lambda: self.now, lambda: self.used)

    def spend(self, commands: int, cost: float, share: float = 1.0) -> None:
        """Make `commands` that cost `cost` seconds each, at a `share` of a core."""
        self.used += commands * cost
        self.now += commands * cost / share
        assert self.linger.measure(commands)


@pytest.fixture
def process() -> Process:
    return Process()


def waits_until_hit(linger: Linger) -> int:
    """Return how many commands leave without a wait before one is tried."""
    count = 0
    while linger.target == 1:
        linger.hit()
        count += 1
    return count


def test_an_idle_process_never_waits(process: Process) -> None:
    """However slow its calls are, and however long it goes on."""
    for _ in range(100):
        process.spend(100, 400e-6, share=0.4)
        for _ in range(100):
            process.linger.hit()
    assert process.linger.target == 1


def test_cheap_commands_never_wait(process: Process) -> None:
    """They come together in a turn of the loop anyway."""
    for _ in range(100):
        process.spend(1000, 30e-6)
        for _ in range(100):
            process.linger.hit()
    assert process.linger.target == 1


def test_a_busy_process_tries_and_goes_on_with_what_works(process: Process) -> None:
    """The more come in time, the more are waited for; sixteen are enough."""
    process.spend(100, 400e-6)
    seen = []
    for _ in range(200):
        process.linger.hit()
        seen.append(process.linger.target)
    assert seen == sorted(seen)
    assert seen[:4] == [1, 1, 1, 4]
    assert seen[-1] == 16


def test_fewer_than_four_are_not_waited_for(process: Process) -> None:
    """Two or three callers lose more time than their writes are worth."""
    process.spend(100, 400e-6)
    waits_until_hit(process.linger)
    process.linger.miss()
    assert process.linger.target == 1


def test_one_miss_between_hits_changes_nothing(process: Process) -> None:
    """Asks come irregularly."""
    linger = process.linger
    process.spend(100, 400e-6)
    waits_until_hit(linger)
    for _ in range(3):
        linger.hit()
        linger.miss()
    assert linger.target == 4


def test_two_misses_in_a_row_lower_the_number(process: Process) -> None:
    """The load has fallen, so the wait ends sooner."""
    linger = process.linger
    process.spend(100, 400e-6)
    while linger.target < 9:
        linger.hit()
    linger.hit()
    linger.miss()
    linger.miss()
    assert linger.target == 8


def test_a_lone_caller_waits_in_one_call_of_a_thousand(process: Process) -> None:
    """Each failed try makes the next one rarer."""
    process.spend(100, 400e-6)
    between = []
    for _ in range(12):
        between.append(waits_until_hit(process.linger))
        process.linger.miss()
    assert between == [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024, 1024]


def test_a_try_that_works_makes_the_next_ones_frequent(process: Process) -> None:
    """After a quiet time the number grows as fast as at the beginning."""
    linger = process.linger
    process.spend(100, 400e-6)
    for _ in range(5):
        waits_until_hit(linger)
        linger.miss()
    waits_until_hit(linger)
    for _ in range(4):
        linger.hit()
    assert linger.target == 5


def test_what_was_learned_is_kept_over_an_idle_window(process: Process) -> None:
    """A pause of the load does not start it all again."""
    linger = process.linger
    process.spend(100, 400e-6)
    while linger.target < 9:
        linger.hit()
    process.spend(100, 400e-6, share=0.1)
    assert linger.target == 1
    process.spend(100, 400e-6)
    assert linger.target == 9


def test_a_window_is_measured_when_it_is_over(process: Process) -> None:
    """Twenty milliseconds; before that nothing is looked at."""
    process.now = 0.019
    assert not process.linger.measure(1000)
    process.now = 0.02
    assert process.linger.measure(1000)
    assert not process.linger.measure(0)
