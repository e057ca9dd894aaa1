"""The tables of docs/operations.md are those of the code."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

import kitmsg
from examples.greeter import Greeter
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.cli.output import EXIT_CODES
from kitmsg.errors import NoResponders
from kitmsg.service import Service
from kitmsg.worker import prometheus
from kitmsg.worker.settings import Settings, load_settings
from kitmsg.worker.supervisor import Backoff

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
PROSE = " ".join(PAGE.split())
USERS = """
authorization {
  users = [
    { user: worker, password: w, permissions: {
        publish: ["greeter.>", "_kit.>", "$SRV.>", "_INBOX.>"],
        subscribe: ["greeter.>", "_kit.>", "$SRV.>", "_INBOX.>"] } }
    { user: caller, password: c, permissions: {
        publish: ["greeter.>", "_kit.cancel.*", "$SRV.>"],
        subscribe: ["_INBOX.>"] } }
  ]
}
"""


def test_every_metric_is_listed_and_no_other():
    """A name in the table is a name on the page that Prometheus reads."""
    page = prometheus.render([])
    served = set(re.findall(r"^# TYPE (\w+)", page, re.MULTILINE))
    table = PAGE.partition("| metric | counts |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(kitmsg_\w+)`", table)) == served


def test_exit_codes_are_those_of_the_command_line():
    """Codes and their meanings agree."""
    rows = re.findall(r"^\| (\d) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {int(code): text for code, text in rows} == EXIT_CODES


def test_table_for_pyproject_can_be_read(tmp_path):
    """The example configuration is a valid one."""
    found = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found
    (tmp_path / "pyproject.toml").write_text(found[1])
    settings = load_settings(environ={}, folder=tmp_path)
    assert settings.workers == 4
    assert settings.services == ("prices:Prices", "checkout:Checkout")


def test_times_are_the_defaults():
    """Seconds that the page names are those in use."""
    backoff = Backoff()
    assert f"after {backoff.first:g} s" in PROSE
    assert f"up to {backoff.longest:g} s" in PROSE
    assert f"`--watchdog` ({Settings().watchdog:g} s)" in PROSE
    assert f"`--max-ping-interval` ({Settings().max_ping_interval:g} s)" in PROSE
    assert f"each service's own ({Service.drain_timeout:g} s)" in PROSE


async def test_permissions_of_the_page_are_enough(caplog):
    """A worker and a caller with what the page lists lack nothing, hints included."""
    for pattern in ("{service}.>", "_kit.>", "_kit.cancel.*", "$SRV.>", "_INBOX.>"):
        assert f"`{pattern}`" in PROSE
    with EmbeddedServer(jetstream=False, config=USERS) as server:
        async with (
            kitmsg.connect(server.url, user="worker", password="w") as worker,
            kitmsg.connect(server.url, user="caller", password="c") as caller,
        ):
            await worker.serve(Greeter)
            assert await caller.client(Greeter).hello("Ann") == "Hello, Ann!"
            with pytest.raises(NoResponders, match=r"did you mean 'greeter\.hello'"):
                await caller.call("greeter.helo", name="Ann")
            waiting = asyncio.create_task(caller.client(Greeter).hello("Ann"))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            await caller.bus.flush()
            assert await caller.client(Greeter).hello("Bob") == "Hello, Bob!"
    assert "ermission" not in caplog.text
