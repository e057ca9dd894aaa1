"""Public names explain themselves at run time: to `help`, and to `typing.get_type_hints`."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pydoc
import typing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES = (
    *("kitmsg", "kitmsg.errors", "kitmsg.middleware", "kitmsg.transport"),
    *("kitmsg.testing", "kitmsg_gateways.http", "kitmsg_gateways.grpc"),
    "kitmsg_gateways.thrift",
)
LATER = {"Upstream", "GatewayServer"}
"""Loaded when they are asked for; their modules are no part of these."""


def _public(module: Any) -> Iterator[tuple[str, Any]]:
    """Yield the classes and functions that a module exports, and the classes' methods."""
    for name in module.__all__:
        if name in LATER:
            continue
        value = getattr(module, name)
        if inspect.isclass(value):
            yield name, value
            for member, method in vars(value).items():
                is_made = member == "__init__" and dataclasses.is_dataclass(value)
                if member.startswith("_") and (member != "__init__" or is_made):
                    continue
                found = getattr(method, "__func__", getattr(method, "fget", method))
                if inspect.isfunction(found):
                    yield f"{name}.{member}", found
        elif inspect.isfunction(value):
            yield name, value


@pytest.mark.parametrize("name", MODULES)
def test_types_of_public_names_can_be_read(name: str) -> None:
    """By the plain call, as frameworks make it."""
    module = importlib.import_module(name)
    failed = {}
    for what, value in _public(module):
        try:
            typing.get_type_hints(value)
        except NameError as exc:
            failed[what] = str(exc)
    assert not failed


@pytest.mark.parametrize("name", MODULES)
def test_help_works(name: str) -> None:
    """It has the package's own words, and all that it exports."""
    module = importlib.import_module(name)
    text = pydoc.plain(pydoc.render_doc(module))
    assert module.__doc__
    assert module.__doc__.splitlines()[0] in text
    for exported in module.__all__:
        assert getattr(module, exported) is not None
        assert exported in text


def test_the_types_of_a_gateway_s_functions_can_be_read() -> None:
    """Those of one class for all gateways; the server is loaded when it is asked for."""
    for kind in ("http", "grpc", "thrift", "mcp"):
        package = importlib.import_module(f"kitmsg_gateways.{kind}")
        for function in (package.serve, package.run, package.check):
            assert "return" in typing.get_type_hints(function)
        assert inspect.isclass(package.GatewayServer)
