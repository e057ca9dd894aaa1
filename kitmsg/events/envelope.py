"""An event on the wire: its payload is the event, its headers are CloudEvents' attributes.

    ce-specversion: 1.0
    ce-id: 6f1c...                        also the message id, by which a stream knows it again
    ce-type: orders.placed                the literal words of the subject
    ce-source: /orders                    the service that published it
    ce-time: 2026-11-28T12:00:00.000001Z
    ce-dataschema: kit:orders.placed:1:3f2a...   version, and hash of the JSON Schema
    Content-Type: application/json

Source: CloudEvents 1.0.2, "NATS Protocol Binding", binary content mode.
"""

from __future__ import annotations

import functools
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    JSON,
    Codec,
    by_content_type,
    request_encoder,
    sniff,
    translate,
)
from kitmsg.context import Context
from kitmsg.errors import InvalidArgument
from kitmsg.events.event import Event, Facts, facts_of, schema_hash
from kitmsg.message import Headers, Message, encode_headers, joined_headers
from kitmsg.wire import (
    CE_ID,
    CE_SCHEMA,
    CE_SOURCE,
    CE_SPEC,
    CE_TIME,
    CE_TYPE,
    CONTENT_TYPE,
)

__all__ = [
    "Envelope",
    "Reader",
    "Writer",
    "new_event_id",
    "schema_text",
    "version_in",
    "version_of",
]

_SPEC: Final = "1.0"
_SCHEME: Final = "kit"
_PARTS: Final = 4
_LINE: Final = b"\r\n"
_TYPE: Final = f"\r\n{CE_TYPE}: ".encode()
_IS_JSON: Final = f"\r\n{CONTENT_TYPE}: {JSON.content_type}\r\n".encode()
_VERSION: Final = re.compile(r"\d{1,9}", re.ASCII)

_PROCESS: Final = secrets.token_hex(8)
_count = count()


def new_event_id() -> str:
    """Return 28 hexadecimal digits: 16 of this process, at random, then a count."""
    return f"{_PROCESS}{next(_count):012x}"


@dataclass(frozen=True, slots=True)
class Envelope:
    """The attributes of an event that was read.

    Attributes:
        id: Unique with `source`.
        type: The literal words of its subject.
        source: The service that published it, after a slash.
        time: When it happened; None if unsaid.
        version: Of its fields' meaning.
    """

    id: str
    type: str
    source: str
    time: datetime | None
    version: int

    @classmethod
    def read(cls, headers: Headers) -> Envelope:
        """Return the attributes in the headers of a message."""
        return cls(
            id=headers.get(CE_ID, ""),
            type=headers.get(CE_TYPE, ""),
            source=headers.get(CE_SOURCE, ""),
            time=_time(headers.get(CE_TIME, "")),
            version=version_of(headers),
        )


def version_of(headers: Headers) -> int:
    """Return the version that an event's schema header tells; 1 where it tells none."""
    return version_in(headers.get(CE_SCHEMA, "")) or 1


def version_in(text: str) -> int | None:
    """Return the version that a ``dataschema`` of ours tells; None for any other."""
    parts = text.split(":")
    is_ours = len(parts) == _PARTS and parts[0] == _SCHEME
    return int(parts[2]) if is_ours and _VERSION.fullmatch(parts[2]) else None


def schema_text(name: str, version: int, hash_: str) -> str:
    """Return the schema header of an event: its version, and the hash of its schema."""
    return f"{_SCHEME}:{name}:{version}:{hash_}"


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


class Writer:
    """Makes messages of the events of one class.

    Args:
        cls: The class.
        codec: How their payload is encoded.

    Attributes:
        subject: Returns the subject of an event.
    """

    def __init__(self, cls: type[Event], codec: Codec = JSON) -> None:
        facts = facts_of(cls)
        self.facts = facts
        self.subject = facts.subject
        self._encode = request_encoder(codec, cls)
        schema = schema_text(facts.name, facts.version, schema_hash(cls))
        fixed = {
            CE_SPEC: _SPEC,
            CE_TYPE: facts.name,
            CE_SCHEMA: schema,
            CONTENT_TYPE: codec.content_type,
        }
        self._fixed = fixed
        self._block = encode_headers(fixed)[:-2]
        self._check = _decoder(cls, codec.name)

    def payload(self, event: Event) -> bytes:
        """Return the payload of an event.

        Raises:
            InvalidArgument: It has no form on the wire, or a field is not of its type: what
                is published can be read.
        """
        try:
            data = self._encode(event)
        except ENCODE_ERRORS as error:
            raise InvalidArgument(f"{self.facts.name}: {error}") from error
        self._check(data)
        return data

    def headers(
        self, id_: str, source: str, more: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the header fields of an event that happens now.

        Args:
            id_: Its id.
            source: The service that publishes it; "" for none.
            more: Other headers, such as the trace's.
        """
        own = {CE_ID: id_, CE_SOURCE: f"/{source}", CE_TIME: _now()}
        return {**self._fixed, **own, **(more or {})}

    def block(
        self, id_: str, source: str, more: Mapping[str, str] | None = None
    ) -> bytes:
        """Return `headers` as a header block.

        Hot path: all but `more` is known to be fit for a header.
        """
        own = f"{CE_ID}: {id_}\r\n{CE_SOURCE}: /{source}\r\n{CE_TIME}: {_now()}\r\n\r\n"
        block = self._block + own.encode()
        return joined_headers(block, encode_headers(more)) if more else block


# The second that was asked for last, and its text with a place for microseconds.
_second = 0
_form = ""


def _now() -> str:
    """Return the time, in RFC 3339 with microseconds."""
    global _second, _form
    micros = time.time_ns() // 1000
    second = micros // 1_000_000
    if second != _second:
        text = datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")
        _second, _form = second, f"{text}.%06dZ"
    return _form % (micros % 1_000_000)


class Reader:
    """Makes events of messages: for one class, or for several told apart by their type.

    Fields that a class does not know are ignored, missing ones take their default, and an
    event of an earlier version is brought up by the class's upcasts.

    Args:
        classes: The classes.

    Raises:
        TypeError: Two of them have one name.
    """

    def __init__(self, *classes: type[Event]) -> None:
        self.facts: dict[str, Facts] = {}
        for cls in classes:
            facts = facts_of(cls)
            if facts.name in self.facts:
                raise TypeError(
                    f"{self.facts[facts.name].cls.__name__} and {cls.__name__} are both"
                    f" events named {facts.name!r}"
                )
            self.facts[facts.name] = facts
        self._only = next(iter(self.facts.values())) if len(classes) == 1 else None
        # By the bytes of their type, those that JSON is all that there is to.
        self._plain = {
            name.encode(): JSON.decoder(facts.cls)
            for name, facts in self.facts.items()
            if not facts.upcasts
        }
        # What the headers of the last plain one began with, up to both that say how it is
        # read, and its decoder; of one publisher's they all begin so.
        self._begins = b"\n"  # which no block does
        self._decode: Callable[[bytes], Any] = _nothing

    def decode(self, ctx: Context, message: Message) -> Event:
        """Return the event in a message, as `read`; a turn's `decode`.

        Hot path: of headers that begin as those before, no more is looked at.
        """
        if not message.header_block.startswith(self._begins) and not self._learn(
            message.header_block
        ):
            return self.read(message.headers, message.data)
        try:
            return self._decode(message.data)  # type: ignore[no-any-return]
        except DECODE_ERRORS as error:
            raise translate(error, JSON.name) from error

    def _learn(self, block: bytes) -> bool:
        """Note how headers begin that tell of a plain event in JSON; False for others."""
        name, json = block.find(_TYPE), block.find(_IS_JSON)
        if name < 0 or json < 0:
            return False
        start = name + len(_TYPE)
        end = block.find(_LINE, start)
        decode = self._plain.get(block[start:end])
        if decode is None:
            return False
        self._begins = block[: max(end + len(_LINE), json + len(_IS_JSON))]
        self._decode = decode
        return True

    def read(self, headers: Headers, data: bytes) -> Event:
        """Return the event in a message.

        Raises:
            InvalidArgument: It does not fit its class, naming the field; or its type is not
                among those that are read.
        """
        named = headers.get(CE_TYPE, "")
        facts = self.facts.get(named) or (None if named else self._only)
        if facts is None:
            known = ", ".join(self.facts)
            raise InvalidArgument(
                f"an event of type {named!r} cannot be read; there is {known}",
                field=CE_TYPE,
            )
        said = headers.get(CONTENT_TYPE, "")
        codec = by_content_type(said) if said else sniff(data)
        if facts.upcasts:
            version = version_of(headers)
            if version < facts.version:
                return _brought_up(facts, version, codec, data)
        return _decoder(facts.cls, codec.name)(data)  # type: ignore[no-any-return]


def _brought_up(facts: Facts, version: int, codec: Codec, data: bytes) -> Event:
    """Return an event of an earlier version as one of today's."""
    try:
        fields = codec.decoder(dict[str, Any])(data)
    except DECODE_ERRORS as error:
        raise translate(error, codec.name) from error
    for step in range(version, facts.version):
        if step not in facts.upcasts:
            continue
        try:
            fields = facts.upcasts[step](fields)
        except Exception as error:
            raise InvalidArgument(
                f"{facts.name}: the upcast of version {step} failed:"
                f" {type(error).__name__}: {error}"
            ) from error
    return _decoder(facts.cls, codec.name)(codec.encoder(dict[str, Any])(fields))  # type: ignore[no-any-return]


@functools.cache
def _decoder(cls: type[Event], name: str) -> Callable[[bytes], Any]:
    """Return a decoder of a class in a codec, whose errors name the field."""
    decode = _codec(name).decoder(cls)

    def read(data: bytes) -> Any:
        try:
            return decode(data)
        except DECODE_ERRORS as error:
            raise translate(error, name) from error

    return read


def _nothing(data: bytes) -> Any:
    raise AssertionError("no headers begin with a line break")


def _codec(name: str) -> Codec:
    from kitmsg.codec import MSGPACK

    return MSGPACK if name == MSGPACK.name else JSON
