"""What waits to be written to a connection: joined, one write per loop turn, bounded.

This is on the hot path of every message, so it is flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.errors import ResourceExhausted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from kitmsg.bus.soon import Soon

__all__ = ["Outbox"]

_RETRY_SECONDS: Final = 0.25
_BATCH: Final = 32
_MANY: Final = 16  # asks awaited; then the next one is not far
_FEW: Final = 8
_MOST_TURNS: Final = 8


class Outbox:
    """Commands on their way to a socket.  Used on one event loop.

    What a read leads to is joined and written at its end.  Outside one, while there is
    one command a turn it is written at once, for the latency of a lone ask; as soon as
    there are more, they are joined, for throughput.  A batch goes out without waiting for
    the end, so that the server works while this process does: 32 commands gave a quarter
    more calls a second than all of a turn at once.

    While many asks are awaited, each turn of the loop may bring just one more, as in a
    gateway with many connections.  Then a few commands wait for those of the next turns,
    as long as every turn brings some: a write each would cost the server and the service
    as much as the ask itself.

    Args:
        soon: Says when the end is.
        crowd: Returns how many asks are awaited: with many, a few commands wait for more.
        max_pending: Most bytes that wait, here and in the socket's own buffer.
        on_written: Called after everything so far was handed to the socket.
    """

    __slots__ = (
        "_bytes",
        "_commands",
        "_crowd",
        "_is_due",
        "_is_quiet",
        "_lingered",
        "_max_pending",
        "_on_written",
        "_seen",
        "_socket_bytes",
        "_soon",
        "_was_full",
        "wire",
    )

    def __init__(
        self,
        soon: Soon,
        crowd: Callable[[], int],
        max_pending: int,
        on_written: Callable[[], None],
    ) -> None:
        self.wire: asyncio.WriteTransport | None = None
        self._soon = soon
        self._crowd = crowd
        self._seen = self._lingered = 0
        self._max_pending = max_pending
        self._on_written = on_written
        self._commands: list[bytes] = []
        self._bytes = 0
        self._socket_bytes = 0  # when it was last looked at
        self._is_due = False  # the end of this loop turn writes what is here
        self._was_full = False
        self._is_quiet = True  # the last turn had no two commands to join

    def is_busy(self) -> bool:
        """Whether a quarter of `max_pending` waits already."""
        if self._bytes + self._socket_bytes <= self._max_pending >> 2:
            return False
        return self._waiting() > self._max_pending >> 2

    def send(self, command: bytes) -> None:
        """Have one whole command written, before the next loop turn ends at the latest.

        Raises:
            ResourceExhausted: More than `max_pending` bytes are waiting already.
        """
        if self._bytes + self._socket_bytes > self._max_pending:
            self._look_again()
        if not self._is_due:
            self._is_due = True
            soon = self._soon
            soon.call(self._end_turn)
            if (
                self._is_quiet
                and not soon.is_reading
                and self.wire is not None
                and self._crowd() < _MANY
            ):
                self.wire.write(command)
                self._on_written()
                return
        self._commands.append(command)
        self._bytes += len(command)
        if len(self._commands) >= _BATCH:
            self._was_full = True
            self.write()

    def _end_turn(self) -> None:
        if self._lingers():
            return
        self._is_due = False
        self._is_quiet = len(self._commands) <= 1 and not self._was_full
        self._was_full = False
        self.write()
        if self.wire is not None:
            self._socket_bytes = self.wire.get_write_buffer_size()

    def _lingers(self) -> bool:
        """Wait another turn, if more are likely to come in it."""
        count = len(self._commands)
        if (
            self._seen < count < _FEW
            and self._lingered < _MOST_TURNS
            and self._crowd() >= _MANY
        ):
            self._seen = count
            self._lingered += 1
            self._soon.next_turn(self._end_turn)
            return True
        self._seen = self._lingered = 0
        return False

    def write(self) -> None:
        """Hand everything to the socket now."""
        wire, commands = self.wire, self._commands
        if not commands or wire is None:
            return
        wire.write(b"".join(commands))
        commands.clear()
        self._bytes = 0
        self._on_written()

    def attach(self, wire: asyncio.WriteTransport) -> None:
        """Write to `wire` from now on."""
        self.wire = wire
        self._socket_bytes = 0

    def detach(self) -> int:
        """Throw away what was not written; returns how many commands that were."""
        lost = len(self._commands)
        self._commands.clear()
        self._bytes = self._socket_bytes = 0
        self.wire = None
        return lost

    def _waiting(self) -> int:
        """Return the bytes that wait, here and in the socket's own buffer."""
        if self.wire is not None:
            self._socket_bytes = self.wire.get_write_buffer_size()
        return self._bytes + self._socket_bytes

    def _look_again(self) -> None:
        waiting = self._waiting()
        if waiting > self._max_pending:
            raise ResourceExhausted(
                f"{waiting} bytes wait to be written to NATS;"
                f" max_pending is {self._max_pending}",
                retry_after=_RETRY_SECONDS,
            )
