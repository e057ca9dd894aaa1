"""A new project runs, and passes its own tests and lints."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Ran


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["hello-world", "HTTPThing"])
def test_a_new_project_passes_its_own_checks(
    cli: Callable[..., Ran], here: Path, name: str
) -> None:
    """pytest, ruff and the loader are content with what it wrote."""
    assert cli("new", name).code == 0
    for words in (
        ["pytest", "-q", "-p", "no:cacheprovider"],
        ["ruff", "check"],
        ["ruff", "format", "--check"],
    ):
        ran = subprocess.run(
            [sys.executable, "-m", *words],
            check=False,
            cwd=here / name,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_does_not_touch_what_is_there(cli: Callable[..., Ran], here: Path) -> None:
    """A folder with something in it is refused and left alone."""
    (here / "mine").mkdir()
    (here / "mine" / "file").write_text("x")
    ran = cli("new", "mine")
    assert ran.code == 2
    assert "'mine' exists and is not an empty folder" in ran.err
    assert [path.name for path in (here / "mine").iterdir()] == ["file"]


@pytest.mark.parametrize(
    "name",
    ["json", "class", "1st", "a b", "nats", "Msgspec", "hypothesis", "google"],
)
def test_a_name_that_cannot_be_is_refused(
    cli: Callable[..., Ran], here: Path, name: str
) -> None:
    """Names that no module can have are refused before anything is written."""
    ran = cli("new", name)
    assert ran.code == 2
    assert f"{name!r} cannot name a project" in ran.err
    assert not list(here.iterdir())
