"""The public face of every module: `__all__`, names that exist, docstrings."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING

import pytest

import kitmsg
import kitmsg_gateways

if TYPE_CHECKING:
    from types import ModuleType


def _public_modules() -> list[str]:
    """Return the names of all modules without an underscore in front."""
    found = ["kitmsg"]
    for package in (kitmsg, kitmsg_gateways):
        prefix = f"{package.__name__}."
        walked = pkgutil.walk_packages(package.__path__, prefix, onerror=lambda _: None)
        found += [module.name for module in walked]
    return sorted(name for name in found if "._" not in name)


def _load(name: str) -> ModuleType:
    """Import a module, or skip the test for want of an extra."""
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        if "pip install 'kitmsg[" in str(exc):
            pytest.skip(str(exc))
        raise


def _exported(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", []))


def _defined(module: ModuleType) -> list[str]:
    """Return the public names of a module that are not modules themselves."""
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    ]


MODULES = _public_modules()


def test_the_walk_finds_the_packages() -> None:
    """The tests below look at more than the top level."""
    assert {"kitmsg.errors", "kitmsg.bus.memory", "kitmsg.middleware.retry"} <= set(
        MODULES
    )


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name: str) -> None:
    """Each module opens with a docstring."""
    assert (_load(name).__doc__ or "").strip()


@pytest.mark.parametrize("name", MODULES)
def test_all_names_what_exists(name: str) -> None:
    """`__all__` is there, has no name twice, and each name is an attribute.

    Only a package that is nothing but a map, its docstring, does without.
    """
    module = _load(name)
    names = _exported(module)
    assert hasattr(module, "__all__") or not _defined(module)
    assert len(names) == len(set(names))
    assert [missing for missing in names if not hasattr(module, missing)] == []


@pytest.mark.parametrize("name", MODULES)
def test_public_classes_and_functions_have_docstrings(name: str) -> None:
    """Whatever a module exports and defines says what it promises."""
    module = _load(name)
    silent = [
        each
        for each, thing in ((each, getattr(module, each)) for each in _exported(module))
        if (inspect.isclass(thing) or inspect.isroutine(thing))
        and (thing.__module__ or "").startswith(("kitmsg.", "kitmsg_gateways."))
        and not (thing.__doc__ or "").strip()
    ]
    assert silent == []
