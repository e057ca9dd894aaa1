"""Pulls that wait at a consumer, served in turn (NATS ADR-13)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.jetstream.encoding import NS
from kitmsg.jetstream.twin.clock import Alarm
from kitmsg.wire import Js

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.jetstream.twin.clock import Clock
    from kitmsg.jetstream.twin.consumer import Post
    from kitmsg.message import Message

__all__ = ["Pull", "Pulls", "parse"]

_NEVER: Final = float("inf")
_MOST_WAITING: Final = 512


@dataclass(slots=True, eq=False)
class Pull:
    """One request for messages.

    Attributes:
        reply: Where they go.
        left: How many are wanted still.
        expires: When it ends.
        no_wait: Whether it ends when there is no more.
        beat: Seconds between signs of life; 0.0 for none.
        next_beat: When the next one is due.
    """

    reply: str
    left: int
    expires: float
    no_wait: bool
    beat: float
    next_beat: float


def parse(message: Message, now: float) -> Pull | bytes:
    """Return a pull, or the status that refuses it."""
    body: dict[str, Any] = {}
    try:
        found = msgspec.json.decode(message.data) if message.data else {}
    except msgspec.MsgspecError:
        return b"400 Bad Request - invalid JSON"
    body = {"batch": found} if isinstance(found, int) else found
    expires = body.get("expires", 0) / NS
    beat = body.get("idle_heartbeat", 0) / NS
    batch = body.get("batch", 1)
    if batch < 0:
        return b"400 Bad Request - batch must be positive"
    if beat and 2 * beat > expires:
        return b"400 Bad Request - heartbeat value too large"
    ends = now + expires if expires else _NEVER
    next_beat = now + beat if beat else _NEVER
    no_wait = bool(body.get("no_wait"))
    return Pull(message.reply, batch or 1, ends, no_wait, beat, next_beat)


class Pulls:
    """The pulls of one consumer.

    Args:
        post: The bus.
        clock: The twin's.
        count: Returns how many messages could be delivered.
        on_empty: Called when none is left.
    """

    def __init__(
        self,
        post: Post,
        clock: Clock,
        count: Callable[[], int],
        on_empty: Callable[[], None],
    ) -> None:
        self._post = post
        self._clock = clock
        self._count = count
        self._on_empty = on_empty
        self._waiting: deque[Pull] = deque()
        self._alarm = Alarm(clock, self._time_is_up)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, pull: Pull) -> None:
        """Let a pull wait."""
        if len(self._waiting) >= _MOST_WAITING:
            self._tell(pull, b"409 Exceeded MaxWaiting")
            return
        if pull.no_wait:
            there = self._count()
            if not there:
                self._tell(pull, b"404 No Messages", left=False)
                return
            pull.left = min(pull.left, there)
        self._waiting.append(pull)
        self._alarm.by(min(pull.expires, pull.next_beat))

    def give(self, message: Message) -> bool:
        """Deliver to the next pull that somebody still listens to; tell whether one was."""
        while self._waiting:
            pull = self._waiting.popleft()
            if not self._post.hand(pull.reply, message):
                continue  # nobody is there any more
            pull.left -= 1
            if pull.beat:
                pull.next_beat = self._clock.now() + pull.beat
            if pull.left:
                self._waiting.append(pull)
            return True
        return False

    def settle(self) -> None:
        """End the pulls that do not wait, and say if none is left."""
        for pull in [pull for pull in self._waiting if pull.no_wait]:
            if not self._count():
                self._end(pull, b"408 Request Timeout")
        if not self._waiting:
            self._alarm.stop()
            self._on_empty()

    def clear(self) -> None:
        """Forget them all."""
        self._waiting.clear()
        self.settle()

    def end(self, status: bytes) -> None:
        """End them all."""
        self._alarm.stop()
        while self._waiting:
            self._tell(self._waiting.popleft(), status, left=False)

    def _time_is_up(self, now: float) -> None:
        for pull in list(self._waiting):
            if pull.expires <= now:
                self._end(pull, b"408 Request Timeout")
            elif pull.next_beat <= now:
                pull.next_beat = now + pull.beat
                self._post.say(pull.reply, block=b"NATS/1.0 100 Idle Heartbeat\r\n\r\n")
        if self._waiting:
            self._alarm.by(min(min(p.expires, p.next_beat) for p in self._waiting))
        else:
            self._on_empty()

    def _end(self, pull: Pull, status: bytes) -> None:
        self._waiting.remove(pull)
        self._tell(pull, status)

    def _tell(self, pull: Pull, status: bytes, *, left: bool = True) -> None:
        lines = b"NATS/1.0 %b\r\n" % status
        if left:
            lines += b"%b: %d\r\n%b: 0\r\n" % (
                Js.PULL_MESSAGES.encode(),
                pull.left,
                Js.PULL_BYTES.encode(),
            )
        self._post.say(pull.reply, block=lines + b"\r\n")
