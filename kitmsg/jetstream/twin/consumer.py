"""A consumer in memory: deliveries, acks, redelivery by time.

It has the rules of nats-server's: what was given back goes first, then what is new, to the
pulls in turn; a message is delivered again when its time is up, at most `max_deliver` times.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from kitmsg.jetstream.encoding import NS, consumer_json, time_text
from kitmsg.jetstream.twin.clock import Alarm
from kitmsg.jetstream.twin.log import covers
from kitmsg.jetstream.twin.pulls import Pulls, parse
from kitmsg.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.jetstream.configs import ConsumerConfig
    from kitmsg.jetstream.twin.clock import Clock
    from kitmsg.jetstream.twin.log import Log, Record

__all__ = ["Consumer", "Post", "complete"]

_QUEUED: Final = -1.0  # it waits for a pull
_ALREADY: Final = 0.0


class Post(Protocol):
    """The bus as a consumer needs it."""

    def hand(self, to: str, message: Message) -> bool:
        """Deliver `message` to those subscribed to `to`; tell whether there is anybody."""
        ...

    def say(self, subject: str, data: bytes = b"", block: bytes = b"") -> None:
        """Publish, if there is a connection."""
        ...


@dataclass(slots=True)
class _Pending:
    """A message that was delivered and not acked.

    Attributes:
        number: Its first delivery's number.
        due: When it is delivered again.
    """

    number: int
    due: float


class Consumer:
    """A consumer of one stream.

    Args:
        stream: Name of the stream.
        config: How it is; complete.
        log: The stream's messages.
        post: The bus.
        clock: The twin's.
        on_done: Called with the sequence of each message that is acked or given up.
        on_idle: Called when nobody has pulled for as long as its configuration says, and
            nothing waits for an ack.
    """

    # Invariants:
    # - `_cursor` is the next sequence that was never delivered, `unseen` the number of
    #   messages that match from there on.
    # - A message of `_again` is in `_pending`, too; `_due` may have old times.

    def __init__(
        self,
        stream: str,
        config: ConsumerConfig,
        log: Log,
        post: Post,
        clock: Clock,
        *,
        on_done: Callable[[int], None],
        on_idle: Callable[[], None],
    ) -> None:
        self.config = config
        self.created = clock.now()
        self._stream = stream
        self._log = log
        self._post = post
        self._clock = clock
        self._on_done = on_done
        self._pending: dict[int, _Pending] = {}
        self._counts: dict[int, int] = {}
        self._again: deque[int] = deque()
        self._due: list[tuple[float, int]] = []
        self._delivered = (0, 0)  # of the stream, of the consumer
        self._floor = (0, 0)
        self._alarm = Alarm(clock, self._time_is_up)
        self._wake = Alarm(clock, self._resume)
        self._on_idle = on_idle
        self._idle = Alarm(clock, self._maybe_idle)
        self._pulls = Pulls(post, clock, self._count_waiting, self._gone_idle)
        # What comes before the cursor: of `last` and `last_per_subject`.
        self._first: deque[int] = deque()
        self._cursor = self._begin()
        self.unseen = len(self._first) + sum(map(self.wants, self._behind()))
        self._gone_idle()

    def _begin(self) -> int:
        config, log = self.config, self._log
        if config.deliver == "by_start_sequence":
            return max(config.start_sequence or 1, 1)
        if config.deliver == "by_start_time":
            return log.since(config.start_time or 0.0)
        if config.deliver == "all":
            return 1
        if config.deliver != "new":
            newest = log.each_last(list(config.filters) or [">"], log.last)
            chosen = newest[-1:] if config.deliver == "last" else newest
            self._first = deque(record.sequence for record in chosen)
        return log.last + 1

    def _behind(self) -> list[Record]:
        return [record for record in self._log if record.sequence >= self._cursor]

    def wants(self, record: Record) -> bool:
        """Tell whether a message is one of ours."""
        return covers(self.config.filters, record.subject)

    def awaits(self, sequence: int) -> bool:
        """Tell whether a message has still to be acked here."""
        return sequence >= self._cursor or sequence in self._pending

    # -- what the stream tells

    def stored(self, record: Record) -> None:
        """Note a new message."""
        if self.wants(record):
            self.unseen += 1
            self.serve()

    def removed(self, record: Record) -> None:
        """Note that a message is gone."""
        sequence = record.sequence
        if self.wants(record) and (sequence >= self._cursor or sequence in self._first):
            self.unseen -= 1
        self._forget(sequence)

    def end(self) -> None:
        """Tell those who pull that it is deleted."""
        for alarm in (self._alarm, self._wake, self._idle):
            alarm.stop()
        self._pulls.end(b"409 Consumer Deleted")

    def hang_up(self) -> None:
        """Forget all pulls: the connection is lost."""
        self._pulls.clear()

    def pause(self, until: float | None) -> None:
        """Deliver nothing until a time; None to deliver again."""
        self.config = replace(self.config, paused_until=until)
        self.serve()

    def _resume(self, now: float) -> None:
        """End a pause whose time is over."""
        paused = self.config.paused_until
        if paused is not None and paused <= now:
            self.pause(None)
        else:
            self.serve()

    def change(self, config: ConsumerConfig) -> None:
        """Take another configuration; its position stays."""
        self.config = config
        self.unseen = len(self._first) + sum(map(self.wants, self._behind()))
        self._gone_idle()
        self.serve()

    # -- what those who pull say

    def pull(self, message: Message) -> None:
        """Take a pull, and serve it as far as there are messages."""
        pull = parse(message, self._clock.now())
        if isinstance(pull, bytes):
            self._post.say(message.reply, block=b"NATS/1.0 %b\r\n\r\n" % pull)
            return
        self._idle.stop()
        self._pulls.add(pull)
        self.serve()

    def answer(self, sequence: int, word: bytes) -> None:
        """Take an answer to a delivery: an ack, or another word."""
        pending = self._pending.get(sequence)
        if pending is None:
            return
        kind, _, rest = word.partition(b" ")
        now = self._clock.now()
        if kind in (b"", b"+ACK"):
            before = [n for n in self._pending if n <= sequence]
            for number in before if self.config.ack == "all" else [sequence]:
                self._done(number)
        elif kind.startswith(b"+TERM"):
            self._done(sequence)
        elif kind.startswith(b"+WPI"):
            self._wait(sequence, now + self._ack_wait(sequence))
        elif kind.startswith(b"-NAK"):
            delay = msgspec.json.decode(rest)["delay"] / NS if rest else _ALREADY
            self._wait(sequence, now + delay)
            if not delay:
                self._time_is_up(now)
        self.serve()

    # -- deliveries

    def serve(self) -> None:
        """Deliver what there is to those who wait."""
        now = self._clock.now()
        paused = self.config.paused_until
        if paused is not None and now < paused:
            self._wake.by(paused)
            return
        while self._pulls:
            record, is_new = self._next()
            if record is None:
                break
            if not self._deliver(record, now, is_new=is_new):
                break
        self._pulls.settle()

    def _next(self) -> tuple[Record | None, bool]:
        """Return the next message to deliver, and whether for the first time."""
        most = self.config.max_deliver
        while self._again:
            sequence = self._again.popleft()
            record = self._log.get(sequence)
            if record is None or sequence not in self._pending:
                continue
            if most is not None and self._counts.get(sequence, 0) >= most:
                self._forget(sequence)  # delivered often enough: it stays in the stream
                continue
            return record, False
        if self.config.ack != "none" and 0 < self.config.max_ack_pending <= len(
            self._pending
        ):
            return None, True
        while self._first:
            record = self._log.get(self._first.popleft())
            if record is not None:
                return record, True
        record = self._log.next_of(self.config.filters, self._cursor)
        self._cursor = self._log.last + 1 if record is None else record.sequence
        return record, True

    def _deliver(self, record: Record, now: float, *, is_new: bool) -> bool:
        sequence = record.sequence
        count = self._counts.get(sequence, 0) + 1
        number = self._delivered[1] + 1
        left = self.unseen - is_new
        reply = (
            f"$JS.ACK.{self._stream}.{self.config.name}.{count}.{sequence}.{number}"
            f".{round(record.time * NS)}.{left}"
        )
        data = b"" if self.config.headers_only else record.data
        message = Message(record.subject, data, reply, record.block)
        if not self._pulls.give(message):
            if not is_new:
                self._again.appendleft(sequence)
            return False
        if is_new:
            self.unseen = left
            self._cursor = max(self._cursor, sequence + 1)
        self._delivered = max(self._delivered[0], sequence), number
        if self.config.ack == "none":
            self._floor = self._delivered
            return True
        self._counts[sequence] = count
        if is_new:
            self._pending[sequence] = _Pending(number, _ALREADY)
        self._wait(sequence, now + self._ack_wait(sequence))
        return True

    # -- time

    def _ack_wait(self, sequence: int) -> float:
        backoff = self.config.backoff
        if not backoff:
            return self.config.ack_wait
        return backoff[min(self._counts.get(sequence, 1), len(backoff)) - 1]

    def _wait(self, sequence: int, due: float) -> None:
        self._pending[sequence].due = due
        heapq.heappush(self._due, (due, sequence))
        self._alarm.by(due)

    def _time_is_up(self, now: float) -> None:
        """Queue again what was not acked in time."""
        while self._due and self._due[0][0] <= now:
            due, sequence = heapq.heappop(self._due)
            pending = self._pending.get(sequence)
            if pending is not None and pending.due == due:
                pending.due = _QUEUED  # two times may be the same
                self._again.append(sequence)
        if self._due:
            self._alarm.by(self._due[0][0])
        self.serve()

    def _gone_idle(self) -> None:
        """Count the time that nobody uses it."""
        after = self.config.inactive_after
        if after is not None and not self._pulls:
            self._idle.stop()
            self._idle.by(self._clock.now() + after)

    def _maybe_idle(self, _now: float) -> None:
        if self._pending:
            self._gone_idle()
        else:
            self._on_idle()

    # -- state

    def _done(self, sequence: int) -> None:
        self._forget(sequence)
        self._on_done(sequence)

    def _forget(self, sequence: int) -> None:
        pending = self._pending.pop(sequence, None)
        self._counts.pop(sequence, None)
        if pending is not None:
            self._floor = (
                max(self._floor[0], sequence),
                max(self._floor[1], pending.number),
            )

    def _count_waiting(self) -> int:
        return self.unseen + len(self._again)

    def info(self) -> dict[str, Any]:
        """Return its state as the API tells it."""
        stream, own = self._delivered
        floor = self._floor
        if self._pending:
            oldest = min(self._pending)
            floor = (
                min(floor[0], oldest - 1),
                min(floor[1], self._pending[oldest].number - 1),
            )
        now, paused = self._clock.now(), self.config.paused_until
        found: dict[str, Any] = {
            "stream_name": self._stream,
            "name": self.config.name,
            "created": time_text(self.created),
            "config": consumer_json(self.config),
            "delivered": {"consumer_seq": own, "stream_seq": stream},
            "ack_floor": {"consumer_seq": floor[1], "stream_seq": floor[0]},
            "num_ack_pending": len(self._pending),
            "num_redelivered": sum(
                self._counts.get(number, 0) > 1 for number in self._pending
            ),
            "num_waiting": len(self._pulls),
            "num_pending": self.unseen,
            "ts": time_text(now),
        }
        if paused is not None and now < paused:
            found |= {"paused": True, "pause_remaining": round((paused - now) * NS)}
        return found


def complete(config: ConsumerConfig) -> ConsumerConfig:
    """Return a configuration with what the server fills in."""
    if config.ack != "none" and config.backoff:
        config = replace(config, ack_wait=config.backoff[0])
    if not config.durable and config.inactive_after is None:
        config = replace(config, inactive_after=_FORGOTTEN)
    return config


_FORGOTTEN: Final = 5.0  # seconds until a consumer that is not durable goes
