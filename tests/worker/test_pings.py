"""A NATS server that pings seldom is warned of: it would notice late that a machine died."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.worker.pings import warn_of_slow_pings
from kitmsg.worker.settings import Settings
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SLOW = "the NATS server pings its clients less often than every 0.3 s"
TIGHT = ("--max-ping-interval", "0.3")


@pytest.fixture(scope="module")
def seldom() -> Iterator[EmbeddedServer]:
    """A server with the interval that NATS has where nobody sets one."""
    with EmbeddedServer(jetstream=False, config='ping_interval: "2m"') as server:
        yield server


async def warnings(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture, longest: float
) -> list[str]:
    """Return what is logged of `server`, where `longest` is the longest interval."""
    settings = Settings(nats_url=server.url, max_ping_interval=longest)
    with caplog.at_level(logging.INFO):
        await warn_of_slow_pings(settings)
    return [record.getMessage() for record in caplog.records]


async def test_a_long_interval_is_warned_of(
    seldom: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It says what is lost, and which line to write into the server's configuration."""
    (line,) = await warnings(seldom, caplog, 0.3)
    assert SLOW in line
    assert 'ping_interval: "5s"' in line


async def test_a_short_interval_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    """Two pings in time, though its first one comes as early as everywhere."""
    with EmbeddedServer(jetstream=False, config='ping_interval: "1s"') as server:
        assert await warnings(server, caplog, 10.0) == []


async def test_no_limit_no_warning(
    seldom: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Zero is for those who know."""
    assert await warnings(seldom, caplog, 0.0) == []


async def test_a_server_that_goes_away_is_not_judged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing was heard of it, and nothing is said."""
    with EmbeddedServer(jetstream=False) as server:
        server.kill()
        assert await warnings(server, caplog, 0.1) == []


def test_one_worker_of_a_parent_warns(
    start: Callable[..., Command], seldom: EmbeddedServer, folder: Path
) -> None:
    """And so does one without a parent."""
    environ = {"KITMSG_MAX_PING_INTERVAL": "0.3"}
    with (
        start("office:Desk", *TIGHT, "--workers", "2", nats_url=seldom.url) as parent,
        Command(["office.py"], folder, nats_url=seldom.url, environ=environ) as alone,
    ):
        for command in (parent, alone):
            command.says(SLOW)
            command.process.terminate()
            command.ends()
            assert command.output.count(SLOW) == 1
