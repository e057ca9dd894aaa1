"""docs/streams.md: its service runs, its commands print what they show, it names what is."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

import kitmsg
import kitmsg_gateways.http
from kitmsg.bus.memory import MemoryBus
from kitmsg_gateways.http import GatewayOptions
from kitmsg_gateways.http.streams.protocol import PROTOCOLS
from tests.require import need

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve what the page defines, and return where it is."""
    (source,) = [block for kind, block in BLOCKS if kind == "python"]
    (tmp_path / "page_about_streams.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    page: Any = importlib.import_module("page_about_streams")
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        await kit.serve(page.Feed())
        server = await kitmsg_gateways.http.serve(kit, GatewayOptions(port=0))
        yield server.url
        await server.stop()


async def test_the_commands_print_what_the_page_shows(url: str) -> None:
    """Run by a shell, against a gateway in front of the page's service."""
    need("curl")
    text = "".join(block for kind, block in BLOCKS if kind == "console")
    parts = [part.partition("\n") for part in text.split("$ ")[1:]]
    assert len(parts) == 5
    for command, _, printed in parts:
        line = command.replace("localhost:8080", url).replace("curl ", "curl -s ", 1)
        run = await asyncio.create_subprocess_shell(
            line, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await run.communicate()
        assert out.decode().strip() == printed.strip(), command


async def test_the_websocket_of_the_page(url: str) -> None:
    """It says what the page's script would show."""
    where = url.replace("http", "ws", 1) + "/chat?name=Ann"
    async with connect(where, subprotocols=["kitmsg.json"]) as socket:  # type: ignore[list-item]
        await socket.send('"hello"')
        assert await socket.recv() == '"Ann said hello"'


def test_what_the_page_names_is_there() -> None:
    """Options with their defaults, subprotocols, and types of bodies."""
    options = GatewayOptions()
    for flag in re.findall(r"`--([\w-]+)", PAGE):
        assert hasattr(options, flag.replace("-", "_")), flag
    assert (options.max_streams, options.stream_heartbeat) == (10_000, 15.0)
    assert (options.send_timeout, options.body_timeout) == (30.0, 30.0)
    assert all(f"`{name}`" in PAGE for name in PROTOCOLS)
