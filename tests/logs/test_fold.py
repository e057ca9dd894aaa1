"""Repeated warnings and errors are one line with a count, and no error hides another."""

from __future__ import annotations

import io
import json
import logging
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.context import Context, enter
from kitmsg.logs import JsonFormatter
from kitmsg.logs.fold import CALL, FoldingHandler
from kitmsg.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WINDOW = 60.0
"""Seconds; longer than any test, so that windows end by the clock of the test only."""


class Lines:
    """What a logger wrote, with a clock that is set by hand."""

    def __init__(self, window: float = WINDOW) -> None:
        self.now = 0.0
        self.stream = io.StringIO()
        self.handler = FoldingHandler(self.stream, window, clock=lambda: self.now)
        self.handler.setFormatter(JsonFormatter())
        self.log = logging.Logger("orders", logging.DEBUG)  # noqa: LOG001  # known to nobody
        self.log.addHandler(self.handler)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]

    @property
    def told(self) -> list[tuple[str, int]]:
        return [(event["msg"], event.get("repeated", 0)) for event in self.events]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """Lines that are folded."""
    made = Lines()
    yield made
    made.handler.close()


def test_repeated_warnings_are_one_line_with_a_count(lines: Lines) -> None:
    """The first at once, the others when the window is over and a line comes."""
    for number in range(5):
        lines.log.warning("no stock of %s", number)
    assert lines.told == [("no stock of 0", 0)]
    lines.now += WINDOW
    lines.log.warning("no stock of %s", 5)
    assert lines.told[1:] == [("no stock of 4", 4), ("no stock of 5", 0)]


def test_the_count_is_written_at_the_end(lines: Lines) -> None:
    """Closing the handler, as Python does when a process ends, loses no count."""
    for _ in range(3):
        lines.log.error("down")
    lines.handler.close()
    assert lines.told == [("down", 0), ("down", 2)]


def test_the_count_is_written_though_nothing_more_comes() -> None:
    """A timer ends the window of a process that falls silent."""
    done = threading.Event()

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            if "repeated" in text:
                done.set()
            return super().write(text)

    lines = Lines(0.02)
    lines.handler.setStream(Stream())
    lines.log.error("down")
    lines.log.error("down")
    lines.now += 1.0
    assert done.wait(30)
    lines.handler.close()


def _raise(error: Exception) -> Exception:
    try:
        raise error
    except Exception as exc:  # noqa: BLE001  # to have its traceback
        return exc


def _raise_elsewhere(error: Exception) -> Exception:
    try:
        raise error
    except Exception as exc:  # noqa: BLE001  # to have its traceback
        return exc


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_raise(KeyError("a")), _raise(ValueError("a"))),
        (_raise(KeyError("a")), _raise(KeyError("b"))),
        (_raise(KeyError("a")), _raise_elsewhere(KeyError("a"))),
    ],
    ids=["type", "text", "place"],
)
def test_different_errors_are_never_folded(
    lines: Lines, first: Exception, second: Exception
) -> None:
    """Be they the line's exception or an argument of its message."""
    for error in (first, second):
        lines.log.error("failed", exc_info=error)
        lines.log.error("call failed: %s", error)
    assert len(lines.events) == 4


def test_the_same_error_is_folded(lines: Lines) -> None:
    """Its traceback is written once."""

    def fail() -> None:
        try:
            raise KeyError("a")
        except KeyError:
            lines.log.exception("failed")

    for _ in range(3):
        fail()
    lines.handler.close()
    assert ["error" in event for event in lines.events] == [True, False]


def test_what_differs_is_not_folded(lines: Lines) -> None:
    """Another level, logger or template; a template that is only a place for text."""
    other = logging.Logger("billing")  # noqa: LOG001  # known to nobody
    other.addHandler(lines.handler)
    lines.log.warning("down")
    lines.log.error("down")
    other.warning("down")
    lines.log.warning("up")
    lines.log.warning("%s", "one")
    lines.log.warning("%s", "two")
    assert [count for _, count in lines.told] == [0] * 6


def test_lines_below_warning_and_lines_of_calls_are_never_folded(lines: Lines) -> None:
    """They tell what happened, not what is wrong."""
    for _ in range(3):
        lines.log.info("placed %s", 1)
        lines.log.warning("orders.place invalid", extra={CALL: True})
    assert len(lines.events) == 6


def test_the_count_names_the_requests(lines: Lines) -> None:
    """Whoever got an error finds its id in the log, and no id of an unrelated turn."""

    def turn(number: int) -> None:
        block = f"NATS/1.0\r\nKit-Request-Id: r{number}\r\n\r\n".encode()
        message = Message(subject="a.b", data=b"", header_block=block)
        enter(Context(endpoint="a.b", message=message))
        lines.log.error("failed")

    for number in range(3):
        copy_context().run(turn, number)
    lines.now += WINDOW

    def other() -> None:
        block = b"NATS/1.0\r\nKit-Request-Id: x\r\n\r\n"
        message = Message(subject="c.d", data=b"", header_block=block)
        enter(Context(endpoint="c.d", message=message))
        lines.log.error("other")

    copy_context().run(other)
    first, count, unrelated = lines.events
    assert first["request_id"] == "r0"
    assert (count["request_ids"], count["endpoint"]) == (["r1", "r2"], "a.b")
    assert "request_id" not in count
    assert unrelated["request_id"] == "x"


def test_lines_of_different_endpoints_are_not_folded(lines: Lines) -> None:
    """Nor does one hide the ids of another: a record may say both by itself."""
    for number, endpoint in enumerate(("a.b", "c.d", "a.b", "a.b")):
        extra = {"endpoint": endpoint, "request_id": f"r{number}"}
        lines.log.warning("%s failed", endpoint, extra=extra)
    lines.handler.close()
    first, other, count = lines.events
    assert (first["endpoint"], other["endpoint"]) == ("a.b", "c.d")
    assert (count["repeated"], count["request_ids"]) == (2, ["r2", "r3"])


def test_kinds_are_bounded(lines: Lines) -> None:
    """Lines of ever new kinds are written, and none is remembered beyond a number."""
    for number in range(5000):
        lines.log.warning("kind %s" % number)  # noqa: G002, UP031  # as careless code does
    assert len(lines.events) == 5000
    assert len(lines.handler._kinds) <= 512  # the bound itself


def test_an_error_that_cannot_be_shown_is_a_line(lines: Lines) -> None:
    """Its text raises, and the program goes on."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    lines.log.error("failed: %s", Broken())
    lines.log.error("failed", exc_info=Broken())
    assert len(lines.events) == 2


@pytest.mark.parametrize("window", [0.0])
def test_no_window_folds_nothing(window: float) -> None:
    """Every line is written."""
    lines = Lines(window)
    write: Callable[..., None] = lines.log.warning
    for _ in range(3):
        write("down")
    assert len(lines.events) == 3
