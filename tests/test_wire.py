"""Names on the wire stand in one place, and blocks of headers keep their form."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kitmsg import wire

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
NAME = re.compile(
    r"\bKit-[A-Z]|\bNats-Service|(^|\W)_kit\.|\$SRV|\bkit\.(schema|http|wire)\b"
)
ELSEWHERE = {"kitmsg/wire.py"}


def _literals(path: Path) -> Iterator[str]:
    """Yield the texts in a module's code: no docstrings, no comments."""
    tree = ast.parse(path.read_text())
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in prose:
            if isinstance(node.value, bytes):
                yield node.value.decode("latin-1")
            elif isinstance(node.value, str):
                yield node.value


def _sources() -> list[str]:
    folders = ("kitmsg", "gateways")
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found)


@pytest.mark.parametrize("source", sorted({*_sources()} - ELSEWHERE))
def test_nothing_else_spells_a_header_or_a_control_subject(source: str) -> None:
    """A name that stands twice is two names after the next change."""
    spelled = [text for text in _literals(ROOT / source) if NAME.search(text)]
    assert spelled == []


def test_every_name_is_public() -> None:
    """A constant of the module is listed, so that the tests of the page see it."""
    constants = {name for name in vars(wire) if name.isupper() and name[0] != "_"}
    assert constants - {"TYPE_CHECKING"} <= set(wire.__all__)


@pytest.mark.parametrize(
    ("subject", "where"),
    [
        ("greeter.hello", "_kit.cancel.greeter"),
        ("_kit.i.greeter.AB12.greeter.hello", "_kit.cancel.greeter"),
        ("echo", "_kit.cancel.echo"),
    ],
)
def test_cancel_goes_to_the_service(subject: str, where: str) -> None:
    """Whether the queue group was asked or one instance."""
    assert wire.cancel_subject(subject) == where
    assert (
        wire.direct_subject("greeter", "AB12", "legacy.hi")
        == "_kit.i.greeter.AB12.legacy.hi"
    )


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1.5, 1500), (1e-9, 1), (32.051, 32051), (6.9998, 7000)]
)
def test_time_is_whole_milliseconds(seconds: float, expected: int) -> None:
    """Never zero, which would mean that no time is left."""
    assert wire.milliseconds(seconds) == expected
