"""The declared stream of an event class: where a log of events is kept, and for how long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kitmsg.jetstream import Storage

__all__ = ["PREFIX", "Stream"]

PREFIX: Final = "event"
"""First token of the subjects of events."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MOST_REPLICAS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Options of the stream that stores events; nothing is dropped unless you say so.

    Attributes:
        name: Its name; by default the first word of the events' subject.
        replicas: Servers of a cluster that keep it, 1 to 5.
        storage: ``file`` or ``memory``.
        max_age: Seconds for which an event is kept; None for ever.
        max_bytes: Most bytes in it; None for as many as the server takes.
        max_events: Most events in it; None for no bound.
        full: What happens at a bound: ``refuse`` new events or drop the ``oldest``.
        compression: Whether the server compresses it.
        dedupe_window: Seconds for which the server knows an event's id again.

    Raises:
        ValueError: A value that it cannot have.
    """

    name: str = ""
    replicas: int = 1
    storage: Storage = "file"
    max_age: float | None = None
    max_bytes: int | None = None
    max_events: int | None = None
    full: str = "refuse"
    compression: bool = False
    dedupe_window: float = 120.0

    def __post_init__(self) -> None:
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError(
                f"Stream(name={self.name!r}): write up to 64 letters, digits, - and _"
            )
        if not 1 <= self.replicas <= _MOST_REPLICAS:
            raise ValueError(f"Stream(replicas={self.replicas}): from 1 to 5")
        if self.storage not in ("file", "memory"):
            raise ValueError(f"Stream(storage={self.storage!r}): 'file' or 'memory'")
        if self.full not in ("refuse", "oldest"):
            raise ValueError(f"Stream(full={self.full!r}): 'refuse' or 'oldest'")
        bounds = {
            "max_age": self.max_age,
            "max_bytes": self.max_bytes,
            "max_events": self.max_events,
            "dedupe_window": self.dedupe_window,
        }
        for name, value in bounds.items():
            if value is not None and value <= 0:
                raise ValueError(f"Stream({name}={value}): must be positive")
