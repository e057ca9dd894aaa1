"""Every example runs as it stands and prints what its docstring promises."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import textwrap
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPTS = (
    "examples/stringsvc/stringsvc1.py",
    "examples/stringsvc/stringsvc2.py",
    "examples/stringsvc/stringsvc3.py",
    "examples/addsvc/explicit.py",
    "examples/orders.py",
)


def promised(path: Path) -> str:
    """Return the indented block at the end of a script's docstring."""
    doc = ast.get_docstring(ast.parse(path.read_text())) or ""
    _, _, block = doc.rpartition("prints\n\n")
    return textwrap.dedent(block).strip() + "\n"


def run(*command: str, **environ: str) -> str:
    """Return what a Python command prints; it has to succeed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_example_prints_what_its_docstring_promises(script):
    """What a reader is told to see is what comes out."""
    want, got = promised(ROOT / script), run(script)
    assert OutputChecker().check_output(want, got, ELLIPSIS), got
