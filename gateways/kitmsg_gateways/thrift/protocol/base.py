"""Base of the binary and the compact protocol: the seam, limits, skipping.

A protocol makes, once for each type, a function that reads values of it out of bytes and
one that writes them.  Values are plain: dict by field name for a struct, list for list and
set, dict for map, the number for an enum.  thriftpy2 has such protocols too; its compiled
ones check no length before they allocate, loop over what a length claims, and cannot tell
a message that is not all there yet from one that is wrong.

A length is checked before anything of that size is made, and nesting is bounded.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from kitmsg_gateways.thrift.model import (
    BINARY,
    ListType,
    MapType,
    StructType,
    Wire,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg_gateways.thrift.model import ThriftType

__all__ = [
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
]

K = TypeVar("K")

Reader: TypeAlias = Callable[[bytes, int, int], tuple[Any, int]]
"""Takes bytes, a position and the levels left; returns the value and where it ends.

It raises one of `SHORT` when the bytes end too early, `Malformed` for what is wrong.
"""

ItemsReader: TypeAlias = Callable[[bytes, int, int, int], tuple[list[Any], int]]
"""As a `Reader`, of as many values as its last argument says."""

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
"""Exceptions of a `Reader` when the bytes end too early."""


class Kind(IntEnum):
    """Kind of message."""

    CALL = 1
    REPLY = 2
    EXCEPTION = 3
    ONEWAY = 4


class Begin(NamedTuple):
    """Header of a message.

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
    """Limits of a message.

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


class ThriftProtocol(ABC):
    """A protocol: reads and writes messages as bytes.

    Args:
        limits: Of a message.

    Attributes:
        name: ``binary`` or ``compact``.
        limits: As above.
    """

    name: ClassVar[str]
    _kinds: ClassVar[Mapping[Wire, int]]  # numbers of types, as the protocol has them
    _widths: ClassVar[Mapping[int, int]]  # bytes of a value, by its type's number

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._readers: dict[StructType, Reader] = {}
        self._writers: dict[StructType, Writer] = {}

    def reader(self, type_: ThriftType) -> Reader:
        """Return the function that reads values of a type."""
        if isinstance(type_, StructType):
            if type_ not in self._readers:
                self._readers[type_] = later(self._readers, type_)
                self._readers[type_] = self._struct_reader(type_)
            return self._readers[type_]
        if isinstance(type_, ListType):
            return self._list_reader(type_)
        if isinstance(type_, MapType):
            return self._map_reader(type_)
        if type_.wire is Wire.STRING:
            return self._bytes_reader() if type_ is BINARY else self._text_reader()
        return self._number_reader(type_.wire)

    def writer(self, type_: ThriftType) -> Writer:
        """Return the function that writes values of a type."""
        if isinstance(type_, StructType):
            if type_ not in self._writers:
                self._writers[type_] = later(self._writers, type_)
                self._writers[type_] = self._struct_writer(type_)
            return self._writers[type_]
        if isinstance(type_, ListType):
            return self._list_writer(type_)
        if isinstance(type_, MapType):
            return self._map_writer(type_)
        if type_.wire is Wire.STRING:
            return self._write_bytes if type_ is BINARY else self._write_text
        return self._number_writer(type_.wire)

    def _too_deep(self) -> Malformed:
        return OverLimit(f"nested deeper than {self.limits.max_depth} levels")

    @abstractmethod
    def begin(self, data: bytes, position: int) -> Begin:
        """Return how the message at `position` begins.

        Raises:
            IndexError: The bytes end too early; or another of `SHORT`.
            Malformed: This is no such message.
        """

    @abstractmethod
    def head(self, name: bytes, kind: Kind, seqid: int) -> bytes:
        """Return the bytes that begin a message."""

    @abstractmethod
    def scan(self, cursor: Cursor) -> Scan:
        """Scan one message."""

    def scan_struct(self, cursor: Cursor, depth: int) -> Scan:
        """Scan the fields of a struct."""
        below = cursor.deeper(depth)
        while kind := (yield from self._scan_field(cursor)):
            yield from self.scan_value(cursor, kind, below)
        return cursor.position

    def scan_value(self, cursor: Cursor, kind: int, depth: int) -> Scan:
        """Scan a value of the type that the protocol has under the number `kind`."""
        if kind in self._widths:
            yield from cursor.take(self._widths[kind])
        elif kind == self._kinds[Wire.STRING]:
            size = yield from self._scan_size(cursor)
            yield from cursor.take(self.limits.length(size))
        elif kind == self._kinds[Wire.STRUCT]:
            yield from self.scan_struct(cursor, depth)
        else:
            below = cursor.deeper(depth)
            count, kinds = yield from self._scan_head(cursor, kind)
            for _ in range(self.limits.count(count)):
                for each in kinds:
                    yield from self.scan_value(cursor, each, below)
        return cursor.position

    @abstractmethod
    def _scan_field(self, cursor: Cursor) -> Scan:
        """Scan the header of a field; returns its type, 0 at the end of the struct."""

    @abstractmethod
    def _scan_size(self, cursor: Cursor) -> Scan:
        """Scan the length of a text; returns it."""

    @abstractmethod
    def _scan_head(
        self, cursor: Cursor, kind: int
    ) -> Generator[None, None, tuple[int, tuple[int, ...]]]:
        """Scan the header of a container: its length, and the types of each item.

        Raises:
            Malformed: There is no such type.
        """

    def _alike(self, wire: Wire) -> tuple[int, ...]:
        """Return the types that a container's items may be said to have."""
        return (self._kinds[wire],)

    def _list_reader(self, type_: ListType) -> Reader:
        alike, head = self._alike(type_.item.wire), self._read_list
        read_items, count_of = self._items_reader(type_.item), self.limits.count

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            if depth <= 0:
                raise self._too_deep()
            count, kind, position = head(data, position)
            if count_of(count) and kind not in alike:
                raise Malformed(f"a list of type {kind} where {alike[0]} is expected")
            return read_items(data, position, depth - 1, count)

        return read

    def _items_reader(self, type_: ThriftType) -> ItemsReader:
        read_item = self.reader(type_)

        def read(
            data: bytes, position: int, depth: int, count: int
        ) -> tuple[list[Any], int]:
            items = []
            for _ in range(count):
                item, position = read_item(data, position, depth)
                items.append(item)
            return items, position

        return read

    def _map_reader(self, type_: MapType) -> Reader:
        keys, values = self._alike(type_.key.wire), self._alike(type_.value.wire)
        read_key, read_value = self.reader(type_.key), self.reader(type_.value)
        head, count_of = self._read_map, self.limits.count

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            if depth <= 0:
                raise self._too_deep()
            count, key_kind, kind, position = head(data, position)
            if count_of(count) and not (key_kind in keys and kind in values):
                raise Malformed("a map of other types than expected")
            items = {}
            for _ in range(count):
                key, position = read_key(data, position, depth - 1)
                items[key], position = read_value(data, position, depth - 1)
            return items, position

        return read

    @staticmethod
    @abstractmethod
    def _read_list(data: bytes, position: int) -> tuple[int, int, int]:
        """Read the header of a list: its length, the items' type, and where it ends."""

    @staticmethod
    @abstractmethod
    def _read_map(data: bytes, position: int) -> tuple[int, int, int, int]:
        """Read the header of a map: as that of a list, with the keys' type before."""

    @abstractmethod
    def _struct_reader(self, type_: StructType) -> Reader: ...

    @abstractmethod
    def _bytes_reader(self) -> Reader: ...

    def _text_reader(self) -> Reader:
        read_bytes = self._bytes_reader()

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            found, end = read_bytes(data, position, depth)
            try:
                return found.decode(), end
            except UnicodeDecodeError as exc:
                raise Malformed("a text is not UTF-8") from exc

        return read

    @abstractmethod
    def _number_reader(self, wire: Wire) -> Reader: ...

    def _list_writer(self, type_: ListType) -> Writer:
        kind, write_item = self._kinds[type_.item.wire], self.writer(type_.item)
        write_head = self._write_list

        def write(out: bytearray, value: Any) -> None:
            write_head(out, len(value), kind)
            for item in value:
                write_item(out, item)

        return write

    def _map_writer(self, type_: MapType) -> Writer:
        kinds = self._kinds[type_.key.wire], self._kinds[type_.value.wire]
        write_key, write_value = self.writer(type_.key), self.writer(type_.value)
        write_head = self._write_map

        def write(out: bytearray, value: Any) -> None:
            write_head(out, len(value), *kinds)
            for key, item in value.items():
                write_key(out, key)
                write_value(out, item)

        return write

    @staticmethod
    @abstractmethod
    def _write_list(out: bytearray, count: int, kind: int) -> None: ...

    @staticmethod
    @abstractmethod
    def _write_map(out: bytearray, count: int, key_kind: int, kind: int) -> None: ...

    @abstractmethod
    def _struct_writer(self, type_: StructType) -> Writer: ...

    @abstractmethod
    def _number_writer(self, wire: Wire) -> Writer: ...

    @staticmethod
    @abstractmethod
    def _write_bytes(out: bytearray, value: Any) -> None: ...

    def _write_text(self, out: bytearray, value: Any) -> None:
        self._write_bytes(
            out, value.encode() if type(value) is str else _text_of(value)
        )


class Cursor:
    """A place in bytes that may still grow.

    Args:
        data: The bytes; may be appended to between two steps of a scan.
        position: Where to begin.
        limits: Of a message.
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


def _text_of(value: Any) -> bytes:
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
