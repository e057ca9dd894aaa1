r"""Parses what a NATS server sends; no I/O here.

One pass over each chunk: `find` the line's end, `split` it, `slice` the payload out.  A
message that is not complete waits with its chunk; nothing is copied until the rest came.
Numbers are looked up, not read: sizes and ids are nearly always those of the last message.

Source: the NATS client protocol, docs.nats.io: ``MSG <subject> <sid> [reply] <bytes>`` and
``HMSG <subject> <sid> [reply] <header bytes> <total bytes>``, a line each, then the payload
and CR LF.  Every other line goes to `control`.

Hot path: `feed` runs for every chunk and is flat on purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Parser", "ProtocolError"]

_M: Final = ord("M")
_H: Final = ord("H")
_CR: Final = ord("\r")
_MAX_LINE: Final = 1 << 20  # the INFO of a big cluster is a long line
_MAX_NUMBERS: Final = 1024
_MAX_DIGITS: Final = 6


class _Numbers(dict[bytes, int]):
    """Numbers as they stand on the wire; one that is missing is read."""

    def __missing__(self, text: bytes) -> int:
        number = int(text)
        if len(self) < _MAX_NUMBERS and len(text) <= _MAX_DIGITS:
            self[text] = number
        return number


_numbers: Final = _Numbers()


class ProtocolError(Exception):
    """The peer does not speak the NATS protocol, or the stream is out of step."""


class Parser:
    """Turns chunks into calls.

    Args:
        deliver: Called with sid, subject, reply (b"" for none), header block (b"" for none)
            and payload of each message, in order.
        control: Called with each line that is no message, without its CR LF.
    """

    __slots__ = ("_control", "_deliver", "_held", "_held_bytes", "_needed")

    def __init__(
        self,
        deliver: Callable[[int, bytes, bytes, bytes, bytes], None],
        control: Callable[[bytes], None],
    ) -> None:
        self._deliver = deliver
        self._control = control
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._needed = 0  # bytes that must be held before parsing can go on

    def deliver_to(
        self, deliver: Callable[[int, bytes, bytes, bytes, bytes], None]
    ) -> None:
        """Give messages to another function from the next chunk on."""
        self._deliver = deliver

    def control_with(self, control: Callable[[bytes], None]) -> None:
        """Give the other lines to another function."""
        self._control = control

    def reset(self) -> None:
        """Forget what is incomplete: a new connection starts."""
        self._held = []
        self._held_bytes = self._needed = 0

    def feed(self, chunk: bytes) -> None:  # noqa: PLR0912, PLR0915
        """Parse `chunk`, which may begin and end anywhere.

        Raises:
            ProtocolError: A line is not of the protocol; the connection is of no more use.
        """
        if self._held:
            self._held.append(chunk)
            self._held_bytes += len(chunk)
            if self._held_bytes < self._needed:
                return
            chunk = b"".join(self._held)
            self._held = []
        deliver = self._deliver
        find = chunk.find
        numbers = _numbers
        at = 0
        size = len(chunk)
        needed = 0
        try:
            while at < size:
                eol = find(b"\r\n", at)
                if eol < 0:
                    if size - at > _MAX_LINE:
                        raise ProtocolError("a line without an end")
                    needed = size - at + 1
                    break
                kind = chunk[at]
                if kind == _H:
                    # Too few or too many parts raise `ValueError`.
                    parts = chunk[at:eol].split()
                    if len(parts) == 6:  # noqa: PLR2004
                        _, subject, sid, reply, head, length = parts
                    else:
                        _, subject, sid, head, length = parts
                        reply = b""
                    start = eol + 2
                    stop = start + numbers[length]
                    if stop + 2 > size:
                        needed = stop + 2 - at
                        break
                    body = start + numbers[head]
                    if body > stop:
                        raise ProtocolError(f"not a message: {chunk[at:eol][:80]!r}")
                    deliver(
                        numbers[sid],
                        subject,
                        reply,
                        chunk[start:body],
                        chunk[body:stop],
                    )
                    at = stop + 2
                elif kind == _M:
                    parts = chunk[at:eol].split()
                    if len(parts) == 4:  # noqa: PLR2004
                        _, subject, sid, length = parts
                        reply = b""
                    else:
                        _, subject, sid, reply, length = parts
                    start = eol + 2
                    stop = start + numbers[length]
                    if stop + 2 > size:
                        needed = stop + 2 - at
                        break
                    deliver(numbers[sid], subject, reply, b"", chunk[start:stop])
                    if chunk[stop] != _CR:
                        raise ProtocolError("a payload does not end where it should")
                    at = stop + 2
                else:
                    self._control(chunk[at:eol])
                    at = eol + 2
        except (ValueError, IndexError) as exc:
            raise ProtocolError(f"not a message: {chunk[at : at + 80]!r}") from exc
        if at < size:
            self._held = [chunk[at:]]
            self._held_bytes = size - at
            self._needed = needed
