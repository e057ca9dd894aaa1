"""Splits the bytes of a connection into messages, and detects protocol and framing.

The first bytes tell (sources: the Thrift specifications of the framed transport and of both
protocols):

    80 01 ..            binary, unframed
    82 ..               compact, unframed
    nn nn nn nn 80 01   binary, in frames of that length
    nn nn nn nn 82      compact, in frames
    nn nn nn nn 0f ff   THeader: frames with headers, and a protocol each
    00 00 00 nn aa ..   binary in its old form without a version, unframed: a name

Work and memory grow with the bytes that came, however slowly they come: a message is read
at once when it came at once, else scanned once, piece by piece.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from kitmsg_gateways.thrift.protocol.base import SHORT, Cursor, Malformed
from kitmsg_gateways.thrift.protocol.header import MAGIC, Header, parse_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kitmsg_gateways.thrift.protocol.base import Limits, Scan, ThriftProtocol

__all__ = ["Inbox", "Speech", "detect", "framed"]

T = TypeVar("T")

_LENGTH: Final = 4
_SEEN: Final = 5
_HIGH_BIT: Final = 0x80
_BINARY: Final = 0x80
_COMPACT: Final = 0x82
_NAMES: Final = frozenset(b"_" + string.ascii_letters.encode())
"""Bytes that the name of a method begins with, or its service's in front."""


class Speech(NamedTuple):
    """Protocol and framing of a client.

    Attributes:
        protocol: ``binary`` or ``compact``.
        is_framed: Whether each message has its length in front.
        has_header: Whether each frame has a header, which names the protocol.
    """

    protocol: str
    is_framed: bool
    has_header: bool = False


_UNFRAMED: Final = {
    _BINARY: Speech("binary", False),
    _COMPACT: Speech("compact", False),
}
_FRAMED: Final = {
    _BINARY: Speech("binary", True),
    0: Speech("binary", True),  # the old form begins with the length of a name
    _COMPACT: Speech("compact", True),
    MAGIC[0]: Speech("binary", True, True),
}


def detect(data: bytes | bytearray) -> Speech | None:
    """Return how a client speaks whose connection begins with `data`.

    Returns:
        None if there are too few bytes to tell.

    Raises:
        Malformed: It is no Thrift.
    """
    if not data:
        return None
    found = _UNFRAMED.get(data[0])
    if found is None and data[0] < _HIGH_BIT:
        if len(data) < _SEEN:
            return None
        found = _FRAMED.get(data[_LENGTH])
        if found is None and data[_LENGTH] in _NAMES:
            found = _UNFRAMED[_BINARY]
    if found is None:
        raise Malformed("the connection does not begin as Thrift does")
    return found


class Inbox:
    """Receive buffer: bytes of a client that are not read yet.

    Args:
        limits: Of a message.
        protocol: The protocol; "" to detect it.
        is_framed: Whether in frames; None to find out.
        has_header: Whether every frame must have a header.

    Attributes:
        speech: How the client speaks; None as long as that is not known.
        header: Of the last frame that was read; None where there are none.
        taken: Bytes of the last message that was read.
    """

    __slots__ = (
        *("_at", "_come", "_data", "_limits", "_needed", "_partial", "_parts"),
        *("_scan", "_wanted"),
        *("header", "speech", "taken"),
    )

    def __init__(
        self,
        limits: Limits,
        protocol: str = "",
        is_framed: bool | None = None,
        *,
        has_header: bool = False,
    ) -> None:
        self.speech: Speech | None = None
        self.header: Header | None = None
        self.taken = 0
        if has_header:
            self.speech = Speech(protocol or "binary", True, True)
        elif protocol and is_framed is not None:
            self.speech = Speech(protocol, is_framed)
        self._wanted = protocol, is_framed
        self._limits = limits
        # Invariant: there are bytes in one of the three only.
        self._data = b""
        self._at = 0
        self._partial = bytearray()
        # Of a frame whose length is known: many that grow would leave holes in memory.
        self._parts: list[bytes] = []
        self._come = self._needed = 0  # bytes in `_parts`, and of the whole frame
        self._scan: Scan | None = None

    @property
    def size(self) -> int:
        """Bytes that are not read yet."""
        return len(self._data) - self._at + len(self._partial) + self._come

    @property
    def is_partial(self) -> bool:
        """Whether a message has begun and is not all there."""
        return bool(self._partial or self._parts)

    def clear(self) -> None:
        """Forget what is not read: nobody will."""
        self._data, self._at, self._partial = b"", 0, bytearray()
        self._parts, self._come, self._scan = [], 0, None

    def feed(self, data: bytes) -> None:
        """Add what came."""
        if self._parts:
            self._parts.append(data)
            self._come += len(data)
        elif self._partial:
            self._partial += data
        elif self._at < len(self._data):
            self._data, self._at = self._data[self._at :] + data, 0
        else:
            self._data, self._at = data, 0

    def take(
        self,
        protocols: Mapping[str, ThriftProtocol],
        read: Callable[[ThriftProtocol, bytes, int], tuple[T, int]],
    ) -> T | None:
        """Return the next message; None if it is not all there.

        Args:
            protocols: By name.
            read: Reads a message out of bytes at a position; returns it and its end.

        Raises:
            Malformed: It is no Thrift, or over a limit; nothing more can be read.
        """
        if not self._is_ready(protocols):
            return None
        assert self.speech is not None  # noqa: S101  # it is known when one is ready
        protocol = protocols[self.speech.protocol]
        if self.speech.is_framed:
            return self._framed(protocols, read)
        try:
            found, end = read(protocol, self._data, self._at)
        except SHORT:
            # Not all there: from now on it is scanned, not read again and again.
            self._keep()
            self._scan = protocol.scan(Cursor(self._partial, 0, self._limits))
            next(self._scan, None)
            return None
        self.taken, self._at = end - self._at, end
        return found

    def _framed(
        self,
        protocols: Mapping[str, ThriftProtocol],
        read: Callable[[ThriftProtocol, bytes, int], tuple[T, int]],
    ) -> T | None:
        assert self.speech is not None  # noqa: S101  # as `take` has checked
        start = self._at + _LENGTH
        size = self._limits.length(
            int.from_bytes(self._data[self._at : start], signed=True)
        )
        end = start + size
        if end > len(self._data):
            self._parts = [self._data[self._at :]]
            self._come, self._needed = len(self._parts[0]), _LENGTH + size
            self._data, self._at = b"", 0
            return None
        frame, begin, name = self._data[start:end], 0, self.speech.protocol
        if self.speech.has_header:
            header = self.header = parse_header(frame)
            begin, name = header.end, header.protocol
            if self._wanted[0] not in ("", name):
                raise Malformed(f"the {name} protocol is not spoken here")
        try:
            found, _ = read(protocols[name], frame, begin)
        except SHORT:
            raise Malformed("a frame ends in the middle of its message") from None
        self.taken, self._at = size, end
        return found

    def _is_ready(self, protocols: Mapping[str, ThriftProtocol]) -> bool:
        """Tell whether there may be a whole message in `_data`, and move it there."""
        if self._parts:
            if self._come < self._needed:
                return False
            self._data, self._at = b"".join(self._parts), 0
            self._parts, self._come = [], 0
        if self._partial:
            if not self._is_whole():
                return False
            self._data, self._at = bytes(self._partial), 0
            self._partial = bytearray()
            self._scan = None
        if self._at >= len(self._data):
            return False
        if self.speech is None:
            self.speech = self._detect()
        needed = _LENGTH if self.speech is not None and self.speech.is_framed else 1
        if self.speech is None or len(self._data) - self._at < needed:
            self._keep()
            return False
        return True

    def _is_whole(self) -> bool:
        """Tell whether what was incomplete can be looked at again."""
        if self._scan is not None:
            return next(self._scan, True) is True
        if self.speech is None:
            return len(self._partial) >= _SEEN
        if len(self._partial) < _LENGTH:
            return False
        size = int.from_bytes(self._partial[:_LENGTH], signed=True)
        return len(self._partial) >= _LENGTH + self._limits.length(size)

    def _detect(self) -> Speech | None:
        found = detect(self._data[self._at : self._at + _SEEN])
        if found is None:
            return None
        protocol, is_framed = self._wanted
        if protocol and found.protocol != protocol and not found.has_header:
            raise Malformed(f"the {found.protocol} protocol is not spoken here")
        if is_framed is not None and found.is_framed != is_framed:
            kind = "framed" if found.is_framed else "unframed"
            raise Malformed(f"{kind} messages are not taken here")
        return found

    def _keep(self) -> None:
        self._partial = bytearray(self._data[self._at :])
        self._data, self._at = b"", 0


def framed(message: bytes | bytearray, speech: Speech) -> bytes:
    """Return a message as `speech` has it, its length in front where that is due."""
    if not speech.is_framed:
        return bytes(message)
    return len(message).to_bytes(_LENGTH) + message
