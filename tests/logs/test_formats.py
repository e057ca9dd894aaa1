"""One event is one line, with its fields, for people or for machines."""

from __future__ import annotations

import io
import json
import logging
import socket
import subprocess
from contextvars import copy_context
from datetime import UTC, datetime
from logging.handlers import SysLogHandler
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.context import Context, enter
from kitmsg.logs import ConsoleFormatter, JsonFormatter, LogfmtFormatter
from kitmsg.logs.console import uses_colour
from kitmsg.message import Message
from tests import peers

if TYPE_CHECKING:
    from pathlib import Path


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


HOSTILE: dict[str, Any] = {
    "plain": "word",
    "spaced": "two words",
    "quoted": 'say "hi" \\ now',
    "equals": "a=b",
    "lines": "one\ntwo\tthree\r",
    "control": "\x00\x1b[31m\x7f\x85\u2028",
    "unicode": "Gr\u00fc\u00dfe \U0001f600",
    "empty": "",
    "null": "null",
    "is_new": True,
    "number": 1.5,
    "count": 7,
    "items": ["a", 1],
    'a key="odd"\n': "x",
}


def test_logfmt_is_what_go_kit_reads() -> None:
    """Whatever a value holds, go-logfmt gives it back; a line is one line."""
    odd = LogfmtFormatter().format(record(nothing=None, **HOSTILE))
    assert "\n" not in odd
    assert odd.isprintable()
    command = [peers.path("logfmt")]
    text = subprocess.run(
        command, input=odd, check=True, capture_output=True, text=True
    )
    event = json.loads(text.stdout)
    assert event["msg"] == "hello you"
    assert event["level"] == "warning"
    wanted = {key: str(value) for key, value in HOSTILE.items()}
    wanted["a_key_odd_"] = wanted.pop('a key="odd"\n')
    wanted |= {"is_new": "true", "items": '["a", 1]', "nothing": "null"}
    assert {key: event[key] for key in wanted} == wanted


FORMATTERS = (ConsoleFormatter(), JsonFormatter(), LogfmtFormatter())


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_no_value_loses_the_line(formatter: logging.Formatter) -> None:
    """Neither one that cannot be shown, nor one within itself, nor wrong arguments."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    around: list[Any] = []
    around.append(around)
    line = formatter.format(record("%d items", Broken(), it=Broken(), around=around))
    assert "items" in line
    assert "Broken: RuntimeError in str()" in line
    assert "not formatted: TypeError" in line


def test_json_has_the_types_of_json() -> None:
    """Numbers, lists and objects stay what they are; what JSON cannot say is text."""
    event = json.loads(
        JsonFormatter().format(
            record(
                when=datetime(2026, 1, 2, tzinfo=UTC),
                many={"a": (1, {"b": 2.5})},
                nan=float("nan"),
                lone="\ud800",
            )
        ),
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert event["when"] == "2026-01-02T00:00:00+00:00"
    assert event["many"] == {"a": [1, {"b": 2.5}]}
    assert event["nan"] == "nan"


@pytest.mark.parametrize("make", [ConsoleFormatter, JsonFormatter, LogfmtFormatter])
def test_the_source_is_said_when_it_is_asked_for(make: Any) -> None:
    """File and line of the call, as Go kit's caller."""
    assert "f.py:1" not in make().format(record())
    assert "f.py:1" in make(has_source=True).format(record())


def test_a_stack_is_shown() -> None:
    """That of `stack_info`, which is no error."""
    line = record()
    line.stack_info = "Stack:\n  f()"
    assert json.loads(JsonFormatter().format(line))["error"] == "Stack:\n  f()"


def test_syslog_gets_priority_and_line(tmp_path: Path) -> None:
    """The standard library's handler with a format of ours: Go kit's log/syslog."""
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(path)
        handler = SysLogHandler(path, facility=SysLogHandler.LOG_DAEMON)
        handler.setFormatter(LogfmtFormatter())
        handler.handle(record(size=5))
        handler.close()
        got = daemon.recv(4096).decode()
    priority = SysLogHandler.LOG_DAEMON * 8 + SysLogHandler.LOG_WARNING
    assert got.startswith(f"<{priority}>ts=")
    assert 'msg="hello you"' in got
