"""What Go kit's loggers promise, or got wrong, kept here by `logging` and these formats."""

from __future__ import annotations

import io
import json
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from kitmsg.logs import JsonFormatter, LogfmtFormatter
from kitmsg.logs.fold import FoldingHandler
from kitmsg.logs.setup import FORMATS, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator


class Writes(io.StringIO):
    """Keeps each write for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[str] = []

    def write(self, text: str) -> int:
        self.all.append(text)
        return super().write(text)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("tests.gokit")
    found.propagate = False
    found.setLevel(logging.INFO)
    yield found
    found.handlers.clear()


@pytest.mark.parametrize("formatter", [JsonFormatter(), LogfmtFormatter()])
def test_a_line_is_one_write_whoever_writes(
    logger: logging.Logger, formatter: logging.Formatter
) -> None:
    """So lines of threads, and of processes that share a pipe, do not mix."""
    stream = Writes()
    handler = FoldingHandler(stream, 0.0)
    handler.setFormatter(formatter)
    logger.addHandler(handler)

    def work(name: str) -> None:
        for number in range(50):
            logger.info("line\nof %s", name, extra={"number": number})

    threads = [threading.Thread(target=work, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stream.all) == 200
    assert all(text.count("\n") == 1 and text.endswith("\n") for text in stream.all)


def test_json_is_not_escaped_for_html() -> None:
    """A query or a tag stands as it was written."""
    record = logging.makeLogRecord({"msg": "<a href='?x=1&y=2'>", "url": "/?a&b"})
    line = JsonFormatter().format(record)
    assert "<a href='?x=1&y=2'>" in line
    assert json.loads(line)["url"] == "/?a&b"


def test_fields_of_siblings_are_their_own(logger: logging.Logger) -> None:
    """Two loggers made of one never see each other's fields."""
    stream = Writes()
    handler = FoldingHandler(stream, 0.0)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    base = {"service": "shop"}
    one = logging.LoggerAdapter(logger, {**base, "order": "A1"})
    two = logging.LoggerAdapter(logger, {**base, "user": "ann"})
    one.info("x")
    two.info("x")
    one.info("x")
    first, second, third = map(json.loads, stream.all)
    assert (first["order"], third["order"]) == ("A1", "A1")
    assert "order" not in second
    assert "user" not in third


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_level_is_enough_to_say_what_is_written(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A filter without options squelched everything; here each record has a level."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        set_up(log_format=log_format, level="warning")
        logging.getLogger("tests.squelched").info("quiet")
        logging.getLogger("tests.squelched").warning("loud")
    finally:
        root.handlers[:], root.level = before
    written = capsys.readouterr().err
    assert "loud" in written
    assert "quiet" not in written
