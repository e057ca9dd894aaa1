"""Targets of a command line, located: ``module:Class``, a file, a folder.

Nothing is imported here, so that a parent need not run anybody's code.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kitmsg.errors import InvalidArgument, NotFound

__all__ = ["Target", "locate", "parse_target"]

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SKIPPED: Final = ("test_", "conftest")


@dataclass(frozen=True)
class Target:
    """One thing to serve.

    Args:
        text: What was typed.
        modules: Modules to import, by dotted name.
        root: Folder that has to be on the path for that; "" for the current one.
        place: The file or folder that was named; "" for a module.
        name: Class or function in the module; "" for every service defined there.
    """

    text: str
    modules: tuple[str, ...]
    root: str = ""
    place: str = ""
    name: str = ""


def parse_target(text: str) -> Target:
    """Return what `text` stands for: ``module[:Name]``, ``file.py[:Name]``, a folder.

    Raises:
        NotFound: There is no such file or folder.
        InvalidArgument: It cannot be read.
    """
    place, _, name = text.partition(":")
    path = Path(place)
    if path.suffix == ".py" or path.is_dir():
        if not path.exists():
            raise NotFound(f"there is no file {place!r}{_near_file(path)}")
        root, modules = _folder(path) if path.is_dir() else _file(path)
        return Target(text, modules, str(root), str(path.resolve()), name)
    if path.is_file():
        raise InvalidArgument(f"{place!r} is not a Python file")
    if "/" in place:
        raise NotFound(f"there is no file or folder {place!r}{_near_file(path)}")
    if not _NAME.fullmatch(place) or (name and not _NAME.fullmatch(name)):
        raise InvalidArgument(
            f"{text!r} is not a target; write module:Class, file.py or a folder"
        )
    return Target(text, (place,), name=name)


def locate(target: Target) -> Path | None:
    """Return the file or folder that holds a target, without running it."""
    if target.place:
        return Path(target.place)
    stem = Path().joinpath(*target.modules[0].split("."))
    for path in (stem.with_name(stem.name + ".py"), stem):
        if path.exists():
            return path.resolve()
    return None


def _file(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder for the path, and the module's name below it."""
    path = path.resolve()
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        names.insert(0, root.name)
        root = root.parent
    if names[-1] == "__init__":
        names.pop()
    return root, (".".join(names),)


def _folder(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the folder for the path, and every module in a folder but the tests."""
    files = [
        file
        for file in sorted(path.resolve().glob("*.py"))
        if not file.stem.startswith(_SKIPPED)
        and not file.stem.endswith("_test")
        and file.stem not in ("__main__", "setup")
    ]
    if not files:
        raise NotFound(f"there is no Python file in the folder {str(path)!r}")
    located = [_file(file) for file in files]
    return located[0][0], tuple(modules[0] for _, modules in located)


def _near_file(path: Path) -> str:
    """Return a guess at the file that was meant, as the rest of a sentence."""
    folder = path.parent
    if not folder.is_dir():
        return f"; there is no folder {str(folder)!r}"
    names = [entry.name for entry in folder.iterdir() if entry.suffix == ".py"]
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {str(folder / near[0])!r}?"
    here = ", ".join(sorted(names)[:5])
    return f"; in {folder.resolve()!s} are: {here}" if here else ""
