"""Schedules of one stream: messages that are published later (NATS ADR-51)."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from kitmsg.jetstream.encoding import time_text
from kitmsg.jetstream.twin.clock import Alarm
from kitmsg.jetstream.twin.timing import due, seconds_of
from kitmsg.message import Headers
from kitmsg.wire import JS_TTL, Js

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.jetstream.twin.clock import Clock
    from kitmsg.jetstream.twin.log import Log

__all__ = ["Schedules"]

_PURGE: Final = "purge"
_OWN: Final = (
    "nats-schedule",
    "nats-expected-",
    "nats-msg-id",
    "nats-ttl",
    "nats-rollup",
)


class Schedules:
    """The schedules of one stream, by the subjects that hold them.

    Args:
        clock: The twin's.
        log: The stream's messages.
        fire: Publishes a message: subject, headers, payload.
    """

    # Invariant: `_due` is a heap of when, subject and sequence; one whose message is gone is
    # void, and found out when it is due.

    def __init__(
        self, clock: Clock, log: Log, fire: Callable[[str, dict[str, str], bytes], None]
    ) -> None:
        self._clock = clock
        self._log = log
        self._fire = fire
        self._due: list[tuple[float, str, int]] = []
        self._held: dict[str, int] = {}  # sequences by subject
        self._alarm = Alarm(clock, self._ring)

    def check(self, headers: Headers) -> None:
        """Refuse a rule that is malformed.  Raises `Refusal`."""
        self._next(headers)
        if Js.SCHEDULE_TTL in headers:
            seconds_of(headers[Js.SCHEDULE_TTL])

    def stored(self, subject: str, headers: Headers, sequence: int) -> None:
        """Note a message that may be a schedule, or end one."""
        if Js.SCHEDULE in headers:
            self._set(subject, sequence, self._next(headers))
        elif headers.get(Js.SCHEDULE_NEXT) == _PURGE:
            self._end(headers.get(Js.SCHEDULER, ""))

    def stop(self) -> None:
        """Ring no more."""
        self._alarm.stop()

    def _next(self, headers: Headers) -> float:
        now = self._clock.now()
        return due(headers, now, rule=Js.SCHEDULE, zone=Js.SCHEDULE_ZONE)

    def _set(self, subject: str, sequence: int, when: float) -> None:
        self._held[subject] = sequence
        heapq.heappush(self._due, (when, subject, sequence))
        self._alarm.by(when)

    def _end(self, subject: str) -> None:
        self._log.remove(self._held.pop(subject, 0))

    def _ring(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, subject, sequence = heapq.heappop(self._due)
            record = self._log.get(sequence)
            if record is not None:
                headers = Headers.parse(record.block)
                self._publish(subject, record.data, headers, sequence)
        if self._due:
            self._alarm.by(self._due[0][0])

    def _publish(
        self, subject: str, data: bytes, headers: Headers, sequence: int
    ) -> None:
        is_once = headers[Js.SCHEDULE].startswith("@at ")
        fields = {
            name: value
            for name, value in headers.pairs()
            if not name.lower().startswith(_OWN)
        }
        fields[Js.SCHEDULER] = subject
        if is_once:
            fields[Js.SCHEDULE_NEXT] = _PURGE
        else:
            when = self._next(headers)
            self._set(subject, sequence, when)
            fields[Js.SCHEDULE_NEXT] = time_text(when)
        if Js.SCHEDULE_TTL in headers:
            fields[JS_TTL] = headers[Js.SCHEDULE_TTL]
        self._fire(headers[Js.SCHEDULE_TARGET], fields, data)
