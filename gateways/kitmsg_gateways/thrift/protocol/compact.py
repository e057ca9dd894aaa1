"""The compact protocol: variable-length numbers, field numbers as steps.

Source: thrift.apache.org, "Thrift compact protocol encoding".  Booleans inside containers
are read in both forms that exist (true is 1; false is 2, or 0) and written as 1 and 2.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Any, Final

from kitmsg_gateways.thrift.model import StructType, Wire
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
_IN_HEADER: Final = 16  # no type: a boolean that is all in its field's header
_WIDTHS: Final = {_IN_HEADER: 0, _TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}
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
    _kinds = _KINDS
    _widths = _WIDTHS

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
                    position = skip(self.scan_value(cursor, kind, depth - 1))

        return read

    def _alike(self, wire: Wire) -> tuple[int, ...]:
        return (_TRUE, _FALSE) if wire is Wire.BOOL else super()._alike(wire)

    @staticmethod
    def _read_list(data: bytes, position: int) -> tuple[int, int, int]:
        count, kind = data[position] >> 4, data[position] & 0x0F
        position += 1
        if count == _LONG:
            count, position = read_varint(data, position)
        return count, kind, position

    @staticmethod
    def _read_map(data: bytes, position: int) -> tuple[int, int, int, int]:
        count, position = read_varint(data, position)
        if not count:
            return 0, 0, 0, position
        kinds = data[position]
        return count, kinds >> 4, kinds & 0x0F, position + 1

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

    @staticmethod
    def _write_list(out: bytearray, count: int, kind: int) -> None:
        out.append(min(count, _LONG) << 4 | kind)
        if count >= _LONG:
            write_varint(out, count)

    @staticmethod
    def _write_map(out: bytearray, count: int, key_kind: int, kind: int) -> None:
        write_varint(out, count)
        if count:
            out.append(key_kind << 4 | kind)

    def scan(self, cursor: Cursor) -> Scan:
        """Scan one message."""
        start = yield from cursor.take(2)
        _check_version(cursor.data[start], cursor.data[start + 1])
        yield from scan_varint(cursor)
        size = yield from scan_varint(cursor)
        yield from cursor.take(self.limits.length(size))
        return (yield from self.scan_struct(cursor, self.limits.max_depth))

    def scan_value(self, cursor: Cursor, kind: int, depth: int) -> Scan:
        """Scan a value; see the base."""
        if kind in _VARINTS:
            yield from scan_varint(cursor)
            return cursor.position
        return (yield from super().scan_value(cursor, kind, depth))

    def _scan_field(self, cursor: Cursor) -> Scan:
        header = yield from cursor.byte()
        kind = header & 0x0F
        if kind != Wire.STOP and header <= _MAX_STEP:
            yield from scan_varint(cursor)
        return _IN_HEADER if kind in (_TRUE, _FALSE) else kind

    def _scan_size(self, cursor: Cursor) -> Scan:
        return (yield from scan_varint(cursor))

    def _scan_head(
        self, cursor: Cursor, kind: int
    ) -> Generator[None, None, tuple[int, tuple[int, ...]]]:
        if kind in (_LIST, _SET):
            header = yield from cursor.byte()
            count = header >> 4
            if count == _LONG:
                count = yield from scan_varint(cursor)
            return count, (header & 0x0F,)
        if kind != _MAP:
            raise Malformed(f"a field of type {kind}, which does not exist")
        count = yield from scan_varint(cursor)
        if not count:
            return 0, ()
        header = yield from cursor.byte()
        return count, (header >> 4, header & 0x0F)


def _check_version(first: int, second: int) -> None:
    if first != _ID or second & 0x1F != _VERSION:
        raise Malformed("this is no version of the compact protocol that exists")


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
