"""The tables of docs/operations.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from kitmsg.cli.output import EXIT_CODES
from kitmsg.service import Service
from kitmsg.service.counted import families
from kitmsg.worker.settings import Settings, load_settings
from kitmsg.worker.supervisor import Backoff

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text()
PROSE = " ".join(PAGE.split())


def test_every_metric_is_listed_and_no_other():
    """A name in the table is a name on the page that Prometheus reads."""
    served = {family.name for family in families([])}
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
