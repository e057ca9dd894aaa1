"""The map of a package, in the docstring of its ``__init__``, is that of its folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(
    init.parent
    for top in ("kitmsg", "gateways/kitmsg_gateways")
    for init in (ROOT / top).rglob("__init__.py")
)
ALWAYS = {"__init__.py", "__main__.py"}


def _map(package: Path) -> set[str]:
    """Return the files and folders that a docstring names."""
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    files = re.findall(r"(?<![\w./])(\w+\.py)\b", text)
    return {*files, *re.findall(r"^ +(\w+/)", text, re.MULTILINE)} - ALWAYS


def _folder(package: Path) -> set[str]:
    """Return the modules and packages that are there."""
    modules = {path.name for path in package.glob("*.py")} - ALWAYS
    return modules | {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}


@pytest.mark.parametrize(
    "package", PACKAGES, ids=[str(package.relative_to(ROOT)) for package in PACKAGES]
)
def test_a_map_names_what_is_there_and_all_of_it(package: Path) -> None:
    """Neither a file that has gone, nor none that has come."""
    assert _map(package) == _folder(package)
