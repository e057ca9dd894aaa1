"""Callbacks for the connects and disconnects of a bus; the same on every bus."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watchers"]

_log = logging.getLogger("kitmsg.bus")


class Watchers:
    """Functions to call with whether the bus is connected, when that changes."""

    def __init__(self) -> None:
        self._by_key: dict[object, Callable[[bool], None]] = {}

    def add(self, on_change: Callable[[bool], None]) -> Callable[[], None]:
        """Call `on_change` from now on; returns an undo, harmless when repeated."""
        key = object()
        self._by_key[key] = on_change

        def undo() -> None:
            self._by_key.pop(key, None)

        return undo

    def tell(self, is_up: bool) -> None:
        """Call each; one that raises is logged and harms nobody else."""
        for on_change in list(self._by_key.values()):
            try:
                on_change(is_up)
            except Exception:  # noqa: BLE001  # somebody else's code
                _log.exception("a watcher of the bus failed")
