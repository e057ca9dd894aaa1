"""Keys that wait because the store refuses one of their events, so that no order is broken."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kitmsg.errors import KitError
    from kitmsg.outbox.rows import Row

__all__ = ["MOST_HELD", "Held"]

_log = logging.getLogger("kitmsg.outbox")

MOST_HELD: Final = 500
"""Most keys that are left out of a query."""

_FIRST: Final = 1.0  # seconds
_LONGEST: Final = 60.0


class Held:
    """The keys that wait, each until its time."""

    # Invariant: a key is in `_until` from the first refusal until one of its events is
    # stored; it may be tried when its time has passed.

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._waits: dict[str, float] = {}

    def keys(self, now: float) -> list[str]:
        """Return the keys that are not to be tried yet."""
        return [key for key, until in self._until.items() if now < until]

    def refuse(self, row: Row, error: KitError, now: float) -> None:
        """Have the key of `row` wait; said in the log once."""
        key = row.key
        if key not in self._waits:
            _log.error(
                "event %s, on %s, is refused; later ones of its key wait for it: %s",
                row.message.message_id,
                row.message.subject,
                error,
            )
        wait = self._waits[key] = min(2 * self._waits.get(key, _FIRST / 2), _LONGEST)
        self._until[key] = now + wait

    def stored(self, row: Row) -> None:
        """Let the key of `row` go on."""
        if self._waits.pop(row.key, None) is not None:
            del self._until[row.key]
            _log.info(
                "event %s, on %s, is stored after all",
                row.message.message_id,
                row.message.subject,
            )

    def next_at(self, now: float) -> float:
        """Return the seconds until a key may be tried again; a long time for none."""
        return min((t - now for t in self._until.values() if t > now), default=_LONGEST)
