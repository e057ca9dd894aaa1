"""Discovery by subject: the ``$SRV`` protocol of NATS micro services.

Source: NATS ADR-32, "Service API"; the stricter rules are those of the schemas that the
``nats micro`` commands check replies with: text is never null, metadata is a map of
strings, times are whole nanoseconds.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from kitmsg.errors import (
    BusDenied,
    DeadlineExceeded,
    InvalidArgument,
    KitError,
    NoResponders,
)
from kitmsg.message import Message, all_printable, check_name, check_subject
from kitmsg.wire import SRV

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus, Subscription

__all__ = [
    "EndpointInfo",
    "EndpointReport",
    "Ping",
    "Responder",
    "ServiceInfo",
    "ServiceReport",
    "age",
    "ask_many",
    "check_version",
    "find_services",
    "find_stats",
    "is_there",
    "ping_services",
    "read_info",
]

MAX_REPLY_BYTES: Final = 512 << 10
"""Longest answer to PING, INFO or STATS that is read."""

_MOST_REPLIES: Final = 20_000
_MOST_BYTES: Final = 64 << 20
_SLICE: Final = 64  # replies that are read in one turn of the event loop
_PING_SECONDS: Final = 1.0

_TYPE: Final = "io.nats.micro.v1.{}_response"

# semver.org, "Is there a suggested regular expression", without the group names.
_NUMBER = r"(?:0|[1-9]\d*)"
_LABEL = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_LABEL}(?:\.{_LABEL})*)?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)


_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(-?)")


class EndpointInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint in the answer to INFO."""

    name: str
    subject: str
    queue_group: str = ""
    metadata: dict[str, str] | None = {}


class ServiceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One instance of a service, as its INFO describes it.

    Attributes:
        name: The service's name.
        id: Unique for each instance.
        version: Semantic version.
        description: One line for people.
        endpoints: What it serves.
        metadata: Text by name.
        type: The reply's type in the protocol.
    """

    name: str
    id: str
    version: str
    description: str = ""
    endpoints: list[EndpointInfo] = []
    metadata: dict[str, str] | None = {}
    type: str = _TYPE.format("info")


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint in the answer to STATS; times in nanoseconds."""

    name: str
    subject: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int
    queue_group: str = ""
    data: dict[str, object] = {}


class ServiceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one instance; `started` is RFC 3339 in UTC."""

    name: str
    id: str
    version: str
    started: str
    endpoints: list[EndpointReport]
    metadata: dict[str, str] | None = {}
    type: str = _TYPE.format("stats")


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """The least that an instance says of itself."""

    name: str
    id: str
    version: str
    metadata: dict[str, str] | None = {}
    type: str = _TYPE.format("ping")


def check_version(version: str, owner: str) -> str:
    """Return `version` if it is a semantic version.

    Raises:
        ValueError: It is not; `owner` says whose it is.
    """
    if not _SEMVER.fullmatch(version):
        raise ValueError(
            f"{owner}: version {version!r} is not semantic, such as '1.4.0'"
        )
    return version


def age(info: ServiceInfo) -> tuple[tuple[int, ...], bool, str]:
    """Return what sorts instances from the oldest version to the newest."""
    matched = _NUMBERS.match(info.version)
    if matched is None:
        return (), False, info.id
    numbers = tuple(int(part[:9]) for part in matched.groups()[:3])
    return numbers, not matched[4], info.id


class Responder:
    """Answers PING, INFO and STATS for one instance.

    It answers from the bus's own callback, beside the mailbox, so a full service still
    shows itself.

    Args:
        bus: What carries the messages.
        info: What the instance is.
        report: Makes the reading of its counters.
    """

    def __init__(
        self, bus: Bus, info: ServiceInfo, report: Callable[[], ServiceReport]
    ) -> None:
        self.info = info
        self._bus = bus
        self._report = report
        self._subscriptions: list[Subscription] = []

    def start(self) -> None:
        """Subscribe to the nine control subjects."""
        info = self.info
        check_name(info.name, "a service")
        encode = msgspec.json.encode
        ping = encode(
            Ping(
                name=info.name, id=info.id, version=info.version, metadata=info.metadata
            )
        )
        known = encode(info)
        self._answer("PING", lambda: ping)
        self._answer("INFO", lambda: known)
        self._answer("STATS", lambda: encode(self._report()))

    def stop(self) -> None:
        """Answer no more."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()
        self._subscriptions.clear()

    def _answer(self, verb: str, body: Callable[[], bytes]) -> None:
        def reply(message: Message) -> None:
            if message.reply and self._bus.inboxes.takes(message.reply):
                self._bus.publish(message.reply, body())

        base = f"{SRV}.{verb}"
        name, id_ = self.info.name, self.info.id
        for subject in (base, f"{base}.{name}", f"{base}.{name}.{id_}"):
            self._subscriptions.append(self._bus.subscribe(subject, reply))


async def ask_many(
    bus: Bus,
    subject: str,
    data: bytes = b"",
    *,
    timeout: float = 1.0,
    stall: float = 0.1,
) -> list[Message]:
    """Ask everybody on `subject` and collect the replies (NATS ADR-47).

    Args:
        bus: What carries the messages.
        subject: Where everybody listens.
        data: The payload.
        timeout: Longest wait in all, in seconds.
        stall: Longest silence after a reply, in seconds.

    Returns:
        The replies, 20,000 and 64 MB of them at most; none if nobody listens.

    Raises:
        Disconnected: There is no connection.
    """
    replies: list[Message] = []
    got = asyncio.Event()
    left = _MOST_BYTES

    def take(message: Message) -> None:
        nonlocal left
        left -= len(message.data)
        if left >= 0 and len(replies) < _MOST_REPLIES:
            replies.append(message)
        got.set()

    inbox = f"{bus.inbox}m.{secrets.token_urlsafe(9)}"
    subscription = bus.subscribe(inbox, take)
    try:
        bus.publish(subject, data, inbox)
        await _until_quiet(got, replies, timeout, stall)
    finally:
        subscription.unsubscribe()
    return [reply for reply in replies if not reply.status]


async def _until_quiet(
    got: asyncio.Event, replies: list[Message], timeout: float, stall: float
) -> None:
    try:
        async with asyncio.timeout(timeout):
            await got.wait()
            while not (replies and replies[-1].status):
                got.clear()
                await asyncio.wait_for(got.wait(), stall)
    except TimeoutError:
        return


async def find_services(
    bus: Bus, name: str = "", *, timeout: float = 1.0, stall: float = 0.1
) -> list[ServiceInfo]:
    """Return the instances on the bus, of any service that speaks ``$SRV``.

    Args:
        bus: What carries the messages.
        name: Only instances of this service; "" for all.
        timeout: As in `ask_many`.
        stall: As in `ask_many`.
    """
    return await _find(bus, "INFO", name, ServiceInfo, timeout, stall)


async def find_stats(
    bus: Bus, name: str = "", *, timeout: float = 1.0, stall: float = 0.1
) -> list[ServiceReport]:
    """Return the counters of the instances on the bus; arguments as `find_services`."""
    return await _find(bus, "STATS", name, ServiceReport, timeout, stall)


async def ping_services(
    bus: Bus, name: str = "", *, timeout: float = 1.0, stall: float = 0.1
) -> list[Ping]:
    """Return who answers a PING; arguments as `find_services`."""
    return await _find(bus, "PING", name, Ping, timeout, stall)


async def is_there(bus: Bus, info: ServiceInfo) -> bool:
    """Tell whether an instance answers a PING of its own, within a second.

    While the bus is out of reach nothing is known, so it counts as there.
    """
    subject = f"{SRV}.PING.{info.name}.{info.id}"
    try:
        check_subject(subject)
        await bus.request(subject, b"", _PING_SECONDS)
    except (NoResponders, DeadlineExceeded, BusDenied, InvalidArgument):
        return False
    except KitError:
        return True
    return True


R = TypeVar("R", ServiceInfo, ServiceReport, Ping)


async def _find(
    bus: Bus, verb: str, name: str, type_: type[R], timeout: float, stall: float
) -> list[R]:
    subject = f"{SRV}.{verb}.{name}" if name else f"{SRV}.{verb}"
    decoder = msgspec.json.Decoder(type_)
    found: list[R] = []
    replies = await ask_many(bus, subject, timeout=timeout, stall=stall)
    for at, reply in enumerate(replies):
        if at % _SLICE == _SLICE - 1:
            await asyncio.sleep(0)
        try:
            found.append(_read(decoder, reply.data))
        except msgspec.DecodeError:
            continue  # not a service we can read; it harms nobody else
    return sorted(found, key=lambda service: (service.name, service.id))


def _read(decoder: msgspec.json.Decoder[R], data: bytes) -> R:
    """Return a reply; a null is taken as "not said", as some clients write it.

    Its texts have no control characters: they are shown in logs, lists and pages.
    """
    if len(data) > MAX_REPLY_BYTES:
        raise msgspec.DecodeError(f"a reply of {len(data)} bytes is not read")
    try:
        found = decoder.decode(data)
    except msgspec.ValidationError:
        said = _without_nulls(msgspec.json.decode(data))
        found = msgspec.convert(said, decoder.type)
    # In JSON, a control character is escaped, or is one of those beyond ASCII.
    if b"\\" in data or not data.isascii():
        return msgspec.convert(all_printable(msgspec.to_builtins(found)), decoder.type)
    return found


def read_info(data: bytes) -> ServiceInfo:
    """Return what an INFO reply says.

    Raises:
        msgspec.DecodeError: It is none.
    """
    return _read(_info, data)


_info: Final = msgspec.json.Decoder(ServiceInfo)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list) else value
