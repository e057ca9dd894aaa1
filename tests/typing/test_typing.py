"""The public API as mypy and pyright see it: what is right passes, what is wrong does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.require import miss

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def mypy(path: Path) -> list[tuple[int, str]]:
    """Return line and code of each complaint."""
    # A cache of its own: other options than the project's would spoil both.
    cache = f"--cache-dir={ROOT / '.mypy_cache' / 'api'}"
    options = ["--strict", "--config-file=", "--output=json", cache]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [json.loads(s) for s in done.stdout.splitlines() if s[:1] == "{"]
    return [
        (e["line"], e["code"])
        for e in found
        if e["severity"] == "error" and Path(e["file"]).name == path.name
    ]


def pyright(path: Path) -> list[tuple[int, str]]:
    """Return line and rule of each complaint."""
    # Without it, whatever python is first on the PATH says what is installed.
    options = ["--pythonpath", sys.executable, "--outputjson"]
    done = subprocess.run(
        [sys.executable, "-m", "pyright", *options, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1) or not done.stdout.startswith("{"):
        miss(f"pyright cannot run here: {done.stdout[:200]}{done.stderr[:200]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [
        (e["range"]["start"]["line"] + 1, e.get("rule", "syntax"))
        for e in found
        if e["severity"] == "error"
    ]


CHECKERS = {"mypy": mypy, "pyright": pyright}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right_passes(checker: str) -> None:
    """Both checkers find the signatures that `api.py` asserts."""
    assert CHECKERS[checker](HERE / "api.py") == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_found(checker: str, tmp_path: Path) -> None:
    """Each marked line of `mistakes.txt`, and no other, has one of its complaints."""
    text = (HERE / "mistakes.txt").read_text()
    path = tmp_path / "mistakes_of_a_caller.py"
    path.write_text(text)
    column = list(CHECKERS).index(checker)
    wanted = {}
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.search(r"# E: (.*)", line)
        if mark:
            wanted[number] = set(mark[1].split(" | ")[column].split(","))
    found: dict[int, set[str]] = {}
    for number, code in CHECKERS[checker](path):
        found.setdefault(number, set()).add(code)
    assert {n: codes & wanted.get(n, set()) for n, codes in found.items()} == found
    assert set(found) == set(wanted)
