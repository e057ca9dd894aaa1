"""The messages of one stream in memory: kept by sequence, found by subject.  No time here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kitmsg.message import matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Log", "Record", "covers"]

_OVERHEAD: Final = 16  # bytes of a message beside its parts, as nats-server counts them


@dataclass(frozen=True, slots=True)
class Record:
    """A message that is kept.

    Attributes:
        sequence: Its number.
        subject: Its subject.
        block: Its headers.
        data: Its payload.
        time: When it was stored, in unix seconds.
    """

    sequence: int
    subject: str
    block: bytes
    data: bytes
    time: float

    @property
    def size(self) -> int:
        """Bytes that count against a limit."""
        return len(self.subject) + len(self.block) + len(self.data) + _OVERHEAD


class Log:
    """Messages in the order of their sequences.

    Attributes:
        first: Sequence of the first message; of the next one where there is none.
        last: Sequence of the last message that ever was; 0 for none.
        bytes: Bytes of all.
        last_time: When the last one was stored; None where there never was one.
        on_removed: Called with each message that goes.
    """

    # Invariant: `_by_subject[s]` has the sequences of `s` in their order, and no entry is
    # empty; both dicts keep the order of insertion, which is that of sequences.

    def __init__(self) -> None:
        self.first = 1
        self.last = 0
        self.bytes = 0
        self.last_time: float | None = None
        self.on_removed: Callable[[Record], None] = lambda _: None
        self._records: dict[int, Record] = {}
        self._by_subject: dict[str, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records.values())

    def append(self, subject: str, block: bytes, data: bytes, now: float) -> Record:
        """Keep a message and return it."""
        self.skip(now)
        record = Record(self.last, subject, block, data, now)
        if not self._records:
            self.first = record.sequence
        self._records[record.sequence] = record
        self._by_subject.setdefault(subject, {})[record.sequence] = None
        self.bytes += record.size
        return record

    def skip(self, now: float) -> int:
        """Use up a sequence without a message; return it."""
        self.last += 1
        self.last_time = now
        if not self._records:
            self.first = self.last + 1
        return self.last

    def get(self, sequence: int) -> Record | None:
        """Return the message `sequence`."""
        return self._records.get(sequence)

    def head(self) -> Record | None:
        """Return the first message."""
        return self._records.get(self.first)

    def remove(self, sequence: int) -> bool:
        """Remove a message; tell whether it was there."""
        record = self._records.pop(sequence, None)
        if record is None:
            return False
        same = self._by_subject[record.subject]
        del same[sequence]
        if not same:
            del self._by_subject[record.subject]
        self.bytes -= record.size
        if sequence == self.first:
            self.first = next(iter(self._records), self.last + 1)
        self.on_removed(record)
        return True

    def count(self, subject: str) -> int:
        """Return how many messages a subject has."""
        return len(self._by_subject.get(subject, ()))

    def oldest(self, subject: str) -> int:
        """Return the first sequence of a subject that has one."""
        return next(iter(self._by_subject[subject]))

    def of(self, subject: str) -> list[int]:
        """Return the sequences of a subject."""
        return list(self._by_subject.get(subject, ()))

    def subjects(self, pattern: str = ">") -> dict[str, int]:
        """Return the subjects that match, with how many messages each has."""
        return {
            subject: len(same)
            for subject, same in self._by_subject.items()
            if matches(pattern, subject)
        }

    def last_of(self, pattern: str) -> Record | None:
        """Return the last message that matches."""
        same = self._by_subject.get(pattern)
        if same is not None:
            return self._records[next(reversed(same))]
        newest = [
            next(reversed(same))
            for subject, same in self._by_subject.items()
            if matches(pattern, subject)
        ]
        return self._records[max(newest)] if newest else None

    def each_last(self, patterns: list[str], up_to: int) -> list[Record]:
        """Return the last message of each subject that matches, not behind `up_to`."""
        found = []
        for subject, same in self._by_subject.items():
            if any(matches(pattern, subject) for pattern in patterns):
                newest = next((n for n in reversed(same) if n <= up_to), 0)
                if newest:
                    found.append(self._records[newest])
        return sorted(found, key=lambda record: record.sequence)

    def next_of(self, patterns: tuple[str, ...], sequence: int) -> Record | None:
        """Return the first message that matches, from `sequence` on; no pattern: any."""
        for number in range(max(sequence, self.first), self.last + 1):
            record = self._records.get(number)
            if record is not None and covers(patterns, record.subject):
                return record
        return None

    def since(self, time: float) -> int:
        """Return the first sequence stored at `time` or later; else the next one."""
        for record in self._records.values():
            if record.time >= time:
                return record.sequence
        return self.last + 1


def covers(patterns: tuple[str, ...], subject: str) -> bool:
    """Tell whether a subject is one of those wanted; no pattern: any is."""
    return not patterns or any(matches(pattern, subject) for pattern in patterns)
