"""structlog in a worker: its lines are like logging's, without a call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer
    from tests.worker.commands import Command

DESK = """
import structlog

from kitmsg import Service, endpoint

log = structlog.get_logger("desk")
{configured}

class Desk(Service):
    @endpoint
    async def place(self) -> None:
        log.info("placed", order="A1")
"""


async def said(command: Command, url: str) -> list[dict[str, Any]]:
    """Return the lines that the service wrote in a turn, as JSON."""
    command.says("is serving as")
    async with kitmsg.connect(url) as kit:
        await kit.call("desk.place")
    command.says("placed")
    lines = [line for line in command.output.splitlines() if "placed" in line]
    return [json.loads(line) for line in lines]


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], None]:
    """Give a function that writes the service, with lines of its own after the logger."""

    def write(configured: str) -> None:
        (tmp_path / "desk.py").write_text(DESK.format(configured=configured))

    return write


async def test_its_lines_have_the_ids_of_the_turn(
    start: Callable[..., Command],
    nats_server: EmbeddedServer,
    written: Callable[[str], None],
) -> None:
    """As those of logging have: one format, one place, fields beside."""
    written("")
    with start("desk:Desk", "--log-format", "json") as command:
        (line,) = await said(command, nats_server.url)
    assert (line["msg"], line["order"], line["logger"]) == ("placed", "A1", "desk")
    assert (line["service"], line["endpoint"]) == ("desk", "desk.place")
    assert line["request_id"]


async def test_one_that_the_program_configured_is_left_alone(
    start: Callable[..., Command],
    nats_server: EmbeddedServer,
    written: Callable[[str], None],
) -> None:
    written("structlog.configure(processors=[structlog.processors.JSONRenderer()])")
    with start("desk:Desk", "--log-format", "json") as command:
        (line,) = await said(command, nats_server.url)
    assert line == {"order": "A1", "event": "placed"}
