"""Modules import what stands below them, and nothing leads back."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "kitmsg": ROOT / "kitmsg",
    "kitmsg_gateways": ROOT / "gateways/kitmsg_gateways",
}
LEAVES = {"server", "options", "methods", "call", "errors"}
ENDS = {"options", "offer", "describe", "call", "client"}
GATEWAYS = ("http", "grpc", "thrift", "mcp")


def _modules() -> dict[str, Path]:
    """Return all modules by name."""
    found = {}
    for top, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([top, *parts]).removesuffix(".__init__")] = path
    return found


def _imports(node: ast.AST, *, is_all: bool) -> Iterator[tuple[str, list[str]]]:
    """Yield modules and names; those of functions and for types only if `is_all`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.module:
            yield child.module, [alias.name for alias in child.names]
        elif isinstance(child, ast.Import):
            yield from ((alias.name, []) for alias in child.names)
        is_late = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(
            child.test
        )
        if is_all or not (is_late or is_typing):
            yield from _imports(child, is_all=is_all)


def _graph(top: str, *, is_all: bool) -> dict[str, set[str]]:
    """Return the modules that each module below `top` imports."""
    modules = _modules()
    graph = {}
    for name, path in modules.items():
        if name.partition(".")[0] == top:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = {
                target if f"{target}.{each}" not in modules else f"{target}.{each}"
                for target, names in _imports(tree, is_all=is_all)
                for each in names or [""]
            }
            graph[name] = (found & set(modules)) - {name}
    return graph


@pytest.mark.parametrize(
    ("top", "is_all"), [("kitmsg", False), ("kitmsg_gateways", True)], ids=str
)
def test_no_module_imports_itself_through_others(top: str, is_all: bool) -> None:
    """In the gateways not even late, or for a type."""
    try:
        TopologicalSorter(_graph(top, is_all=is_all)).prepare()
    except CycleError as circle:
        pytest.fail(" <- ".join(circle.args[1]))


@pytest.mark.parametrize("kind", GATEWAYS)
def test_a_protocols_folder_has_the_leaves_of_the_others(kind: str) -> None:
    """To know one is to know where to look in another."""
    folder = FOLDERS["kitmsg_gateways"] / kind
    leaves = {path.stem for path in folder.glob("*.py")}
    assert leaves >= LEAVES
    if (folder / "upstream").is_dir():
        assert "bind" in leaves
        ends = {path.stem for path in (folder / "upstream").glob("*.py")}
        assert ends >= ENDS


def test_a_gateway_on_the_edge_is_small() -> None:
    """MCP's knows its protocol, and the edge the rest."""
    folder = FOLDERS["kitmsg_gateways"] / "mcp"
    lines = sum(len(path.read_text().splitlines()) for path in folder.glob("*.py"))
    assert lines <= 400
