"""One event is one line, with its fields, for people or for machines."""

from __future__ import annotations

import io
import json
import logging
from contextvars import copy_context
from typing import Any

import pytest

from kitmsg.context import Context, enter
from kitmsg.message import Message
from kitmsg.worker.logs import ConsoleFormatter, JsonFormatter, uses_colour


def record(text: str = "hello %s", *args: object, **extra: Any) -> logging.LogRecord:
    """Return a log record."""
    logger = logging.getLogger("kitmsg.test")
    return logger.makeRecord(
        "kitmsg.test",
        logging.WARNING,
        "f.py",
        1,
        text,
        args or ("you",),
        None,
        extra=extra,
    )


def test_json_has_the_fields() -> None:
    """A line is an object with time, level, logger, message, and the extras."""
    event = json.loads(JsonFormatter({"worker": 2}).format(record(size=5)))
    assert event.pop("ts").endswith("Z")
    assert event.pop("pid") > 0
    assert event == {
        "level": "warning",
        "logger": "kitmsg.test",
        "msg": "hello you",
        "worker": 2,
        "size": 5,
    }


def test_a_traceback_is_one_field() -> None:
    """An exception stays inside its line."""
    line = record()
    try:
        raise RuntimeError("no\nluck")
    except RuntimeError as exc:
        line.exc_info = (RuntimeError, exc, exc.__traceback__)
    text = JsonFormatter().format(line)
    assert "\n" not in text
    assert "RuntimeError: no\nluck" in json.loads(text)["error"]


def test_what_json_does_not_know_is_written_as_text() -> None:
    """An extra of any type does not break the line."""
    assert json.loads(JsonFormatter().format(record(what={1}.__class__)))["what"]


def test_a_line_within_a_turn_names_it() -> None:
    """Endpoint and request id come from the turn that runs."""
    headers = b"NATS/1.0\r\nKit-Request-Id: 7\r\n\r\n"
    message = Message(subject="a.b", data=b"", header_block=headers)

    def within() -> str:
        enter(Context(endpoint="a.b", message=message))
        return JsonFormatter().format(record())

    event = json.loads(copy_context().run(within))
    assert (event["endpoint"], event["request_id"]) == ("a.b", "7")


def test_the_console_line_is_short() -> None:
    """A line for people has level, logger, message and extras."""
    text = ConsoleFormatter(fields={"worker": 1}).format(record(size=5))
    assert text.endswith("warn  test      hello you worker=1 size=5")
    assert "\033" not in text
    assert "\033[33m" in ConsoleFormatter(colour=True).format(record())


@pytest.mark.parametrize(
    ("is_terminal", "environ", "has_colour"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False)],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,
    environ: dict[str, str],
    has_colour: bool,
) -> None:
    """Colours need a terminal, and are off when NO_COLOR is set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, text in environ.items():
        monkeypatch.setenv(name, text)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal)
    assert uses_colour(stream) is has_colour


def test_a_line_of_a_peer_forges_no_other() -> None:
    """Neither by a line break, nor by what a terminal obeys."""
    forged = "x\n12:00:00.000 INFO  all is well\x1b[2J\u202e"
    text = ConsoleFormatter().format(record("%s", forged, peer=f"a\x1b[31m{'b'}"))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.splitlines()[1].startswith("    12:00:00.000")
