"""The commands that a newcomer types, as far as they run without installing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.require import need

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Makefile").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile and pyproject.toml, and nothing installed."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def installed(folder: Path) -> Path:
    """The same after an installation: the stamps are newer than pyproject.toml."""
    old = time.time() - 60
    os.utime(folder / "pyproject.toml", (old, old))
    (folder / ".venv").mkdir()
    for stamp in (".runs", ".develops"):
        (folder / ".venv" / stamp).touch()
    return folder


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    outer = ("MAKEFLAGS", "MAKELEVEL", "PYTEST_ARGS", "T")
    env = {name: value for name, value in os.environ.items() if name not in outer}
    command = [need("make"), *args]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env=env
    )


def test_plain_make_lists_every_target(folder: Path) -> None:
    """`make` alone does nothing but tell what there is."""
    targets = re.findall(r"^\.PHONY: (.*)$", TEXT, re.MULTILINE)[0].split()
    shown = make(folder).stdout
    assert [name for name in targets if f"make {name} " not in shown] == []
    assert not (folder / ".venv").exists()


def test_without_python_it_says_what_to_do(folder: Path) -> None:
    """No suitable Python is one sentence, not a traceback."""
    done = make(folder, "demo", "PYTHON=")
    assert done.returncode != 0
    assert "No Python 3.11 or newer" in done.stderr
    assert "make PYTHON=/path/to/python3" in done.stderr


def test_an_installation_is_not_repeated(installed: Path) -> None:
    """The second run installs nothing, for the demo and for the tests."""
    assert "pip" not in make(installed, "-n", "demo", "test").stdout


def test_a_changed_project_is_installed_again(installed: Path) -> None:
    """After a change of pyproject.toml the next run installs."""
    soon = time.time() + 60
    os.utime(installed / "pyproject.toml", (soon, soon))
    assert "pip" in make(installed, "-n", "demo").stdout


def test_the_demo_installs_no_test_tools(folder: Path) -> None:
    """Whoever only looks does not wait for what only tests need."""
    planned = make(folder, "-n", "demo").stdout
    assert "--editable '.[all]'" in planned
    assert "--group" not in planned
    assert planned.rstrip().endswith("kitmsg dev examples/addsvc")


def test_make_test_checks_everything_and_ends_with_pytest(installed: Path) -> None:
    """All checks are in it, and pytest's summary is what one sees last."""
    lines = make(installed, "-n", "test").stdout.strip().splitlines()
    checks = ["ruff check", "ruff format --check", "lint-imports", "codespell"]
    checks += ["python -m tests.audit", "mypy"]
    before = [*checks, "python -m tests.peers"]  # no test builds what it talks to
    assert [line.removeprefix(".venv/bin/") for line in lines[:-1]] == before
    assert " -m pytest " in lines[-1]


def test_arguments_reach_pytest(installed: Path) -> None:
    """`T` chooses the tests, `PYTEST_ARGS` the options."""
    planned = make(installed, "-n", "unit", "T=tests/bus", "PYTEST_ARGS=-x").stdout
    assert re.search(r"-m pytest .* -x .* tests/bus$", planned.strip())


def test_ci_calls_the_same_command() -> None:
    """CI runs `make test` and skips nothing."""
    script = (ROOT / ".ci/run").read_text()
    assert script.index("\nexport KITMSG_REQUIRE_ALL=1") < script.index("\nmake test")
    assert os.access(ROOT / ".ci/run", os.X_OK)
