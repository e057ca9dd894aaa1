"""Events that stand one behind the other in a log: what followers are given at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from kitmsg.jetstream import Stored

__all__ = ["Batch", "Where", "where_of"]

Where: TypeAlias = tuple[tuple[int, str], ...]
"""Tokens that a subject has, by their place; () for any subject."""


def where_of(pattern: str, every: str) -> Where:
    """Return the tokens that subjects of `pattern` have, where those of `every` may vary."""
    pairs = zip(pattern.split("."), every.split("."), strict=True)
    return tuple((at, one) for at, (one, other) in enumerate(pairs) if one != other)


class Batch:
    """Some events, and the part of the log that they are all the events of.

    Attributes:
        after: Sequence of the last message before it.
        up_to: Sequence of the last message in it; the next batch is behind that.
        events: The events, in order.
        size: Bytes of their payloads.
        forms: Forms in which doors give it to clients, by name: each is made once, for all
            who follow.
    """

    __slots__ = ("_by", "_chosen", "after", "events", "forms", "size", "up_to")

    def __init__(self, after: int, up_to: int, events: Sequence[Stored]) -> None:
        self.after = after
        self.up_to = up_to
        self.events = events
        self.size = sum(len(each.data) for each in events)
        self.forms: dict[str, Any] = {}
        self._chosen: dict[Where, Batch] = {}
        # Events by a token of their subject, for each place that was asked for.
        self._by: dict[int, dict[str, list[Stored]]] = {}

    def where(self, where: Where) -> Batch:
        """Return the batch without the events that have other tokens."""
        if not where:
            return self
        found = self._chosen.get(where)
        if found is None:
            (at, token), *others = where
            kept = self._having(at).get(token, [])
            for at, token in others:
                kept = [each for each in kept if each.subject.split(".")[at] == token]
            found = self._chosen[where] = Batch(self.after, self.up_to, kept)
        return found

    def behind(self, sequence: int) -> Batch:
        """Return the part of the batch behind a message."""
        if sequence <= self.after:
            return self
        kept = [each for each in self.events if each.sequence > sequence]
        return Batch(sequence, self.up_to, kept)

    def _having(self, at: int) -> dict[str, list[Stored]]:
        """Return the events by one token of their subject."""
        found = self._by.get(at)
        if found is None:
            found = self._by[at] = {}
            for each in self.events:
                found.setdefault(each.subject.split(".")[at], []).append(each)
        return found
