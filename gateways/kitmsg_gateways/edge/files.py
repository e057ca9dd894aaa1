"""Files that change while the gateway runs: certificates, keys, passwords.

What cannot be read is logged, and what was read before goes on; the next change is tried
again.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from kitmsg.errors import KitError
from kitmsg.filemarks import mark_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Files", "Reloadable"]

_log = logging.getLogger("kitmsg_gateways.edge")


class Reloadable(Protocol):
    """A value that is read from files, and read again when they change."""

    @property
    def files(self) -> tuple[str, ...]:
        """The files."""

    def reload(self) -> None:
        """Read them again.

        Raises:
            KitError: They cannot be used; what was read before stays.
        """


class Files:
    """Looks at files now and then, and has them read again when they change.

    Args:
        readers: What reads them.
        interval: Seconds between two looks.
    """

    def __init__(self, readers: Sequence[Reloadable], interval: float) -> None:
        self._seen: list[tuple[Reloadable, list[object]]] = [
            (reader, _marks(reader)) for reader in readers if reader.files
        ]
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look."""
        if self._seen:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval, self._look_again)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self, *, is_forced: bool = False) -> None:
        """Have read again what has changed; with `is_forced`, everything."""
        for index, (reader, before) in enumerate(self._seen):
            marks = _marks(reader)
            if is_forced or marks != before:
                self._seen[index] = reader, marks
                _reload(reader)

    def _look_again(self) -> None:
        try:
            self.look()
        finally:
            self.start()


def _reload(reader: Reloadable) -> None:
    names = ", ".join(reader.files)
    try:
        reader.reload()
    except KitError as exc:
        _log.error("%s; what was read before goes on", exc)  # said in words
    else:
        _log.info("read again: %s", names)


def _marks(reader: Reloadable) -> list[object]:
    return [mark_of(name) for name in reader.files]
