"""The gateway over NATS itself, as commands, over HTTP and standard input."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

import kitmsg
from tests.gateways.mcp.conftest import INITIALIZE
from tests.gateways.mcp.services import Shop
from tests.worker.commands import Command, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.bus.nats import NatsBus

COMMAND = ["-m", "kitmsg", "gateway", "mcp"]


@pytest.fixture
async def shop(nats_bus: NatsBus) -> AsyncIterator[Shop]:
    """A shop on a real bus."""
    async with kitmsg.connect(bus=nats_bus) as kit:
        shop = Shop()
        await kit.serve(shop)
        yield shop


def over_stdio(url: str, log: Any, *more: str) -> Any:
    """Return the streams of a gateway that a desktop client starts."""
    words = [*COMMAND, "--stdio", *more]
    server = StdioServerParameters(
        command=sys.executable, args=words, env={"NATS_URL": url}
    )
    return stdio_client(server, errlog=log)


async def test_a_desktop_client_starts_it(
    shop: Shop, nats_server: EmbeddedServer, tmp_path: Path, mode: str
) -> None:
    """Over standard input and output; what it logs goes to standard error."""
    told: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(progress)

    log = tmp_path / "log"
    with log.open("w") as errors:
        streams = over_stdio(nats_server.url, errors)
        async with Client(streams, mode=mode) as client:
            assert "- shop: Sells things." in (client.instructions or "")
            found = await client.call_tool("shop.get", {"id": "B2"})
            assert found.structured_content == {"result": None}
            found = await client.call_tool(
                "shop.count", {"upto": 3}, progress_callback=note
            )
            assert found.structured_content["count"] == 3
            call = asyncio.create_task(client.call_tool("shop.wait"))
            await shop.begun.wait()
            call.cancel()
            async with asyncio.timeout(5):
                await shop.cancelled.wait()
    assert told == [1, 2, 3]
    assert "MCP gateway, 11 endpoints, ready at stdio" in log.read_text()
    assert "Traceback" not in log.read_text()


async def test_no_access_log_stands_between_a_client_and_its_answers(
    shop: Shop, nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """Standard output is the client's, so lines of calls are log lines then."""
    log = tmp_path / "log"
    with log.open("w") as errors:
        streams = over_stdio(nats_server.url, errors, "--access-log", "common")
        async with Client(streams) as client:
            await client.call_tool("shop.get", {"id": "B2"})
    assert "shop.get ok" in log.read_text()


def start_by_hand(
    url: str, folder: Path, command: list[str] = COMMAND
) -> subprocess.Popen[bytes]:
    """Start the gateway on pipes."""
    return subprocess.Popen(
        [sys.executable, *command, "--stdio"],
        cwd=folder,
        env={"NATS_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ask(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Return the answer to ``initialize``."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
    process.stdin.flush()
    answer: dict[str, Any] = json.loads(process.stdout.readline())
    return answer


@pytest.mark.parametrize("command", [COMMAND, ["-m", "kitmsg_gateways.mcp"]])
def test_it_ends_with_its_client(
    nats_server: EmbeddedServer, tmp_path: Path, command: list[str]
) -> None:
    """When standard input is closed, with exit code 0, and nothing else on stdout."""
    process = start_by_hand(nats_server.url, tmp_path, command)
    assert ask(process)["result"]["capabilities"]["tools"]["listChanged"] is True
    out, _ = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"")


def test_a_line_that_is_too_long_ends_it(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """With a sentence that says so."""
    words = [*COMMAND, "--max-body-bytes", "1000"]
    process = start_by_hand(nats_server.url, tmp_path, words)
    ask(process)
    _, errors = process.communicate(b"x" * 100_000 + b"\n", timeout=20)
    assert process.returncode == 0
    assert b"longer than 1000 bytes" in errors
    assert b"Traceback" not in errors


def test_a_signal_ends_it_while_its_client_waits(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """An open standard input holds it up no moment."""
    process = start_by_hand(nats_server.url, tmp_path)
    ask(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert process.stderr
    assert b"Traceback" not in process.stderr.read()
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe
        pipe.close()


async def test_serves_what_is_on_the_bus(
    shop: Shop, nats_server: EmbeddedServer, tmp_path: Path, mode: str
) -> None:
    """Over HTTP; SIGTERM ends it with 0."""
    words = [*COMMAND, "--port", "0"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        await asyncio.to_thread(command.says, "ready at")
        found = re.search(r"ready at (http://\S+/mcp)", command.output)
        assert found
        async with Client(found[1], mode=mode) as client:
            order = {"id": "A1", "items": [{"sku": "tea", "count": 2}]}
            answer = await client.call_tool("shop.put", order)
            assert answer.structured_content == order
        command.send(signal.SIGTERM)
        assert await asyncio.to_thread(command.ends) == 0
        assert "Traceback" not in command.output
        assert "session" not in command.output  # their ids are nobody's business


def test_dev_opens_one(tmp_path: Path) -> None:
    """Beside the others, where it is asked for."""
    (tmp_path / "greeter.py").write_text(
        "from kitmsg import Service, endpoint\n\n\n"
        "class Greeter(Service):\n"
        "    @endpoint\n"
        "    async def hello(self, name: str) -> str:\n"
        "        return f'Hello, {name}!'\n"
    )
    words = ["-m", "kitmsg", "dev", "greeter.py", "--nats", "0", "--no-http"]
    with Command([*words, "--mcp", "0"], tmp_path) as command:
        command.says("/mcp")
        found = re.search(r"http://\S+/mcp", command.output)
        assert found

        async def hello() -> Any:
            async with Client(found[0]) as client:
                return await client.call_tool("greeter.hello", {"name": "Ann"})

        answer = asyncio.run(hello())
        assert answer.structured_content == {"result": "Hello, Ann!"}
        command.send(signal.SIGINT)
        until(lambda: command.process.poll() is not None, "it ends")


def test_workers_are_refused_in_one_sentence(tmp_path: Path) -> None:
    """Sessions live in one process."""
    with Command([*COMMAND, "--workers", "2"], tmp_path) as command:
        assert command.ends() == 2
        assert "sessions live in one process" in command.output
        assert "Traceback" not in command.output


def test_standard_input_is_for_one_process(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A supervisor, which --health starts, has none to give."""
    words = [*COMMAND, "--stdio", "--health", "0"]
    with Command(words, tmp_path, nats_url=nats_server.url) as command:
        assert command.ends() != 0
        assert "stdio: it is served by one process" in command.output
        assert "Traceback" not in command.output
