"""A stream in memory: takes messages, checks what they expect, keeps the limits."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

from kitmsg.jetstream.encoding import stream_json, time_text
from kitmsg.jetstream.twin.clock import Alarm
from kitmsg.jetstream.twin.consumer import Consumer, complete
from kitmsg.jetstream.twin.log import Log
from kitmsg.jetstream.twin.refusal import Refusal
from kitmsg.jetstream.twin.schedules import Schedules
from kitmsg.jetstream.twin.timing import seconds_of
from kitmsg.message import Headers, encode_headers, matches
from kitmsg.wire import JS_EXPECTED, JS_MARKER, JS_TTL, Js

if TYPE_CHECKING:
    from kitmsg.jetstream.configs import ConsumerConfig, StreamConfig
    from kitmsg.jetstream.twin.clock import Clock
    from kitmsg.jetstream.twin.consumer import Post
    from kitmsg.jetstream.twin.log import Record

__all__ = ["Stream", "overlaps"]

_ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_NO_HEADERS: Final = Headers()


class Stream:
    """One stream.

    Args:
        config: How it is.
        post: The bus.
        clock: The twin's.
    """

    def __init__(self, config: StreamConfig, post: Post, clock: Clock) -> None:
        self.config = config
        self.created = clock.now()
        self.log = Log()
        self.log.on_removed = self._removed
        self.consumers: dict[str, Consumer] = {}
        self._post = post
        self._clock = clock
        self._ids: dict[str, tuple[int, float]] = {}  # in the order of their times
        self._last_id = ""
        self._ends: list[tuple[float, int]] = []  # a heap; may have what is gone
        self._alarm = Alarm(clock, self._expire)
        self._schedules = Schedules(clock, self.log, self._fire)

    # -- messages in

    def take(self, subject: str, block: bytes, data: bytes) -> dict[str, Any]:
        """Store a message, and return the acknowledgement."""
        headers = Headers.parse(block) if block else _NO_HEADERS
        self.check(subject, headers, len(block) + len(data))
        known = self.known(headers)
        if known is not None:
            return self._acknowledged(known) | {"duplicate": True}
        self.expects(subject, headers)
        return self._acknowledged(self.put(subject, block, data, headers))

    def check(self, subject: str, headers: Headers, size: int) -> None:
        """Refuse what this stream does not take.  Raises `Refusal`."""
        config = self.config
        if headers.get(Js.EXPECTED_STREAM, config.name) != config.name:
            raise Refusal(10060)
        if config.max_message_bytes is not None and size > config.max_message_bytes:
            raise Refusal(10054)
        if JS_TTL in headers:
            if not config.allow_ttl:
                raise Refusal(10166)
            _lives(headers[JS_TTL])
        if Js.ROLLUP in headers and not config.allow_rollup:
            raise Refusal(10111)
        if Js.SCHEDULE in headers:
            self._check_schedule(subject, headers)

    def _check_schedule(self, subject: str, headers: Headers) -> None:
        if not self.config.allow_schedules:
            raise Refusal(10188)
        target = headers.get(Js.SCHEDULE_TARGET, "")
        if target == subject or not self.covers(target):
            raise Refusal(10190)
        self._schedules.check(headers)

    def covers(self, subject: str) -> bool:
        """Tell whether a subject is one of the stream's."""
        return any(matches(pattern, subject) for pattern in self.config.subjects)

    def known(self, headers: Headers) -> int | None:
        """Return the sequence of the message that has the same id, if there is one."""
        now, window = self._clock.now(), self.config.duplicate_window
        while self._ids:
            oldest = next(iter(self._ids))
            if self._ids[oldest][1] + window > now:
                break
            del self._ids[oldest]
        found = self._ids.get(headers.get(Js.MESSAGE_ID, ""))
        return None if found is None else found[0]

    def expects(
        self, subject: str, headers: Headers, ahead: dict[str, int] | None = None
    ) -> None:
        """Refuse a message that expects another state.

        Args:
            subject: Its subject.
            headers: Its headers.
            ahead: Sequences by subject, of messages that are about to be stored.

        Raises:
            Refusal: The state is another.
        """
        if JS_EXPECTED in headers:
            about = headers.get(Js.EXPECTED_SUBJECT, subject)
            newest = self.log.last_of(about)
            last = newest.sequence if newest is not None else 0
            last = (ahead or {}).get(about, last)
            if headers[JS_EXPECTED] != str(last):
                raise Refusal(10071, last)
        last = self.log.last
        if headers.get(Js.EXPECTED_LAST, str(last)) != str(last):
            raise Refusal(10071, last)
        if headers.get(Js.EXPECTED_LAST_ID, self._last_id) != self._last_id:
            raise Refusal(10070, self._last_id)

    def put(self, subject: str, block: bytes, data: bytes, headers: Headers) -> int:
        """Store a message that is in order; return its sequence.  Raises `Refusal`."""
        now = self._clock.now()
        self._make_room(subject, len(subject) + len(block) + len(data) + 16)
        if Js.SCHEDULE in headers:
            for other in self.log.of(subject):
                self.log.remove(other)  # one schedule for each subject
        if self.config.retention == "interest" and not any(
            not one.config.filters
            or any(matches(p, subject) for p in one.config.filters)
            for one in self.consumers.values()
        ):
            sequence = self.log.skip(now)
        else:
            record = self.log.append(subject, block, data, now)
            sequence = record.sequence
            self._end_of_life(record, headers)
            self._keep_limits(subject)
            for consumer in list(self.consumers.values()):
                consumer.stored(record)
        self._last_id = headers.get(Js.MESSAGE_ID, "")
        if self._last_id:
            self._ids[self._last_id] = sequence, now
        self._rollup(subject, headers, sequence)
        self._schedules.stored(subject, headers, sequence)
        return sequence

    def _acknowledged(self, sequence: int) -> dict[str, Any]:
        return {"stream": self.config.name, "seq": sequence}

    # -- limits

    def _make_room(self, subject: str, size: int) -> None:
        """Refuse what is too much, where what is new goes."""
        config, log = self.config, self.log
        if config.discard != "new":
            return
        most = config.max_per_subject
        if config.discard_per_subject and most and log.count(subject) >= most:
            raise Refusal(10077, "maximum messages per subject exceeded")
        replaces = bool(most) and log.count(subject) >= (most or 0)
        room = None if replaces else config.max_messages
        if room is not None and len(log) >= room:
            raise Refusal(10077, "maximum messages exceeded")
        if config.max_bytes is not None and log.bytes + size > config.max_bytes:
            raise Refusal(10077, "maximum bytes exceeded")

    def _keep_limits(self, subject: str) -> None:
        config, log = self.config, self.log
        most = config.max_per_subject
        while most is not None and log.count(subject) > most:
            log.remove(log.oldest(subject))
        while config.max_messages is not None and len(log) > config.max_messages:
            log.remove(log.first)
        while config.max_bytes is not None and log.bytes > config.max_bytes:
            log.remove(log.first)

    def _end_of_life(self, record: Record, headers: Headers) -> None:
        ends = [] if self.config.max_age is None else [self.config.max_age]
        if JS_TTL in headers:
            lives = _lives(headers[JS_TTL])
            ends = [] if lives is None else [lives]
        if ends:
            end = record.time + min(ends)
            heapq.heappush(self._ends, (end, record.sequence))
            self._alarm.by(end)

    def _expire(self, now: float) -> None:
        """Remove the messages whose time is over."""
        while self._ends and self._ends[0][0] <= now:
            record = self.log.get(heapq.heappop(self._ends)[1])
            if record is not None:
                self.log.remove(record.sequence)
                self._mark(record)
        if self._ends:
            self._alarm.by(self._ends[0][0])

    def _mark(self, record: Record) -> None:
        """Leave a marker where the last message of a subject went by its age."""
        marker = self.config.marker_ttl
        if not marker or self.log.count(record.subject):
            return
        if record.block and JS_MARKER in Headers.parse(record.block):
            return
        fields = {
            JS_MARKER: "MaxAge",
            JS_TTL: f"{round(marker)}s",
            Js.ROLLUP: "sub",
        }
        self.put(record.subject, encode_headers(fields), b"", Headers(fields.items()))

    def _rollup(self, subject: str, headers: Headers, sequence: int) -> None:
        kind = headers.get(Js.ROLLUP, "")
        if kind in ("sub", "all"):
            pattern = subject if kind == "sub" else ">"
            self.purge(pattern, before=sequence)

    def purge(self, pattern: str, *, keep: int = 0, before: int = 0) -> int:
        """Remove the messages that match, but for the newest, or those from `before` on."""
        chosen = [r.sequence for r in self.log if matches(pattern, r.subject)]
        if before:
            chosen = [number for number in chosen if number < before]
        chosen = chosen[: len(chosen) - keep] if keep else chosen
        for sequence in chosen:
            self.log.remove(sequence)
        return len(chosen)

    def _removed(self, record: Record) -> None:
        for consumer in self.consumers.values():
            consumer.removed(record)

    def _fire(self, subject: str, fields: dict[str, str], data: bytes) -> None:
        """Publish what a schedule says."""
        block = encode_headers(fields)
        headers = Headers(fields.items())
        self.put(subject, block, data, headers)

    # -- consumers

    def add(self, config: ConsumerConfig, action: str) -> Consumer:
        """Make a consumer, change one, or return the one that is the same.

        Raises:
            Refusal: There is another one, or the stream does not take it.
        """
        config = complete(config)
        found = self.consumers.get(config.name)
        if found is None and action == "update":
            raise Refusal(10149)
        if found is not None:
            if found.config == config:
                return found
            if action == "create":
                raise Refusal(10148)
            _check_change(found.config, config)
        self._check_consumer(config)
        if found is not None:
            found.change(config)
            return found
        made = self.consumers[config.name] = Consumer(
            self.config.name,
            config,
            self.log,
            self._post,
            self._clock,
            on_done=self._done,
            on_idle=lambda: self.drop(config.name),
        )
        return made

    def _check_consumer(self, config: ConsumerConfig) -> None:
        most = config.max_deliver
        if config.backoff and most is not None and len(config.backoff) > most:
            raise Refusal(10116)
        if _overlap(config.filters):
            raise Refusal(10138)
        if self.config.retention == "workqueue":
            self._check_worker(config)

    def _check_worker(self, config: ConsumerConfig) -> None:
        """Refuse a consumer of a work queue that would take what another has."""
        if config.ack != "explicit":
            raise Refusal(10098)
        if config.deliver != "all":
            raise Refusal(10101)
        for name, other in self.consumers.items():
            if name == config.name:
                continue
            if not config.filters or not other.config.filters:
                raise Refusal(10099)
            if _overlap((*config.filters, *other.config.filters)):
                raise Refusal(10100)

    def drop(self, name: str) -> None:
        """Delete a consumer.  Raises `Refusal` where there is none."""
        consumer = self.consumers.pop(name, None)
        if consumer is None:
            raise Refusal(10014)
        consumer.end()
        if self.config.retention == "interest":
            for sequence in [record.sequence for record in self.log]:
                self._done(sequence)

    def _done(self, sequence: int) -> None:
        """Remove a message that nobody awaits any more, where that is the rule."""
        record = self.log.get(sequence)
        if record is None or self.config.retention == "limits":
            return
        if self.config.retention == "workqueue" or not any(
            one.wants(record) and one.awaits(sequence)
            for one in self.consumers.values()
        ):
            self.log.remove(sequence)

    def hang_up(self) -> None:
        """Forget all pulls: the connection is lost."""
        for consumer in self.consumers.values():
            consumer.hang_up()

    def end(self) -> None:
        """Delete it."""
        self._alarm.stop()
        self._schedules.stop()
        for consumer in self.consumers.values():
            consumer.end()

    def change(self, config: StreamConfig) -> None:
        """Take another configuration.  Raises `Refusal` where it may not change so."""
        for field, text in (("storage", "storage type"), ("retention", "retention")):
            before, after = getattr(self.config, field), getattr(config, field)
            if before != after and not (
                field == "retention" and "workqueue" not in (before, after)
            ):
                raise Refusal(
                    10052, f"stream configuration update can not change {text}"
                )
        self.config = config
        for subject in self.log.subjects():
            self._keep_limits(subject)
        if config.max_age is not None:
            for record in self.log:
                end = record.time + config.max_age
                heapq.heappush(self._ends, (end, record.sequence))
                self._alarm.by(end)

    def info(self) -> dict[str, Any]:
        """Return its state as the API tells it."""
        log, head = self.log, self.log.head()
        last_time = log.last_time
        state: dict[str, Any] = {
            "messages": len(log),
            "bytes": log.bytes,
            "first_seq": log.first,
            "first_ts": _ZERO_TIME if head is None else time_text(head.time),
            "last_seq": log.last,
            "last_ts": _ZERO_TIME if last_time is None else time_text(last_time),
            "num_subjects": len(log.subjects()),
            "consumer_count": len(self.consumers),
        }
        return {
            "config": stream_json(self.config),
            "created": time_text(self.created),
            "state": state,
            "ts": time_text(self._clock.now()),
        }


def _lives(text: str) -> float | None:
    """Return how long a message lives; None for ever."""
    return None if text == "never" else seconds_of(text)


def _overlap(patterns: tuple[str, ...]) -> bool:
    return any(
        overlaps(a, b) for i, a in enumerate(patterns) for b in patterns[i + 1 :]
    )


def overlaps(a: str, b: str) -> bool:
    """Tell whether a subject can match both patterns."""
    left, right = a.split("."), b.split(".")
    for mine, other in zip(left, right, strict=False):
        if ">" in (mine, other):
            return True
        if mine != other and "*" not in (mine, other):
            return False
    return len(left) == len(right)


def _check_change(before: ConsumerConfig, after: ConsumerConfig) -> None:
    for field, text in (
        ("deliver", "deliver policy"),
        ("start_sequence", "start sequence"),
        ("start_time", "start time"),
        ("ack", "ack policy"),
    ):
        if getattr(before, field) != getattr(after, field):
            raise Refusal(10012, f"{text} can not be updated")
