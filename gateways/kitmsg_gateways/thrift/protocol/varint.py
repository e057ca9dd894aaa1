"""Numbers of the compact protocol: seven bits a byte, the lowest first.

Source: thrift.apache.org, "Thrift compact protocol encoding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.thrift.protocol.base import Malformed

if TYPE_CHECKING:
    from kitmsg_gateways.thrift.protocol.base import Cursor, Scan

__all__ = ["read_varint", "read_zigzag", "scan_varint", "write_varint"]

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
