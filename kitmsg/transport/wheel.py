"""A timer wheel: a periodic call for each of many members, a few of them at a time.

Thousands at once would hold up everything else for as long as they take.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SLOTS", "Wheel"]

T = TypeVar("T")

SLOTS: Final = 64
"""Slots of the wheel; each has its share of the members."""


class Wheel(Generic[T]):
    """Timer wheel: calls for each member once a revolution.  Made inside its event loop.

    There is no timer for moments without members.  The first call for a new one comes
    within two revolutions.

    Args:
        seconds: Time of a revolution.
        call: What is called with each member; it may add and remove some.
    """

    def __init__(self, seconds: float, call: Callable[[T], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._step = seconds / SLOTS
        self._call = call
        self._slots: list[dict[T, None]] = [{} for _ in range(SLOTS)]
        self._slot_of: dict[T, int] = {}
        self._next = itertools.cycle(range(SLOTS))
        self._at = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._slot_of)

    def add(self, member: T) -> None:
        """Call for `member` too."""
        slot = self._slot_of[member] = next(self._next)
        self._slots[slot][member] = None
        if self._timer is None:
            self._wind()

    def remove(self, member: T) -> None:
        """Call for it no more; nothing happens if it is no member."""
        slot = self._slot_of.pop(member, None)
        if slot is None:
            return
        del self._slots[slot][member]
        if not self._slot_of and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self) -> None:
        """Set the timer for the next moment that has members."""
        self._timer = None
        for ahead in range(1, SLOTS + 1):
            at = (self._at + ahead) % SLOTS
            if self._slots[at]:
                self._at = at
                self._timer = self._loop.call_later(ahead * self._step, self._ring)
                return

    def _ring(self) -> None:
        for member in list(self._slots[self._at]):
            if member in self._slot_of:  # not removed by a call before
                self._call(member)
        self._wind()
