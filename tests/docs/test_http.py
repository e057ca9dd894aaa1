"""docs/http.md: its service runs, its commands print what they show, its table is true."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import kitmsg
import kitmsg_gateways.http
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import Code
from kitmsg_gateways.http import GatewayOptions, jsonrpc
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.pages import RESERVED
from tests.require import need

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def examples() -> list[tuple[str, str]]:
    """Return the commands on the page, each with what it prints."""
    text = "".join(block for kind, block in BLOCKS if kind == "console")
    parts = [part.partition("\n") for part in text.split("$ ")[1:]]
    return [(command, printed.strip()) for command, _, printed in parts]


@pytest.fixture
async def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Serve what the page defines, and return where it is."""
    (source,) = [block for kind, block in BLOCKS if kind == "python"]
    (tmp_path / "page_about_http.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    page: Any = importlib.import_module("page_about_http")
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        await kit.serve(page.Library())
        server = await kitmsg_gateways.http.serve(kit, GatewayOptions(port=0))
        yield server.url
        await server.stop()


async def test_the_commands_print_what_the_page_shows(url):
    """Run by a shell, against a gateway in front of the page's service."""
    need("curl")
    assert len(examples()) >= 5
    for command, printed in examples():
        line = command.replace("localhost:8080", url).replace("curl ", "curl -s ", 1)
        run = await asyncio.create_subprocess_shell(
            line, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await run.communicate()
        assert out.decode().strip() == printed, command


def test_the_table_of_json_rpc_errors_is_true():
    """Numbers and codes are those of the code."""
    table = PAGE.partition("| error | when |")[2].partition("\n\n")[0]
    numbers = [int(n) for n in re.findall(r"^\| (-\d+)", table, re.MULTILINE)]
    assert numbers == [
        jsonrpc.PARSE_ERROR,
        jsonrpc.INVALID_REQUEST,
        jsonrpc.METHOD_NOT_FOUND,
        jsonrpc.INVALID_PARAMS,
        jsonrpc.INTERNAL_ERROR,
        -32000,
    ]
    named = set(re.findall(r"`(\w+)`", table.partition("-32603")[2].partition("\n")[0]))
    internal = {
        code.value
        for code in Code
        if jsonrpc.number_of(Problem(500, code, "")) == jsonrpc.INTERNAL_ERROR
    }
    assert named == internal
    not_found = jsonrpc.number_of(Problem(404, Code.NOT_FOUND, ""))
    assert f"`not_found` is {not_found}" in table


def test_the_options_and_paths_exist():
    """What the page names is there, with the defaults that it tells."""
    options = GatewayOptions()
    assert options.max_body_bytes == 1 << 20
    assert options.compress_from_bytes == 1 << 10
    assert (options.rpc_max_batch, options.rpc_concurrency) == (100, 16)
    for flag in re.findall(r"`--([\w-]+)", PAGE):
        assert hasattr(options, flag.replace("-", "_")), flag
    for path in RESERVED:
        assert f"`{path}`" in PAGE or f"{path}`" in PAGE or path == "/"
