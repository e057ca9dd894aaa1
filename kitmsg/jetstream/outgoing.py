"""Messages on their way into a stream: the payload, and what is said of it in headers.

Sources: docs.nats.io, "JetStream headers"; NATS ADR-43 (time to live), ADR-51 (schedules).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import msgspec

from kitmsg.errors import InvalidArgument
from kitmsg.jetstream.checks import held_time, whole_seconds
from kitmsg.message import check_subject, encode_headers, joined_headers
from kitmsg.wire import JS_EXPECTED, JS_TTL, Js

__all__ = ["Expect", "Outgoing", "PubAck", "Schedule", "header_block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """The state in which a stream has to be for a message to be stored.

    Attributes:
        stream: Name of the stream that takes the subject; "" for any.
        last: Sequence of the last message in the stream.
        last_on_subject: Sequence of the last message on `subject`; 0 for none.
        subject: Pattern that `last_on_subject` is about; "" for the message's own subject.
        last_id: Message id of the last message; "" for any.
    """

    stream: str = ""
    last: int | None = None
    last_on_subject: int | None = None
    subject: str = ""
    last_id: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the store publishes a message, and on which subject of the same stream.

    The message that holds it is the schedule: one for each subject, the newest counts;
    purging the subject cancels it.  Made by `at`, `every` and `cron`.

    Attributes:
        rule: As on the wire: ``@at ...``, ``@every ...`` or six fields of cron.
        target: Subject that the message is published on.
        ttl: Seconds that the published message lives; None for as long as the stream says.
        time_zone: Name of the zone that a cron rule is in; "" for UTC.
    """

    rule: str
    target: str
    ttl: float | None = None
    time_zone: str = ""

    @classmethod
    def at(cls, time: float, target: str, *, ttl: float | None = None) -> Self:
        """Return a schedule for one `time`, in unix seconds; a past one is due at once.

        Raises:
            InvalidArgument: `time` is no number, or after 2262-04-11.
        """
        when = datetime.fromtimestamp(math.ceil(held_time(time) * 1000) / 1000, UTC)
        text = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return cls(f"@at {text}", check_subject(target), ttl)

    @classmethod
    def every(cls, seconds: float, target: str, *, ttl: float | None = None) -> Self:
        """Return a schedule that repeats after `seconds`, rounded up; API level 4.

        It is due on whole seconds, so the first time is up to a second early.
        """
        if not 1 <= seconds < math.inf:
            raise InvalidArgument(
                f"a schedule repeats after 1 second at least, not {seconds!r}"
            )
        return cls(f"@every {math.ceil(seconds)}s", check_subject(target), ttl)

    @classmethod
    def cron(
        cls, rule: str, target: str, *, time_zone: str = "", ttl: float | None = None
    ) -> Self:
        """Return a schedule by six fields of cron, seconds first; API level 4.

        Args:
            rule: ``second minute hour day month weekday``, or a name such as ``@daily``.
            target: Subject that the message is published on.
            time_zone: Name of the zone, such as ``Europe/Paris``; "" for UTC.
            ttl: Seconds that each published message lives.
        """
        return cls(rule, check_subject(target), ttl, time_zone)


# Structs, because one of each is made for every message.
class Outgoing(msgspec.Struct, frozen=True):
    """A message that is to be stored.

    Attributes:
        subject: A subject of a stream.
        data: The payload.
        headers: Header fields, beside those that the rest stands for; or a block of them,
            as `kitmsg.message.encode_headers` makes it.
        message_id: Stored once in the stream's duplicate window; "" for none.
        expect: The state that the stream has to be in; None for any.
        ttl: Seconds that it lives, rounded up; None for as long as the stream says.
        schedule: When it is published, where it is not to be now.
    """

    subject: str
    data: bytes = b""
    headers: Mapping[str, str] | bytes | None = None
    message_id: str = ""
    expect: Expect | None = None
    ttl: float | None = None
    schedule: Schedule | None = None


class PubAck(msgspec.Struct, frozen=True):
    """The store's word that it has a message.

    Attributes:
        stream: Name of the stream.
        sequence: The message's number in it; of a batch, the last one's.
        duplicate: Whether it had one of the same id already; `sequence` is that one's.
    """

    stream: str
    sequence: int = msgspec.field(name="seq")
    duplicate: bool = False


def header_block(message: Outgoing, more: Mapping[str, str] | None = None) -> bytes:
    """Return the header block of a message that is to be stored.

    Args:
        message: The message.
        more: Fields to add.

    Raises:
        InvalidArgument: A field is malformed.
        ValueError: A time to live is not positive.
    """
    given = message.headers
    if more is None and isinstance(given, bytes) and _has_only_id(message):
        return given[:-2] + f"{Js.MESSAGE_ID}: {message.message_id}\r\n\r\n".encode()
    block = given if isinstance(given, bytes) else b""
    fields = {} if isinstance(given, bytes) else dict(given or {})
    if message.message_id:
        fields[Js.MESSAGE_ID] = message.message_id
    if message.expect is not None:
        fields.update(_expectations(message.expect))
    if message.ttl is not None:
        fields[JS_TTL] = str(whole_seconds(message.ttl))
    if message.schedule is not None:
        fields.update(_schedule(message.schedule))
    if more:
        fields.update(more)
    return joined_headers(block, encode_headers(fields))


def _has_only_id(message: Outgoing) -> bool:
    """Tell whether all that is to be added to headers is an id, as events have it."""
    return (
        message.expect is None
        and message.ttl is None
        and message.schedule is None
        and message.message_id.isalnum()
    )


def _expectations(expect: Expect) -> Mapping[str, str]:
    sequences = {
        Js.EXPECTED_LAST: expect.last,
        JS_EXPECTED: expect.last_on_subject,
    }
    texts = {
        Js.EXPECTED_STREAM: expect.stream,
        Js.EXPECTED_SUBJECT: expect.subject,
        Js.EXPECTED_LAST_ID: expect.last_id,
    }
    found = {
        name: str(number) for name, number in sequences.items() if number is not None
    }
    return found | {name: text for name, text in texts.items() if text}


def _schedule(schedule: Schedule) -> Mapping[str, str]:
    found = {Js.SCHEDULE: schedule.rule, Js.SCHEDULE_TARGET: schedule.target}
    if schedule.ttl is not None:
        found[Js.SCHEDULE_TTL] = f"{whole_seconds(schedule.ttl)}s"
    if schedule.time_zone:
        found[Js.SCHEDULE_ZONE] = schedule.time_zone
    return found
