"""The binary protocol: fixed-width, big-endian.

Hot path: one dict lookup finds name and reader of a field by its three header bytes.
Source: thrift.apache.org, "Thrift binary protocol encoding".  Messages are read in the
strict form and in the old one without a version, and written in the strict form.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

from kitmsg_gateways.thrift.model import StructType, Wire
from kitmsg_gateways.thrift.protocol.base import (
    Begin,
    Cursor,
    Incomplete,
    ItemsReader,
    Kind,
    Malformed,
    Reader,
    Scan,
    ThriftProtocol,
    Writer,
    skip,
)

if TYPE_CHECKING:
    from kitmsg_gateways.thrift.model import ThriftType

__all__ = ["BinaryProtocol"]

_VERSION: Final = 0x80010000
_VERSION_MASK: Final = 0xFFFF0000
_HIGH_BIT: Final = 0x80
_unsigned: Final = struct.Struct(">I").unpack_from
_int: Final = struct.Struct(">i").unpack_from
_pack_int: Final = struct.Struct(">i").pack
_pack_unsigned: Final = struct.Struct(">I").pack
_header: Final = struct.Struct(">bh").pack
_FORMATS: Final = {
    Wire.BOOL: "?",
    Wire.I8: "b",
    Wire.DOUBLE: "d",
    Wire.I16: "h",
    Wire.I32: "i",
    Wire.I64: "q",
}
_WIDTHS: Final[dict[int, int]] = {
    w: struct.calcsize(f">{f}") for w, f in _FORMATS.items()
}
_KINDS: Final = {wire: int(wire) for wire in Wire}


class BinaryProtocol(ThriftProtocol):
    """Reads and writes the binary protocol."""

    name = "binary"
    _kinds = _KINDS
    _widths = _WIDTHS

    def begin(self, data: bytes, position: int) -> Begin:
        """Return how the message at `position` begins; see the seam."""
        (first,) = _unsigned(data, position)
        position += 4
        if data[position - 4] & _HIGH_BIT:
            _check_version(first)
            (first_size,) = _int(data, position)
            end = position + 4 + self.limits.length(first_size)
            (seqid,) = _int(data, end)
            return Begin(data[position + 4 : end], first & 0xFF, seqid, end + 4)
        end = position + self.limits.length(first)
        (seqid,) = _int(data, end + 1)
        return Begin(data[position:end], data[end], seqid, end + 5)

    def head(self, name: bytes, kind: Kind, seqid: int) -> bytes:
        """Return the bytes that begin a message."""
        return b"%b%b%b%b" % (
            _pack_unsigned(_VERSION | kind),
            _pack_int(len(name)),
            name,
            _pack_int(seqid),
        )

    def _struct_reader(self, type_: StructType) -> Reader:
        known = {
            _header(field.type.wire, field.id): (field.name, self.reader(field.type))
            for field in type_.fields
        }
        find = known.get

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            if depth <= 0:
                raise self._too_deep()
            found: dict[str, Any] = {}
            while True:
                after = position + 3
                field = find(data[position:after])
                if field is not None:
                    found[field[0]], position = field[1](data, after, depth - 1)
                elif data[position] == Wire.STOP:
                    return found, position + 1
                else:  # not known, or of another type: passed over, as Thrift has it
                    cursor = Cursor(data, after, self.limits)
                    kind = data[position]
                    position = skip(self.scan_value(cursor, kind, depth - 1))

        return read

    @staticmethod
    def _read_list(data: bytes, position: int) -> tuple[int, int, int]:
        return _int(data, position + 1)[0], data[position], position + 5

    def _items_reader(self, type_: ThriftType) -> ItemsReader:
        format_, width = _FORMATS.get(type_.wire), _WIDTHS.get(type_.wire, 0)
        if format_ is None:
            return super()._items_reader(type_)

        def read(
            data: bytes, position: int, depth: int, count: int
        ) -> tuple[list[Any], int]:
            items = struct.unpack_from(f">{count}{format_}", data, position)
            return list(items), position + count * width

        return read

    @staticmethod
    def _read_map(data: bytes, position: int) -> tuple[int, int, int, int]:
        count = _int(data, position + 2)[0]
        return count, data[position], data[position + 1], position + 6

    def _bytes_reader(self) -> Reader:
        length_of = self.limits.length

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            end = position + 4 + length_of(_int(data, position)[0])
            if end > len(data):
                raise Incomplete
            return data[position + 4 : end], end

        return read

    def _number_reader(self, wire: Wire) -> Reader:
        if wire is Wire.BOOL:
            return lambda data, position, depth: (data[position] != 0, position + 1)
        unpack = struct.Struct(f">{_FORMATS[wire]}").unpack_from
        width = _WIDTHS[wire]

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            return unpack(data, position)[0], position + width

        return read

    def _number_writer(self, wire: Wire) -> Writer:
        pack = struct.Struct(f">{_FORMATS[wire]}").pack

        def write(out: bytearray, value: Any) -> None:
            out += pack(value)

        return write

    @staticmethod
    def _write_bytes(out: bytearray, value: Any) -> None:
        out += _pack_int(len(value))
        out += value

    def _struct_writer(self, type_: StructType) -> Writer:
        fields = [
            (f.name, _header(f.type.wire, f.id), self.writer(f.type))
            for f in type_.fields
        ]

        def write(out: bytearray, value: Any) -> None:
            for name, header, write_field in fields:
                item = value.get(name)
                if item is not None:
                    out += header
                    write_field(out, item)
            out.append(Wire.STOP)

        return write

    @staticmethod
    def _write_list(out: bytearray, count: int, kind: int) -> None:
        out.append(kind)
        out += _pack_int(count)

    @staticmethod
    def _write_map(out: bytearray, count: int, key_kind: int, kind: int) -> None:
        out += bytes((key_kind, kind))
        out += _pack_int(count)

    def scan(self, cursor: Cursor) -> Scan:
        """Scan one message."""
        start = yield from cursor.take(4)
        (first,) = _unsigned(cursor.data, start)
        if first >> 24 & _HIGH_BIT:
            _check_version(first)
            size = yield from self._scan_size(cursor)
            yield from cursor.take(self.limits.length(size))
        else:
            yield from cursor.take(self.limits.length(first) + 1)
        yield from cursor.take(4)
        return (yield from self.scan_struct(cursor, self.limits.max_depth))

    def _scan_field(self, cursor: Cursor) -> Scan:
        wire = yield from cursor.byte()
        if wire != Wire.STOP:
            yield from cursor.take(2)
        return wire

    def _scan_size(self, cursor: Cursor) -> Scan:
        start = yield from cursor.take(4)
        size: int = _int(cursor.data, start)[0]
        return size

    def _scan_head(
        self, cursor: Cursor, kind: int
    ) -> Generator[None, None, tuple[int, tuple[int, ...]]]:
        if kind not in (Wire.LIST, Wire.SET, Wire.MAP):
            raise Malformed(f"a field of type {kind}, which does not exist")
        kinds = [(yield from cursor.byte())]
        if kind == Wire.MAP:
            kinds.append((yield from cursor.byte()))
        return (yield from self._scan_size(cursor)), tuple(kinds)


def _check_version(first: int) -> None:
    if first & _VERSION_MASK != _VERSION:
        raise Malformed("this is no version of the binary protocol that exists")
