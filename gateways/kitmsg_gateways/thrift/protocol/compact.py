"""The compact protocol: variable-length numbers, field numbers as steps.

Source: thrift.apache.org, "Thrift compact protocol encoding".  Booleans inside containers
are read in both forms that exist (true is 1; false is 2, or 0) and written as 1 and 2.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from kitmsg_gateways.thrift.model import ListType, MapType, StructType, Wire
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

__all__ = ["CompactProtocol"]

_ID: Final = 0x82
_VERSION: Final = 1
_TRUE: Final = 1
_FALSE: Final = 2
_BYTE: Final = 3
_DOUBLE: Final = 7
_BINARY: Final = 8
_LIST: Final = 9
_SET: Final = 10
_MAP: Final = 11
_STRUCT: Final = 12
_KINDS: Final = {
    Wire.BOOL: _TRUE,
    Wire.I8: _BYTE,
    Wire.I16: 4,
    Wire.I32: 5,
    Wire.I64: 6,
    Wire.DOUBLE: _DOUBLE,
    Wire.STRING: _BINARY,
    Wire.LIST: _LIST,
    Wire.SET: _SET,
    Wire.MAP: _MAP,
    Wire.STRUCT: _STRUCT,
}
_VARINTS: Final = frozenset({4, 5, 6})
_BITS: Final = {Wire.I16: 16, Wire.I32: 32, Wire.I64: 64}
_LONG: Final = 15  # size of a list that is written after its header
_MAX_STEP: Final = 15
_SEQID_BITS: Final = 32
_double: Final = struct.Struct("<d").unpack_from
_pack_double: Final = struct.Struct("<d").pack


_MORE: Final = 0x80
_MAX_SHIFT: Final = 63  # ten bytes hold 64 bits


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position`, unsigned, and where it ends.

    Raises:
        IndexError: The bytes end before.
        Malformed: It has more than 64 bits.
    """
    value = data[position]
    position += 1
    if value < _MORE:
        return value, position
    value &= 0x7F
    shift = 7
    while shift <= _MAX_SHIFT:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value, position
        shift += 7
    raise Malformed("a number of more than 64 bits")


def read_zigzag(data: bytes, position: int) -> tuple[int, int]:
    """Return the number at `position`, signed, and where it ends; raises the same."""
    value, position = read_varint(data, position)
    return value >> 1 ^ -(value & 1), position


def write_varint(out: bytearray, value: int) -> None:
    """Append a number that is not negative."""
    while value >= _MORE:
        out.append(value & 0x7F | _MORE)
        value >>= 7
    out.append(value)


def scan_varint(cursor: Cursor) -> Scan:
    """Scan a number; returns it."""
    value = shift = 0
    while shift <= _MAX_SHIFT:
        byte = yield from cursor.byte()
        value |= (byte & 0x7F) << shift
        if byte < _MORE:
            return value
        shift += 7
    raise Malformed("a number of more than 64 bits")


class CompactProtocol(ThriftProtocol):
    """Reads and writes the compact protocol."""

    name = "compact"

    def begin(self, data: bytes, position: int) -> Begin:
        """Return how the message at `position` begins; see the seam."""
        second = data[position + 1]
        _check_version(data[position], second)
        seqid, position = read_varint(data, position + 2)
        size, position = read_varint(data, position)
        end = position + self.limits.length(size)
        if end > len(data):
            raise Incomplete
        seqid &= 0xFFFFFFFF
        signed = seqid - (1 << _SEQID_BITS) if seqid >> _SEQID_BITS - 1 else seqid
        return Begin(data[position:end], second >> 5, signed, end)

    def head(self, name: bytes, kind: Kind, seqid: int) -> bytes:
        """Return the bytes that begin a message."""
        out = bytearray((_ID, _VERSION | kind << 5))
        write_varint(out, seqid & 0xFFFFFFFF)
        write_varint(out, len(name))
        out += name
        return bytes(out)

    def _struct_reader(self, type_: StructType) -> Reader:
        known: dict[int, tuple[str, Reader]] = {}
        for field in type_.fields:
            if field.type.wire is Wire.BOOL:
                known[field.id << 4 | _TRUE] = field.name, _true
                known[field.id << 4 | _FALSE] = field.name, _false
            else:
                key = field.id << 4 | _KINDS[field.type.wire]
                known[key] = field.name, self.reader(field.type)
        find = known.get

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            if depth <= 0:
                raise self._too_deep()
            found: dict[str, Any] = {}
            id_ = 0
            while True:
                header = data[position]
                position += 1
                kind = header & 0x0F
                if kind == Wire.STOP:
                    return found, position
                if header > _MAX_STEP:
                    id_ += header >> 4
                else:
                    id_, position = read_zigzag(data, position)
                field = find(id_ << 4 | kind)
                if field is not None:
                    found[field[0]], position = field[1](data, position, depth - 1)
                elif kind > _FALSE:  # a boolean is all in its header
                    cursor = Cursor(data, position, self.limits)
                    position = skip(self._scan_value(cursor, kind, depth - 1))

        return read

    def _list_reader(self, type_: ListType) -> Reader:
        wanted, read_item = _KINDS[type_.item.wire], self.reader(type_.item)
        count_of = self.limits.count

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            if depth <= 0:
                raise self._too_deep()
            count, kind = data[position] >> 4, data[position] & 0x0F
            position += 1
            if count == _LONG:
                count, position = read_varint(data, position)
            if count_of(count) and not _is_same(kind, wanted):
                raise Malformed(f"a list of type {kind} where {wanted} is expected")
            items = []
            for _ in range(count):
                item, position = read_item(data, position, depth - 1)
                items.append(item)
            return items, position

        return read

    def _map_reader(self, type_: MapType) -> Reader:
        keys, values = _KINDS[type_.key.wire], _KINDS[type_.value.wire]
        read_key, read_value = self.reader(type_.key), self.reader(type_.value)
        count_of = self.limits.count

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            if depth <= 0:
                raise self._too_deep()
            count, position = read_varint(data, position)
            if not count_of(count):
                return {}, position
            kinds = data[position]
            if not (_is_same(kinds >> 4, keys) and _is_same(kinds & 0x0F, values)):
                raise Malformed("a map of other types than expected")
            position += 1
            items = {}
            for _ in range(count):
                key, position = read_key(data, position, depth - 1)
                items[key], position = read_value(data, position, depth - 1)
            return items, position

        return read

    def _bytes_reader(self) -> Reader:
        length_of = self.limits.length

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            size, position = read_varint(data, position)
            end = position + length_of(size)
            if end > len(data):
                raise Incomplete
            return data[position:end], end

        return read

    def _number_reader(self, wire: Wire) -> Reader:
        if wire is Wire.BOOL:
            return _read_bool
        if wire is Wire.I8:
            return _read_byte
        if wire is Wire.DOUBLE:
            return _read_double
        bits = _BITS[wire]

        def read(data: bytes, position: int, depth: int) -> tuple[Any, int]:
            value, position = read_varint(data, position)
            if value >> bits:
                raise Malformed(f"a number of more than {bits} bits")
            return value >> 1 ^ -(value & 1), position

        return read

    def _number_writer(self, wire: Wire) -> Writer:
        if wire is Wire.BOOL:
            return lambda out, value: out.append(_TRUE if value else _FALSE)
        if wire is Wire.I8:
            return lambda out, value: out.extend(value.to_bytes(1, signed=True))
        if wire is Wire.DOUBLE:
            return lambda out, value: out.extend(_pack_double(value))
        bits = _BITS[wire]
        low, high = -(1 << bits - 1), (1 << bits - 1) - 1

        def write(out: bytearray, value: Any) -> None:
            if not low <= value <= high:
                raise ValueError(f"{value} does not fit into {bits} bits")
            write_varint(out, value << 1 if value >= 0 else ~(value << 1))

        return write

    @staticmethod
    def _write_bytes(out: bytearray, value: Any) -> None:
        write_varint(out, len(value))
        out += value

    def _struct_writer(self, type_: StructType) -> Writer:
        fields = [
            (f.name, f.id, _KINDS[f.type.wire], self.writer(f.type))
            for f in sorted(type_.fields, key=lambda field: field.id)
        ]

        def write(out: bytearray, value: Any) -> None:
            last = 0
            for name, id_, kind, write_field in fields:
                item = value.get(name)
                if item is None:
                    continue
                if kind == _TRUE:
                    _write_header(out, id_ - last, id_, _TRUE if item else _FALSE)
                else:
                    _write_header(out, id_ - last, id_, kind)
                    write_field(out, item)
                last = id_
            out.append(Wire.STOP)

        return write

    def _list_writer(self, type_: ListType) -> Writer:
        kind, write_item = _KINDS[type_.item.wire], self.writer(type_.item)

        def write(out: bytearray, value: Any) -> None:
            count = len(value)
            out.append(min(count, _LONG) << 4 | kind)
            if count >= _LONG:
                write_varint(out, count)
            for item in value:
                write_item(out, item)

        return write

    def _map_writer(self, type_: MapType) -> Writer:
        kinds = _KINDS[type_.key.wire] << 4 | _KINDS[type_.value.wire]
        write_key, write_value = self.writer(type_.key), self.writer(type_.value)

        def write(out: bytearray, value: Any) -> None:
            write_varint(out, len(value))
            if value:
                out.append(kinds)
            for key, item in value.items():
                write_key(out, key)
                write_value(out, item)

        return write

    def scan(self, cursor: Cursor) -> Scan:
        """Scan one message."""
        start = yield from cursor.take(2)
        _check_version(cursor.data[start], cursor.data[start + 1])
        yield from scan_varint(cursor)
        yield from self._scan_bytes(cursor)
        return (yield from self.scan_struct(cursor, self.limits.max_depth))

    def scan_struct(self, cursor: Cursor, depth: int) -> Scan:
        """Scan the fields of a struct."""
        below = cursor.deeper(depth)
        while True:
            header = yield from cursor.byte()
            kind = header & 0x0F
            if kind == Wire.STOP:
                return cursor.position
            if header <= _MAX_STEP:
                yield from scan_varint(cursor)
            if kind > _FALSE:
                yield from self._scan_value(cursor, kind, below)

    def _scan_value(self, cursor: Cursor, kind: int, depth: int) -> Scan:
        if kind in (_TRUE, _FALSE, _BYTE):
            yield from cursor.take(1)
        elif kind in _VARINTS:
            yield from scan_varint(cursor)
        elif kind == _DOUBLE:
            yield from cursor.take(8)
        elif kind == _BINARY:
            yield from self._scan_bytes(cursor)
        elif kind == _STRUCT:
            yield from self.scan_struct(cursor, depth)
        else:
            yield from self._scan_container(cursor, kind, depth)
        return cursor.position

    def _scan_container(self, cursor: Cursor, kind: int, depth: int) -> Scan:
        below = cursor.deeper(depth)
        kinds: tuple[int, ...] = ()
        if kind in (_LIST, _SET):
            header = yield from cursor.byte()
            count, kinds = header >> 4, (header & 0x0F,)
            if count == _LONG:
                count = yield from scan_varint(cursor)
        elif kind == _MAP:
            count = yield from scan_varint(cursor)
            if count:
                header = yield from cursor.byte()
                kinds = (header >> 4, header & 0x0F)
        else:
            raise Malformed(f"a field of type {kind}, which does not exist")
        for _ in range(self.limits.count(count)):
            for item in kinds:
                yield from self._scan_value(cursor, item, below)
        return cursor.position

    def _scan_bytes(self, cursor: Cursor) -> Scan:
        size = yield from scan_varint(cursor)
        return (yield from cursor.take(self.limits.length(size)))


def _check_version(first: int, second: int) -> None:
    if first != _ID or second & 0x1F != _VERSION:
        raise Malformed("this is no version of the compact protocol that exists")


def _is_same(kind: int, wanted: int) -> bool:
    return kind == wanted or (kind == _FALSE and wanted == _TRUE)


def _write_header(out: bytearray, step: int, id_: int, kind: int) -> None:
    if 0 < step <= _MAX_STEP:
        out.append(step << 4 | kind)
    else:
        out.append(kind)
        write_varint(out, (id_ << 1 ^ id_ >> 15) & 0xFFFF)


def _true(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    return True, position


def _false(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    return False, position


def _read_bool(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    return data[position] == _TRUE, position + 1


def _read_byte(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    return (data[position] ^ 0x80) - 0x80, position + 1


def _read_double(data: bytes, position: int, depth: int) -> tuple[Any, int]:
    return _double(data, position)[0], position + 8
