"""``kitmsg log-level``: every process of a name obeys, answers, and goes back by itself."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg.cli import main
from kitmsg.wire import level_subject
from tests.worker.commands import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kitmsg.bus.embedded import EmbeddedServer

PLUGIN = """
import kitmsg, logging
from kitmsg import Service, endpoint

class Talker(Service):
    @endpoint
    async def say(self) -> None:
        logging.getLogger("talk").debug("a detail")
"""


@pytest.fixture
def order(nats_server: EmbeddedServer, capsys: Any) -> Callable[..., tuple[int, Any]]:
    """Give an order; gives the exit code and the output, as JSON where there is any."""

    def give(*words: str) -> tuple[int, Any]:
        code = main(["log-level", *words, "--json", "--nats-url", nats_server.url])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else err

    return give


def _run(*words: str) -> int:
    return main(list(words))


async def _in_thread(call: Callable[..., Any], *words: str) -> Any:
    import asyncio

    return await asyncio.to_thread(call, *words)


async def test_every_worker_obeys_and_goes_back(
    start: Callable[..., Command],
    folder: Path,
    nats_server: EmbeddedServer,
    order: Callable[..., Any],
) -> None:
    """Two workers answer; debug lines come for a while; then none."""
    (folder / "talk.py").write_text(PLUGIN)
    with start("talk:Talker", "--workers", "2", "--log-format", "json") as command:
        command.says("is serving as", 2)
        async with kitmsg.connect(nats_server.url) as kit:
            await kit.call("talker.say")
            code, before = await _in_thread(order, "talker")
            assert code == 0
            assert [one["level"] for one in before] == ["info", "info"]
            assert all(one["changes"] == [] for one in before)
            code, now = await _in_thread(order, "talker", "debug", "--for", "2s")
            assert code == 0
            assert len({one["place"] for one in now}) == 2
            assert {one["id"] for one in now} == {one["id"] for one in before}
            for one in now:
                (change,) = one["changes"]
                assert (change["level"], change["normally"]) == ("debug", "info")
                assert 0 < change["seconds"] <= 2
            command.says("the log level of this process is debug for 2 s", 2)
            await kit.call("talker.say")
            command.says("a detail")
            command.says("the log level of this process is info again", 2)
            await kit.call("talker.say")
            _, after = await _in_thread(order, "talker")
            assert [one["level"] for one in after] == ["info", "info"]
        details = [line for line in command.output.splitlines() if "a detail" in line]
        assert len(details) == 1
        assert json.loads(details[0])["endpoint"] == "talker.say"


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_gateways_obey_too(
    folder: Path, nats_server: EmbeddedServer, order: Callable[..., Any], workers: str
) -> None:
    """Alone and as supervised workers, under the name of their kind."""
    words = ["-m", "kitmsg.cli", "gateway", "http", "--port", "0", "--workers", workers]
    with Command(words, folder, nats_url=nats_server.url) as command:
        command.says("ready at", int(workers))
        code, reports = await _in_thread(order, "gateway.http", "error")
        assert code == 0
        assert [one["level"] for one in reports] == ["error"] * int(workers)
        code, reports = await _in_thread(order, "gateway.http", "reset")
        assert [one["level"] for one in reports] == ["info"] * int(workers)


async def test_an_upstream_obeys_under_its_name(
    folder: Path, nats_server: EmbeddedServer, order: Callable[..., Any]
) -> None:
    """As any service."""
    api = {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "1"},
        "paths": {"/items": {"get": {"operationId": "items", "responses": {}}}},
    }
    (folder / "api.json").write_text(json.dumps(api))
    words = ["-m", "kitmsg.cli", "upstream", "http", "http://127.0.0.1:9"]
    words += ["--openapi", "api.json", "--as", "shop"]
    with Command(words, folder, nats_url=nats_server.url) as command:
        command.says("is serving as")
        code, (report,) = await _in_thread(order, "shop", "warning", "--for", "1m")
        assert (code, report["level"]) == (0, "warning")


async def test_what_is_wrong_is_a_sentence(
    start: Callable[..., Command], order: Callable[..., Any]
) -> None:
    """A name that nobody has, a logger that is not there, a time that is none."""
    with start("office:Desk") as command:
        command.says("is serving as")
        code, text = await _in_thread(order, "desc")
        assert code == 3
        assert "did you mean 'desk'" in text
        code, (report,) = await _in_thread(order, "desk", "debug", "--logger", "kitmsq")
        assert code == 5
        assert "no logger 'kitmsq' here; did you mean 'kitmsg'" in report["error"]
        code, text = await _in_thread(order, "desk", "debug", "--for", "2d")
        assert code == 2
        assert "write a time up to 24h" in text


async def test_nonsense_on_the_subject_harms_nobody(
    start: Callable[..., Command], nats_server: EmbeddedServer
) -> None:
    """It is refused, however long or odd it is."""
    with start("office:Desk") as command:
        command.says("is serving as")
        async with kitmsg.connect(nats_server.url) as kit:
            for data in (b"\xff", b"[]", b'{"level": 3}', b"x" * 100_000):
                reply = await kit.bus.request(level_subject("desk"), data, 5.0)
                report = json.loads(reply.data)
                assert report["error"]
                assert report["changes"] == []


async def test_the_table_shows_each_process(
    start: Callable[..., Command], nats_server: EmbeddedServer, capsys: Any
) -> None:
    """Logger, level, normal level and the time until then."""
    with start("office:Desk") as command:
        command.says("is serving as")
        words = ["log-level", "desk", "debug", "--logger", "kitmsg", "--for", "1h"]
        await _in_thread(_run, *words, "--nats-url", nats_server.url)
        out = capsys.readouterr().out
        heads, root, changed = out.splitlines()
        assert heads.split("  ")[0] == "NAME"
        assert re.search(r"\(all\) +info +info$", root)
        assert re.search(r"kitmsg +debug +\(inherited\) +3\d{3} s$", changed)
