"""``python office.py`` is a worker: it logs, serves and drains."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.discovery.subject import find_stats
from kitmsg.errors import DeadlineExceeded, NoResponders
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_drains_on_a_signal(
    folder: Path, nats_server: EmbeddedServer, number: int
) -> None:
    """The call in hand is answered, the exit code is 0."""
    with Command(["office.py"], folder, nats_url=nats_server.url) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            call = asyncio.create_task(kit.call("desk.slow", seconds=0.5))
            while (
                not (await find_stats(kit.bus, "desk"))[0].endpoints[1].data["running"]
            ):
                pass
            command.send(number)
            assert await call == command.process.pid
        assert command.ends() == 0


async def test_a_loop_that_stands_still_gets_no_more_calls(
    folder: Path, nats_server: EmbeddedServer
) -> None:
    """There is no parent to see to that: a thread cuts the connection."""
    with Command(["office.py"], folder, nats_url=nats_server.url) as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            with pytest.raises(DeadlineExceeded):
                await kit.call("desk.stand_still", timeout=0.1)
            command.says("the event loop has stood still")
            with pytest.raises(NoResponders):
                await kit.call("desk.pid", timeout=1)


def test_wrong_settings_are_a_sentence(folder: Path) -> None:
    """A mistake in the environment ends it with code 2 and no traceback."""
    environ = {"KITMSG_LOG_LEVEL": "loud"}
    with Command(["office.py"], folder, environ=environ) as command:
        assert command.ends() == 2
        assert "log-level is 'loud'" in command.output
        assert "Traceback" not in command.output


def test_nothing_to_serve_is_a_type_error() -> None:
    """`run` without a service says what to give it."""
    with pytest.raises(TypeError, match=r"kitmsg.run\(Greeter\(\)\)"):
        kitmsg.run()


async def test_writes_a_line_per_call_when_told(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """With --access-log and JSON, a call is one object with its endpoint and code."""
    with start("office:Desk", "--access-log", "--log-format", "json") as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            await kit.call("desk.pid")
        command.says('"endpoint": "desk.pid"')
        events = [json.loads(line) for line in command.output.splitlines()]
        (line,) = [each for each in events if each.get("endpoint") == "desk.pid"]
        assert line["code"] == "ok"
        assert line["worker"] == 1
