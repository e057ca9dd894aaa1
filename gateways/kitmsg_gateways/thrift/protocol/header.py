"""THeader frames: headers beside each message, among them a client's credentials.

    length    4 bytes; of what follows
    magic     0F FF
    flags     2 bytes, passed back
    seqid     4 bytes, passed back
    size      2 bytes: the header's, in words of 4
    header    protocol, number of transforms, transforms, blocks of headers, zeros to a word
    message   in that protocol

Numbers of the header are varints.  Sources: Apache Thrift, doc/specs/HeaderFormat.md; its
`THeaderTransport` sends so.  Transforms (compression) are refused: one would unpack before
anybody knows who sent it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from kitmsg_gateways.thrift.protocol.base import Malformed
from kitmsg_gateways.thrift.protocol.compact import read_varint

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAGIC", "Header", "header_frame", "parse_header"]

MAGIC: Final = b"\x0f\xff"

_FIXED: Final = 10  # magic, flags, seqid, size
_WORD: Final = 4
_PROTOCOLS: Final = {0: "binary", 2: "compact"}
_NUMBERS: Final = {name: number for number, name in _PROTOCOLS.items()}
_KEY_VALUES: Final = 1
_MOST_HEADERS: Final = 128
_LOW: Final = 0x7F


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one frame.

    Attributes:
        protocol: Of its message: ``binary`` or ``compact``.
        flags: As they came.
        seqid: As it came.
        end: Where the message begins in the frame.
        fields: Values by name, in lower case; of those that come twice, both.
    """

    protocol: str
    flags: bytes
    seqid: bytes
    end: int
    fields: Mapping[str, list[str]] = field(default_factory=dict)

    def answer(self, message: bytes) -> bytes:
        """Return the frame of the message that answers this one, without its length."""
        header = bytes((_NUMBERS[self.protocol], 0, 0, 0))
        size = (len(header) // _WORD).to_bytes(2)
        return b"".join((MAGIC, self.flags, self.seqid, size, header, message))


def header_frame(
    protocol: str, seqid: int, fields: Mapping[str, str], message: bytes
) -> bytes:
    """Return the frame of a call, without its length.

    Args:
        protocol: ``binary`` or ``compact``.
        seqid: Comes back with the answer.
        fields: Headers by name.
        message: In the protocol.
    """
    header = bytearray((_NUMBERS[protocol], 0))
    if fields:
        header.append(_KEY_VALUES)
        header += _varint(len(fields))
        for pair in fields.items():
            for text in pair:
                data = text.encode()
                header += _varint(len(data)) + data
    header += bytes(-len(header) % _WORD)
    size = (len(header) // _WORD).to_bytes(2)
    return b"".join((MAGIC, bytes(2), seqid.to_bytes(4), size, header, message))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _LOW:
        out.append(number & _LOW | _LOW + 1)
        number >>= 7
    out.append(number)
    return bytes(out)


def parse_header(frame: bytes) -> Header:
    """Return the header of a frame, whose length is off.

    Raises:
        Malformed: It is none, or says what is not understood here.
    """
    if len(frame) < _FIXED or frame[:2] != MAGIC:
        raise Malformed("a frame does not begin as THeader's do")
    end = _FIXED + int.from_bytes(frame[8:_FIXED]) * _WORD
    if end > len(frame):
        raise Malformed("a THeader is longer than its frame")
    at = _At(frame[:end], _FIXED)
    number = at.varint()
    if number not in _PROTOCOLS:
        raise Malformed(f"protocol {number} of THeader is not spoken here")
    if at.varint():
        raise Malformed(
            "transforms of THeader are not taken; send messages as they are"
        )
    fields: dict[str, list[str]] = {}
    while at.position < end and (kind := at.varint()):
        if kind != _KEY_VALUES:
            break  # what else there may be has no length, so nothing behind it is read
        for _ in range(at.count()):
            name, value = at.text().lower(), at.text()
            fields.setdefault(name, []).append(value)
    return Header(_PROTOCOLS[number], frame[2:4], frame[4:8], end, fields)


class _At:
    """A position in a header."""

    __slots__ = ("_data", "position")

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def varint(self) -> int:
        """Return a number."""
        try:
            value, self.position = read_varint(self._data, self.position)
        except IndexError:
            raise Malformed("a THeader ends in the middle of a number") from None
        return value

    def count(self) -> int:
        """Return how many headers follow."""
        if (count := self.varint()) > _MOST_HEADERS:
            raise Malformed(
                f"a THeader has {count} headers; {_MOST_HEADERS} is the most"
            )
        return count

    def text(self) -> str:
        """Return a text with its length in front."""
        size = self.varint()
        start, self.position = self.position, self.position + size
        if self.position > len(self._data):
            raise Malformed("a THeader ends in the middle of a text")
        return self._data[start : self.position].decode(errors="replace")
