"""How far a long command is, on a terminal and elsewhere."""

from __future__ import annotations

import io

from kitmsg.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_long_command_says_how_far_it_is_and_leaves_no_line() -> None:
    terminal, clock = Terminal(), Clock()
    with Progress(2000, stream=terminal, clock=clock) as progress:
        progress.at(1)
        assert terminal.getvalue() == ""  # a short one says nothing
        clock.now = 1.0
        progress.at(1500)
        progress.at(1501)  # not for each
    assert terminal.getvalue() == "\r\033[K1,500 of 2,000 (75%)\r\033[K"


def test_where_nobody_knows_how_many_there_are_only_the_count_is_shown() -> None:
    terminal, clock = Terminal(), Clock()
    with Progress(stream=terminal, clock=clock) as progress:
        clock.now = 1.0
        progress.at(7)
    assert terminal.getvalue() == "\r\033[K7\r\033[K"


def test_a_log_has_no_line_of_progress() -> None:
    log, clock = io.StringIO(), Clock()
    with Progress(10, stream=log, clock=clock) as progress:
        clock.now = 1.0
        progress.at(5)
    assert log.getvalue() == ""
