"""Imports targets and finds the services in them.

What is loaded is run: a module is imported with its folder on the path, after the standard
library.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import itertools
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from kitmsg.errors import InvalidArgument, KitError, NotFound
from kitmsg.importpath import add_folder
from kitmsg.service import Service
from kitmsg.service.declare import need_apart, unservable
from kitmsg.worker.targets import Target, locate, parse_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType

__all__ = ["BrokenTarget", "Factory", "load"]

Factory: TypeAlias = "type[Service] | Callable[[], Service]"
"""Makes one instance of a service."""


class BrokenTarget(InvalidArgument):
    """The code of a target fails when it is imported; `stack` is its traceback.

    Args:
        message: The sentence for people.
        stack: The traceback as text; "" where the sentence says it all.
    """

    def __init__(self, message: str, stack: str = "") -> None:
        super().__init__(message)
        self.stack = stack


def load(texts: Iterable[str]) -> list[Factory]:
    """Import targets and return what makes their services, each once.

    Raises:
        InvalidArgument: A target names no service; the sentence says what is there.  Or two
            have one name.
        BrokenTarget: Its code fails on import.
        NotFound: It is not there.
    """
    factories: dict[Any, None] = {}
    for text in texts:
        factories.update(dict.fromkeys(_load(parse_target(text))))
    classes: list[Any] = [made for made in factories if inspect.isclass(made)]
    for cls, other in itertools.combinations(classes, 2):
        need_apart(cls, other)
    if not factories:
        raise InvalidArgument("nothing to serve: name a target such as greeter:Greeter")
    return list(factories)


def _load(target: Target) -> list[Factory]:
    root = str(Path(target.root or ".").resolve())
    add_folder(root)
    modules = [_import(name, target) for name in target.modules]
    if target.name:
        return [_pick(modules[0], target)]
    found = [cls for module in modules for cls in _services(module)]
    if not found:
        raise InvalidArgument(f"{target.text} defines no service{_why(modules)}")
    return list(found)


def _import(name: str, target: Target) -> ModuleType:
    try:
        module = importlib.import_module(name)
        return _checked(module, target)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (
            name == exc.name or name.startswith(exc.name + ".")
        ):
            raise _broken(target, exc) from exc
        raise NotFound(
            f"there is no module {exc.name!r} here ({Path.cwd()})"
            f"{_near_module(exc.name)}"
        ) from exc
    except BrokenTarget:
        raise
    except (Exception, SystemExit) as exc:
        raise _broken(target, exc) from exc


def _checked(module: ModuleType, target: Target) -> ModuleType:
    """Refuse a module that is not the one asked for but another of its name."""
    place = Path(getattr(module, "__file__", None) or "").resolve()
    is_file = target.root and not place.is_relative_to(Path(target.root))
    is_stdlib = module.__name__ in sys.stdlib_module_names and locate(target)
    if is_file or is_stdlib:
        raise BrokenTarget(
            f"cannot import {target.text}: another module is named"
            f" {module.__name__!r}; rename the file"
        )
    return module


def _broken(target: Target, error: BaseException) -> BrokenTarget:
    where = _line_of(error)
    if _is_refusal(error) and os.environ.get("KITMSG_DEBUG") != "1":
        return BrokenTarget(f"cannot import {target.text}: {where}{error}")
    kind = type(error).__name__
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return BrokenTarget(
        f"cannot import {target.text}: {where}{kind}: {text}",
        _stack(error),
    )


def _is_refusal(error: BaseException) -> bool:
    """Tell whether kitmsg itself refuses a declaration: its sentence says what to do."""
    if not isinstance(error, (TypeError, ValueError, KitError)):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    is_ours = last.filename.startswith(str(Path(__file__).parents[1]))
    return is_ours and (last.line or "").startswith("raise ")


def _stack(error: BaseException) -> str:
    """Return the traceback, without frames of the import system and of kitmsg."""
    told = traceback.TracebackException.from_exception(error)
    if os.environ.get("KITMSG_DEBUG") == "1":
        return "".join(told.format())
    told.stack = traceback.StackSummary.from_list(
        [frame for frame in told.stack if _is_theirs(frame)]
    )
    return "".join(told.format())


def _is_theirs(frame: traceback.FrameSummary) -> bool:
    others = ("<frozen", str(importlib.__file__), str(Path(__file__).parents[1]))
    return not frame.filename.startswith(others)


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
    found: Any = module
    for part in target.name.split("."):
        found = getattr(found, part, None)
    if inspect.isclass(found) and issubclass(found, Service):
        why = unservable(found)
        if why:
            raise InvalidArgument(f"{target.text}: {why}")
        return found
    if callable(found) and not inspect.isclass(found):
        return cast("Factory", found)
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
    """Return the services a module defines itself and that can be served, in order."""
    return [
        cls
        for cls in _written(module)
        if issubclass(cls, Service)
        and (cls.__declarations__ or cls.__work__)
        and not unservable(cls)
    ]


def _written(module: ModuleType) -> list[type[Any]]:
    """Return the classes that a module defines itself."""
    classes = [value for value in vars(module).values() if inspect.isclass(value)]
    return [cls for cls in classes if cls.__module__ == module.__name__]


def _why(modules: list[ModuleType]) -> str:
    """Return why there is no service in these modules, as the rest of a sentence."""
    for cls in (cls for module in modules for cls in _written(module)):
        if issubclass(cls, Service):
            why = unservable(cls) or (
                f"{cls.__name__} has no endpoint: write @endpoint before its methods"
            )
            return f"; {why}"
    return f"{_what_is_there(modules)}; a service is a class on kitmsg.Service"


def _what_is_there(modules: list[ModuleType]) -> str:
    services = [cls.__name__ for module in modules for cls in _services(module)]
    if services:
        return f"; it has {', '.join(services)}"
    classes = [cls.__name__ for module in modules for cls in _written(module)]
    return f"; it has the classes {', '.join(classes)}" if classes else ""


def _near_module(name: str) -> str:
    names = [path.stem for path in Path().glob("*.py")]
    names += [path.parent.name for path in Path().glob("*/__init__.py")]
    module, _, last = name.rpartition(".")
    if module in names:
        return f"; did you mean '{module}:{last}'?"
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; here are: {', '.join(sorted(names)[:5])}" if names else ""
