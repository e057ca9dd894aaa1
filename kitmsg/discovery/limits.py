"""Limits of what is listed of a bus.  Those who were here stay; the rest is counted."""

from __future__ import annotations

import logging
import re
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kitmsg.discovery.subject import ServiceInfo

__all__ = ["Room", "why_unlisted"]

MAX_INSTANCES: Final = 8192
MAX_SERVICES: Final = 1024
MAX_ENDPOINTS: Final = 1024
"""Of one instance."""

_NEWCOMERS: Final = 128  # announced instances that no round of asking has heard yet
_REMIND: Final = 30.0  # seconds between two lines about what was refused
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")

_log = logging.getLogger("kitmsg.discovery")


def why_unlisted(info: ServiceInfo, known: ServiceInfo | None) -> str:
    """Return why an instance is not listed, in a sentence; "" if it may be.

    Args:
        info: The instance.
        known: The one that is listed with its id; None for none.
    """
    if known is not None and known.name != info.name:
        return f"{info.name!r} comes with the id of an instance of {known.name!r}"
    if not _ID.fullmatch(info.name) or not _ID.fullmatch(info.id):
        return f"{info.name[:40]!r} with id {info.id[:40]!r} cannot be a service"
    if len(info.endpoints) > MAX_ENDPOINTS:
        return f"{info.name!r} has more than {MAX_ENDPOINTS} endpoints"
    return ""


class Room:
    """Room in a list of instances.

    Attributes:
        refused: How many were not listed, or not changed.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._services: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._newcomers: set[str] = set()
        self._left = _NEWCOMERS
        self._told_at = -_REMIND

    def take(self, info: ServiceInfo, *, is_heard: bool) -> bool:
        """Give a place to an instance that is not listed; False if there is none."""
        if len(self._names) >= MAX_INSTANCES:
            return self.refuse(f"more than {MAX_INSTANCES} instances are on the bus")
        if info.name not in self._services and len(self._services) >= MAX_SERVICES:
            return self.refuse(f"more than {MAX_SERVICES} services are on the bus")
        if not is_heard:
            if self._left <= 0 or len(self._newcomers) >= _NEWCOMERS:
                return self.refuse("many instances announce themselves at once")
            self._left -= 1
            self._newcomers.add(info.id)
        self._names[info.id] = info.name
        self._services[info.name] += 1
        return True

    def hear(self, id_: str, *, is_heard: bool) -> None:
        """Note that a listed instance was heard again."""
        if is_heard:
            self._newcomers.discard(id_)

    def leave(self, id_: str) -> None:
        """Take back the place of an instance."""
        self._newcomers.discard(id_)
        name = self._names.pop(id_, "")
        self._services[name] -= 1
        if self._services[name] <= 0:
            del self._services[name]

    def renew(self) -> None:
        """Let as many announce themselves again: another round has begun."""
        self._left = _NEWCOMERS

    def refuse(self, problem: str) -> bool:
        """Count what is not listed, and say so once in a while; returns False."""
        self.refused += 1
        now = monotonic()
        if now - self._told_at >= _REMIND:
            self._told_at = now
            _log.warning("%s; not listed (%d so far)", problem, self.refused)
        return False
