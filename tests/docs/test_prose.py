"""Docstrings open with the noun or the verb of the field, not with a question word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path for top in ("kitmsg", "gateways") for path in (ROOT / top).rglob("*.py")
)
RIDDLE = re.compile(
    r"(what|whatever|who|whoever|whom|whose|how|which|where|from|so many)\b",
    re.IGNORECASE,
)
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def openings(path: Path) -> list[str]:
    """Return the first line of each docstring in a file, with its place."""
    nodes = [
        n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, DOCUMENTED)
    ]
    texts = [
        (getattr(node, "name", path.stem), ast.get_docstring(node)) for node in nodes
    ]
    return [f"{name}: {text.splitlines()[0]}" for name, text in texts if text]


@pytest.mark.parametrize("top", ["kitmsg", "gateways"])
def test_no_docstring_opens_with_a_question_word(top: str) -> None:
    """A class is "Counters of a connection", not "What a connection has been through"."""
    riddles = [
        f"{path.relative_to(ROOT)}: {opening}"
        for path in FILES
        if path.relative_to(ROOT).parts[0] == top
        for opening in openings(path)
        if RIDDLE.match(opening.partition(": ")[2])
    ]
    assert not riddles, "\n".join(riddles)
