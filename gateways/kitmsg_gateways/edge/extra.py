"""The libraries of a protocol, which an extra brings."""

from __future__ import annotations

import importlib

from kitmsg.errors import FailedPrecondition

__all__ = ["Extra"]


class Extra:
    """The libraries of one protocol, which are loaded when they are first needed.

    Args:
        title: The protocol's name as people write it.
        name: Of the extra that brings them.
        modules: Those that are imported.
    """

    def __init__(self, title: str, name: str, *modules: str) -> None:
        self.title = title
        self._name = name
        self._modules = modules

    def load(self) -> None:
        """Import them.

        Raises:
            FailedPrecondition: One is not installed; the message says which.
        """
        try:
            for module in self._modules:
                importlib.import_module(module)
        except ImportError as exc:
            raise self.missing(exc) from exc

    def missing(self, error: ImportError) -> FailedPrecondition:
        """Return the error of a library that is not installed."""
        return FailedPrecondition(
            f"the {self.title} gateway needs {error.name}:"
            f" pip install 'kitmsg[{self._name}]'"
        )
