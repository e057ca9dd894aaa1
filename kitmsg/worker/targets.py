"""From what somebody types to services: ``module:Class``, a file, a folder.

What is loaded is run: a target's module is imported, with the current folder first on the
path.  `locate` only looks, so that a parent need not import anybody's code.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg.errors import InvalidArgument, KitError, NotFound
from kitmsg.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

__all__ = ["BrokenTarget", "Factory", "Target", "load", "locate", "parse_target"]

Factory: TypeAlias = "type[Service] | Callable[[], Service]"
"""Makes one instance of a service."""

_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SKIPPED: Final = ("test_", "conftest")


class BrokenTarget(InvalidArgument):
    """The code of a target fails when it is imported; `stack` is its traceback.

    Args:
        message: The sentence for people.
        stack: The traceback as text.
    """

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(message)
        self.stack = stack


@dataclass(frozen=True)
class Target:
    """One thing to serve.

    Args:
        text: What was typed.
        modules: Modules to import, by dotted name.
        root: Folder that has to be on the path for that; "" for the current one.
        name: Class or function in the module; "" for every service defined there.
    """

    text: str
    modules: tuple[str, ...]
    root: str = ""
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
        return Target(text, modules, str(root), name)
    if "/" in place:
        raise NotFound(f"there is no file or folder {place!r}{_near_file(path)}")
    if not _NAME.fullmatch(place) or (name and not _NAME.fullmatch(name)):
        raise InvalidArgument(
            f"{text!r} is not a target; write module:Class, file.py or a folder"
        )
    return Target(text, (place,), "", name)


def locate(target: Target) -> Path | None:
    """Return the file or folder that holds a target, without running it."""
    root = Path(target.root or ".")
    if len(target.modules) != 1:
        return root.resolve()
    stem = root.joinpath(*target.modules[0].split("."))
    for path in (stem.with_name(stem.name + ".py"), stem):
        if path.exists():
            return path.resolve()
    return None


def load(texts: Iterable[str]) -> list[Factory]:
    """Import targets and return what makes their services, each once.

    Raises:
        InvalidArgument: A target names no service; the sentence says what is there.
        BrokenTarget: Its code fails on import.
        NotFound: It is not there.
    """
    factories: dict[Any, None] = {}
    for text in texts:
        factories.update(dict.fromkeys(_load(parse_target(text))))
    if not factories:
        raise InvalidArgument("nothing to serve: name a target such as greeter:Greeter")
    return list(factories)


def _load(target: Target) -> list[Factory]:
    root = str(Path(target.root or ".").resolve())
    if root not in sys.path:
        sys.path.insert(0, root)
    modules = [_import(name, target) for name in target.modules]
    if target.name:
        return [_pick(modules[0], target)]
    found = [cls for module in modules for cls in _services(module)]
    if not found:
        raise InvalidArgument(
            f"{target.text} defines no service{_what_is_there(modules)};"
            " a service is a class on kitmsg.Service"
        )
    return list(found)


def _import(name: str, target: Target) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (
            name == exc.name or name.startswith(exc.name + ".")
        ):
            raise _broken(target, exc) from exc
        raise NotFound(
            f"there is no module {exc.name!r} here ({Path.cwd()})"
            f"{_near_module(exc.name)}"
        ) from exc
    except KitError as exc:
        raise _broken(target, exc) from exc
    except (Exception, SystemExit) as exc:
        raise _broken(target, exc) from exc


def _broken(target: Target, error: BaseException) -> BrokenTarget:
    where = _line_of(error)
    kind = type(error).__name__
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return BrokenTarget(
        f"cannot import {target.text}: {where}{kind}: {text}",
        "".join(traceback.format_exception(error)),
    )


def _line_of(error: BaseException) -> str:
    """Return ``file:line: `` of the last frame that is not Python's or ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}: "
    own = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<frozen", sys.base_prefix))
        and "site-packages" not in frame.filename
    ]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}: " if frames else ""


def _short(filename: str) -> str:
    path = Path(filename)
    return str(
        path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    )


def _pick(module: ModuleType, target: Target) -> Factory:
    found = module
    for part in target.name.split("."):
        found = getattr(found, part, None)  # type: ignore[assignment]
    if inspect.isclass(found) and issubclass(found, Service):
        return found
    if callable(found) and not inspect.isclass(found):
        return found
    if isinstance(found, Service):
        service = found
        return lambda: service
    names = [cls.__name__ for cls in _services(module)]
    near = difflib.get_close_matches(target.name, names, n=1, cutoff=0.4)
    is_no_service = "is not a service" if found is not None else "is not there"
    raise InvalidArgument(
        f"{target.text}: {target.name!r} {is_no_service}"
        + (f"; did you mean {near[0]!r}?" if near else _what_is_there([module]))
    )


def _services(module: ModuleType) -> list[type[Service]]:
    """Return the services a module defines itself, in order."""
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Service)
        and value.__module__ == module.__name__
        and value.__declarations__
    ]


def _what_is_there(modules: list[ModuleType]) -> str:
    services = [cls.__name__ for module in modules for cls in _services(module)]
    if services:
        return f"; it has {', '.join(services)}"
    classes = [
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]
    return f"; it has the classes {', '.join(classes)}" if classes else ""


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


def _near_module(name: str) -> str:
    names = [path.stem for path in Path().glob("*.py")]
    names += [path.parent.name for path in Path().glob("*/__init__.py")]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; here are: {', '.join(sorted(names)[:5])}" if names else ""
