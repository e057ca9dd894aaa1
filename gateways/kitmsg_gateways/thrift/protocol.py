"""What the binary and the compact protocol have in common: the seam, limits, skipping.

A protocol makes, once for each type, a function that reads values of it out of bytes and
one that writes them.  Values are plain: dict by field name for a struct, list for list and
set, dict for map, the number for an enum.  thriftpy2 has such protocols too; its compiled
ones check no length before they allocate, loop over what a length claims, and cannot tell
a message that is not all there yet from one that is wrong.

A length is checked before anything of that size is made, and nesting is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from kitmsg_gateways.thrift.model import I32, STRING, Field, StructType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg_gateways.thrift.model import ThriftType

__all__ = [
    "FAILURE",
    "SHORT",
    "Begin",
    "Cursor",
    "Incomplete",
    "Kind",
    "Limits",
    "Malformed",
    "OverLimit",
    "Reader",
    "Scan",
    "ThriftProtocol",
    "Writer",
    "later",
    "skip",
    "text_of",
]

K = TypeVar("K")

Reader: TypeAlias = Callable[[bytes, int, int], tuple[Any, int]]
"""Takes bytes, a position and the levels left; returns the value and where it ends.

It raises one of `SHORT` when the bytes end too early, `Malformed` for what is wrong.
"""

Writer: TypeAlias = Callable[[bytearray, Any], object]
"""Appends a value; raises `TypeError`, `ValueError`, `KeyError` or `struct.error`."""

Scan: TypeAlias = Generator[None, None, int]
"""Finds the end of what it scans; yields while bytes are missing."""


class Malformed(Exception):
    """The bytes are no Thrift, or over a limit; the text says which."""


class OverLimit(Malformed):
    """The bytes may be Thrift, but more of it than is taken."""


class Incomplete(Exception):
    """The bytes end in the middle of a message."""


SHORT: Final = (IndexError, struct.error, Incomplete)
"""What a `Reader` raises when the bytes end too early."""


class Kind(IntEnum):
    """Kind of message."""

    CALL = 1
    REPLY = 2
    EXCEPTION = 3
    ONEWAY = 4


class Begin(NamedTuple):
    """How a message begins.

    Attributes:
        name: Of the method, as the caller sent it.
        kind: A `Kind`, if the caller is sane.
        seqid: Number that the answer repeats.
        position: Where the parameters begin.
    """

    name: bytes
    kind: int
    seqid: int
    position: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a message may be.

    Attributes:
        max_bytes: Longest message, in bytes.
        max_items: Most items of one list, set or map.
        max_depth: Deepest nesting of structs and containers.
    """

    max_bytes: int = 1 << 20
    max_items: int = 100_000
    max_depth: int = 64

    def length(self, size: int) -> int:
        """Return the length of a text or frame, checked.

        Raises:
            Malformed: It is negative or over `max_bytes`.
        """
        if 0 <= size <= self.max_bytes:
            return size
        raise OverLimit(f"a length of {size} bytes; at most {self.max_bytes} are taken")

    def count(self, items: int) -> int:
        """Return the length of a container, checked.

        Raises:
            Malformed: It is negative or over `max_items`.
        """
        if 0 <= items <= self.max_items:
            return items
        raise OverLimit(
            f"a container of {items} items; at most {self.max_items} are taken"
        )


class ThriftProtocol(Protocol):
    """How messages are written as bytes."""

    @property
    def name(self) -> str:
        """``binary`` or ``compact``."""
        ...

    @property
    def limits(self) -> Limits:
        """What a message may be."""
        ...

    def begin(self, data: bytes, position: int) -> Begin:
        """Return how the message at `position` begins.

        Raises:
            IndexError: The bytes end too early; or another of `SHORT`.
            Malformed: This is no such message.
        """
        ...

    def head(self, name: bytes, kind: Kind, seqid: int) -> bytes:
        """Return the bytes that begin a message."""
        ...

    def reader(self, type_: ThriftType) -> Reader:
        """Return the function that reads values of a type."""
        ...

    def writer(self, type_: ThriftType) -> Writer:
        """Return the function that writes values of a type."""
        ...

    def scan(self, cursor: Cursor) -> Scan:
        """Scan one message."""
        ...

    def scan_struct(self, cursor: Cursor, depth: int) -> Scan:
        """Scan the fields of a struct."""
        ...


class Cursor:
    """A place in bytes that may still grow.

    Args:
        data: The bytes; may be appended to between two steps of a scan.
        position: Where to begin.
        limits: What a message may be.
    """

    def __init__(self, data: bytes | bytearray, position: int, limits: Limits) -> None:
        self.data = data
        self.position = position
        self.limits = limits
        self._last = position + limits.max_bytes

    def take(self, size: int) -> Scan:
        """Wait for `size` bytes and go past them; returns where they begin.

        Raises:
            Malformed: The message is over the limit.
        """
        start = self.position
        end = start + size
        if end > self._last:
            raise OverLimit(f"a message of over {self.limits.max_bytes} bytes")
        while len(self.data) < end:
            yield
        self.position = end
        return start

    def byte(self) -> Scan:
        """Wait for one byte; returns it, 0 to 255."""
        start = yield from self.take(1)
        return self.data[start]

    def deeper(self, depth: int) -> int:
        """Return the levels left below one more.

        Raises:
            Malformed: There are none.
        """
        if depth <= 0:
            raise OverLimit(f"nested deeper than {self.limits.max_depth} levels")
        return depth - 1


def skip(scan: Scan) -> int:
    """Return where a scan ends.

    Raises:
        Incomplete: The bytes end before.
        Malformed: As the scan.
    """
    try:
        next(scan)
    except StopIteration as done:
        end: int = done.value
        return end
    raise Incomplete


def text_of(value: Any) -> bytes:
    """Return a text as bytes; a time, which msgpack has a type for, as JSON writes it.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, datetime):
        value = msgspec.to_builtins(value)
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {type(value).__name__}")
    return value.encode()


def later(made: Mapping[K, Any], key: K) -> Any:
    """Return a function that calls the one under `key` in `made`, which may come later.

    So a struct can be part of itself.
    """

    def call(*arguments: Any) -> Any:
        return made[key](*arguments)

    return call


FAILURE: Final = StructType(
    "TApplicationException", (Field(1, "message", STRING), Field(2, "type", I32))
)
"""What an answer of kind `Kind.EXCEPTION` holds."""
