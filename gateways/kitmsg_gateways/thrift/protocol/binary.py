"""The binary protocol: fixed-width, big-endian.

Hot path: one dict lookup finds name and reader of a field by its three header bytes.
Source: thrift.apache.org, "Thrift binary protocol encoding".  Messages are read in the
strict form and in the old one without a version, and written in the strict form.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from kitmsg_gateways.thrift.model import (
    ListType,
    MapType,
    StructType,
    Wire,
)
from kitmsg_gateways.thrift.protocol.base import (
    Begin,
    Cursor,
    Incomplete,
    Kind,
    Malformed,
    Reader,
    Scan,
    ThriftProtocol,
    Writer,
    skip,
)

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
_WIDTHS: Final = {wire: struct.calcsize(f">{f}") for wire, f in _FORMATS.items()}


class BinaryProtocol(ThriftProtocol):
    """Reads and writes the binary protocol."""

    name = "binary"

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
                    position = skip(self._scan_value(cursor, kind, depth - 1))

        return read

    def _list_reader(self, type_: ListType) -> Reader:
        wire, read_item = type_.item.wire, self.reader(type_.item)
        format_, width = _FORMATS.get(wire), _WIDTHS.get(wire, 0)
        count_of = self.limits.count

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            count = count_of(_int(data, position + 1)[0])
            if depth <= 0:
                raise self._too_deep()
            if data[position] != wire and count:
                raise Malformed(
                    f"a list of type {data[position]} where {wire} is expected"
                )
            position += 5
            if format_ is not None:
                items = list(struct.unpack_from(f">{count}{format_}", data, position))
                return items, position + count * width
            items = []
            for _ in range(count):
                item, position = read_item(data, position, depth - 1)
                items.append(item)
            return items, position

        return read

    def _map_reader(self, type_: MapType) -> Reader:
        wires = bytes((type_.key.wire, type_.value.wire))
        read_key, read_value = self.reader(type_.key), self.reader(type_.value)
        count_of = self.limits.count

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            count = count_of(_int(data, position + 2)[0])
            if depth <= 0:
                raise self._too_deep()
            if data[position : position + 2] != wires and count:
                raise Malformed("a map of other types than expected")
            position += 6
            items = {}
            for _ in range(count):
                key, position = read_key(data, position, depth - 1)
                items[key], position = read_value(data, position, depth - 1)
            return items, position

        return read

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

    def _list_writer(self, type_: ListType) -> Writer:
        wire, write_item = type_.item.wire, self.writer(type_.item)

        def write(out: bytearray, value: Any) -> None:
            out.append(wire)
            out += _pack_int(len(value))
            for item in value:
                write_item(out, item)

        return write

    def _map_writer(self, type_: MapType) -> Writer:
        wires = bytes((type_.key.wire, type_.value.wire))
        write_key, write_value = self.writer(type_.key), self.writer(type_.value)

        def write(out: bytearray, value: Any) -> None:
            out += wires
            out += _pack_int(len(value))
            for key, item in value.items():
                write_key(out, key)
                write_value(out, item)

        return write

    def scan(self, cursor: Cursor) -> Scan:
        """Scan one message."""
        start = yield from cursor.take(4)
        (first,) = _unsigned(cursor.data, start)
        if first >> 24 & _HIGH_BIT:
            _check_version(first)
            yield from self._scan_text(cursor)
        else:
            yield from cursor.take(self.limits.length(first) + 1)
        yield from cursor.take(4)
        return (yield from self.scan_struct(cursor, self.limits.max_depth))

    def scan_struct(self, cursor: Cursor, depth: int) -> Scan:
        """Scan the fields of a struct."""
        below = cursor.deeper(depth)
        while True:
            wire = yield from cursor.byte()
            if wire == Wire.STOP:
                return cursor.position
            yield from cursor.take(2)
            yield from self._scan_value(cursor, wire, below)

    def _scan_value(self, cursor: Cursor, wire: int, depth: int) -> Scan:
        width = _WIDTHS.get(wire)  # type: ignore[call-overload]  # any number
        if width is not None:
            yield from cursor.take(width)
        elif wire == Wire.STRING:
            yield from self._scan_text(cursor)
        elif wire == Wire.STRUCT:
            yield from self.scan_struct(cursor, depth)
        elif wire in (Wire.LIST, Wire.SET):
            kind = yield from cursor.byte()
            yield from self._scan_items(cursor, (kind,), depth)
        elif wire == Wire.MAP:
            key = yield from cursor.byte()
            value = yield from cursor.byte()
            yield from self._scan_items(cursor, (key, value), depth)
        else:
            raise Malformed(f"a field of type {wire}, which does not exist")
        return cursor.position

    def _scan_text(self, cursor: Cursor) -> Scan:
        start = yield from cursor.take(4)
        size = self.limits.length(_int(cursor.data, start)[0])
        return (yield from cursor.take(size))

    def _scan_items(self, cursor: Cursor, kinds: tuple[int, ...], depth: int) -> Scan:
        start = yield from cursor.take(4)
        count = self.limits.count(_int(cursor.data, start)[0])
        below = cursor.deeper(depth)
        for _ in range(count):
            for kind in kinds:
                yield from self._scan_value(cursor, kind, below)
        return cursor.position


def _check_version(first: int) -> None:
    if first & _VERSION_MASK != _VERSION:
        raise Malformed("this is no version of the binary protocol that exists")
