"""Write buffer of a connection: commands are joined, and their bytes are bounded.

This is on the hot path of every message, so it is flat.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.bus.linger import Linger
from kitmsg.errors import Disconnected, ResourceExhausted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from kitmsg.bus.soon import Soon

__all__ = ["Outbox"]

_RETRY_SECONDS: Final = 0.25
_BATCH: Final = 32
_JOINED: Final = 256  # commands that nobody waits for
_MANY: Final = 16  # asks awaited; then the next one is not far
_FEW: Final = 8
_MOST_TURNS: Final = 8
_SAMPLE: Final = (
    8  # commands between two looks at the clocks, while no wait is worth it
)
_CLOSED: Final = "the connection to the bus was lost"
_STEP: Final = 0.002  # in seconds; of one, uvloop's timers would leave half at times


class Outbox:
    """Commands on their way to a socket.  Used on one event loop.

    Writes are coalesced: everything sent while one read is handled leaves in one write, at
    its end.  Outside one, while there is one command a turn it is written at once, for the
    latency of a lone ask; as soon as there are more, they are joined, for throughput.  A
    batch goes out without waiting for the end, so that the server works while this process
    does: 32 commands gave a quarter more calls a second than all of a turn at once.

    While many asks are awaited, each turn of the loop may bring just one more, as in a
    gateway with many connections.  Then a few commands wait for those of the next turns,
    as long as every turn brings some: a write each would cost the server and the service
    as much as the ask itself.  Where turns bring nothing for a while and asks cost this
    process much CPU, a few wait for two or four milliseconds: see `Linger`.

    Args:
        soon: Schedules callbacks for the end of the current read.
        crowd: Returns how many asks are awaited: with many, a few commands wait for more.
        max_pending: Most bytes that wait, here and in the socket's own buffer.
        on_written: Called after everything so far was handed to the socket.
        on_broken: Called when the socket turns out to be closed, after `wire` became
            None; must lead to `detach`.
    """

    __slots__ = (
        "_batch",
        "_bytes",
        "_commands",
        "_crowd",
        "_held",
        "_hold",
        "_is_due",
        "_is_quiet",
        "_linger",
        "_lingered",
        "_look_at",
        "_max_pending",
        "_on_broken",
        "_on_written",
        "_seen",
        "_sent",
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
        on_broken: Callable[[Exception], None],
    ) -> None:
        self._soon = soon
        self._crowd = crowd
        self._max_pending = max_pending
        self._on_written = on_written
        self._on_broken = on_broken
        # None while there is no connection: from `detach` to the next `attach`.  Nobody
        # else writes to it: their bytes would overtake what waits here.
        self.wire: asyncio.WriteTransport | None = None
        # Whole commands, in the order of `send`; `_bytes` is their length together.  Only
        # `write` and `detach` take them out, and always all of them: so a command is
        # handed to the socket before `_on_written` tells of it, or never.
        self._commands: list[bytes] = []
        self._bytes = 0
        # What waited in the socket's own buffer when it was last looked at: at the end of
        # a turn, and before a command is refused.
        self._socket_bytes = 0
        # `_end_turn`, or the timer of `_hold`, is to come: exactly then is it true.
        # `_commands` is empty whenever it is not.
        self._is_due = False
        # The turn at whose end it was looked had no two commands to join.  A command may
        # be written at once only if so, and only if `_is_due` was false: then nothing
        # waits that it could overtake.
        self._is_quiet = True
        self._was_full = False  # a whole batch left in this turn
        # Turns that a few commands have waited for more, and how many they were then.
        self._lingered = self._seen = 0
        # The timer while commands wait by the clock, else None.  `_batch` is what ends
        # that wait, else `_BATCH`; `_held` is how many they were at the last step, below
        # zero in the second, which is the last one.
        self._linger = Linger()
        self._hold: asyncio.TimerHandle | None = None
        self._batch = _BATCH
        self._held = 0
        self._sent = 0  # commands written since `Linger` last measured
        self._look_at = 0  # how many they are when it measures next, unless it is worth

    def is_busy(self) -> bool:
        """Whether a quarter of `max_pending` waits already."""
        if self._bytes + self._socket_bytes <= self._max_pending >> 2:
            return False
        return self._waiting() > self._max_pending >> 2

    def send(self, command: bytes) -> None:
        """Have one whole command written, before the next loop turn ends at the latest.

        Raises:
            ResourceExhausted: More than `max_pending` bytes are waiting already.
            Disconnected: The socket turned out to be closed; nothing was written.
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
                try:
                    self.wire.write(command)
                except RuntimeError as error:
                    self._break(error)
                    raise Disconnected(_CLOSED) from error
                self._sent += 1
                self._on_written()
                return
        commands = self._commands
        commands.append(command)
        self._bytes += len(command)
        if len(commands) >= self._batch:
            self._fill()

    def join(self, command: bytes) -> None:
        """Have a command written as `send` does, together with more: nobody waits for it.

        Raises as `send` does.
        """
        if self._bytes + self._socket_bytes > self._max_pending:
            self._look_again()
        commands = self._commands
        commands.append(command)
        self._bytes += len(command)
        if not self._is_due:
            self._is_due = True
            self._soon.call(self._end_turn)
        elif len(commands) >= _JOINED:
            self._fill()

    def put(self, command: bytes) -> None:
        """Have a command written as `send` does, however much is waiting.

        For those that keep both sides' state alike (SUB, UNSUB, PING): they are short, few,
        and a refusal would leave the state of one side ahead of the other's.
        """
        self._commands.append(command)
        self._bytes += len(command)
        if not self._is_due:
            self._is_due = True
            self._soon.call(self._end_turn)

    def _fill(self) -> None:
        """Write a whole batch; raises as `send` does."""
        was_open = self.wire is not None
        if self._hold is None:
            self._was_full = True
            self.write()
        else:
            self._linger.hit()
            self._let_go()
        if was_open and self.wire is None:
            raise Disconnected(_CLOSED)

    def _end_turn(self) -> None:
        linger = self._linger
        if (self._lingered or self._crowd() >= _MANY) and self._lingers():
            return
        if (linger.is_worth or self._sent >= self._look_at) and self._holds():
            return
        count = len(self._commands)
        self._is_quiet = count <= 1 and not self._was_full and linger.target == 1
        self._is_due = self._was_full = False
        if count:
            self.write()
        wire = self.wire
        if wire is not None:
            self._socket_bytes = wire.get_write_buffer_size()

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

    def _holds(self) -> bool:
        """Wait by the clock, if more are likely to come in that time."""
        linger = self._linger
        if linger.measure(self._sent):
            self._sent = 0
        self._look_at = self._sent + _SAMPLE
        if self._soon.is_reading or not self._crowd():
            return False
        count = len(self._commands)
        if not 0 < count < linger.target:
            linger.hit()
            return False
        self._batch = linger.target
        self._held = count
        self._hold = self._soon.later(_STEP, self._end_step)
        return True

    def _end_step(self) -> None:
        """Wait one step more if the first one brought some; else that is all."""
        count = len(self._commands)
        if 0 < self._held < count:
            self._held = -count
            self._hold = self._soon.later(_STEP, self._end_step)
            return
        if 0 < count == abs(self._held):
            self._linger.miss()
        self._let_go()

    def _let_go(self) -> None:
        """End a wait by the clock, and write."""
        if self._hold is not None:
            self._hold.cancel()
        self._hold, self._batch = None, _BATCH
        self._is_due = False
        self.write()

    def write(self) -> None:
        """Hand everything to the socket now."""
        wire, commands = self.wire, self._commands
        if not commands or wire is None:
            return
        try:
            wire.write(b"".join(commands))
        except RuntimeError as error:
            self._break(error)
            return
        self._sent += len(commands)
        commands.clear()
        self._bytes = 0
        self._on_written()

    # A write that fails closes uvloop's transport at once, but `connection_lost` comes a
    # turn later.  What is written between raises RuntimeError there, and is thrown away
    # by asyncio's own transport.

    def _break(self, error: Exception) -> None:
        self.wire = None
        self._on_broken(error)

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
