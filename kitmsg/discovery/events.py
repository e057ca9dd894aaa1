"""Events that services announce in their INFO: published or subscribed to.

INFO's metadata holds them as a list in JSON, under ``kit.events``; their JSON Schemas are
served where those of endpoints are.  `CatalogEvent` merges the announcements of one event,
`event_conflicts` says where they differ.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from kitmsg.discovery.subject import age
from kitmsg.wire import Meta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.discovery.subject import ServiceInfo

__all__ = [
    "AnnouncedEvent",
    "CatalogEvent",
    "Role",
    "announced_events",
    "event_conflicts",
    "event_text",
    "merge_events",
]

Role: TypeAlias = Literal["publish", "subscribe"]
"""Part of a service in an event."""

MAX_EVENTS: Final = 256
"""Of one instance; those beyond are not read."""

_MAX_BYTES: Final = 128 << 10
_PART: Final = r"(?:[A-Za-z0-9_-]{1,64}|\{[A-Za-z_][A-Za-z0-9_]{0,63}\})"
_SUBJECT: Final = re.compile(rf"(?!\{{){_PART}(?:\.{_PART}){{0,15}}")
_STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH: Final = re.compile(r"[0-9a-f]{16}")


class AnnouncedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The announcement of an event by one service.

    Attributes:
        name: The literal words of its subject.
        version: Of its fields' meaning.
        subject: Its subject with fields in braces, below ``event``.
        stream: The stream that stores it.
        schema: Hash of its JSON Schema.
        role: Whether the service publishes it or subscribes to it.
    """

    name: str
    version: int
    subject: str
    stream: str
    schema: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEvent:
    """One event on the bus, with its publishers and subscribers.

    Its definition is that of a publisher, where one announces it; of several, that of the
    service that was here first.

    Attributes:
        name: The literal words of its subject.
        version: Of its fields' meaning.
        subject: Its subject with fields in braces, below ``event``.
        stream: The stream that stores it.
        hash: Of its JSON Schema.
        schema: Its JSON Schema; None where no service tells it.
        publishers: Names of the services that announce to publish it, sorted.
        subscribers: Names of the services that subscribe to it, sorted.
    """

    name: str
    version: int
    subject: str
    stream: str
    hash: str
    schema: dict[str, Any] | None
    publishers: tuple[str, ...]
    subscribers: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in its subject, in order."""
        return tuple(t[1:-1] for t in self.subject.split(".") if t.startswith("{"))


def event_text(events: Iterable[AnnouncedEvent]) -> str:
    """Return the text of announcements in INFO's metadata; "" for none."""
    found = list(events)
    return msgspec.json.encode(found).decode() if found else ""


def announced_events(info: ServiceInfo) -> tuple[AnnouncedEvent, ...]:
    """Return the events that an instance announces, without those that cannot be."""
    return _read((info.metadata or {}).get(Meta.EVENTS, ""))


@functools.lru_cache(maxsize=4096)
def _read(text: str) -> tuple[AnnouncedEvent, ...]:
    if not text or len(text) > _MAX_BYTES:
        return ()
    try:
        found = msgspec.json.decode(text, type=list[AnnouncedEvent])
    except msgspec.DecodeError:
        return ()
    return tuple(filter(_is_sound, found[:MAX_EVENTS]))


def _is_sound(event: AnnouncedEvent) -> bool:
    """Tell whether an announcement is one of an event that can be defined."""
    tokens = event.subject.split(".")
    fields = [token for token in tokens if token.startswith("{")]
    return bool(
        _SUBJECT.fullmatch(event.subject)
        and event.name == ".".join(t for t in tokens if t not in fields)
        and len(set(fields)) == len(fields)
        and event.version >= 1
        and _STREAM.fullmatch(event.stream)
        and _HASH.fullmatch(event.schema)
    )


def merge_events(
    services: Sequence[Sequence[ServiceInfo]],
    schemas: Mapping[str, dict[str, Any]],
    asked: Iterable[str] = (),
) -> list[CatalogEvent]:
    """Return the events that services announce, sorted by name.

    An event is listed when its schema is known, or was asked for in vain.

    Args:
        services: The instances of each service, the oldest version first; the service that
            was here first in front.
        schemas: Documents by hash.
        asked: Hashes that were asked for.
    """
    tried = {*schemas, *asked}
    by_name: dict[str, list[tuple[str, AnnouncedEvent]]] = {}
    for instances in services:
        # The newest instance has the last word; until its schema is known, an older one.
        latest = {
            (event.name, event.role): event
            for info in instances
            for event in announced_events(info)
            if event.schema in tried
        }
        for event in latest.values():
            by_name.setdefault(event.name, []).append((instances[0].name, event))
    return [_merged(by_name[name], schemas) for name in sorted(by_name)]


def _merged(
    said: list[tuple[str, AnnouncedEvent]], schemas: Mapping[str, dict[str, Any]]
) -> CatalogEvent:
    roles: dict[str, list[tuple[str, AnnouncedEvent]]] = {}
    for service, event in said:
        roles.setdefault(event.role, []).append((service, event))
    _, first = (roles.get("publish") or said)[0]
    document = schemas.get(first.schema)
    return CatalogEvent(
        name=first.name,
        version=first.version,
        subject=first.subject,
        stream=first.stream,
        hash=first.schema,
        schema=None
        if document is None
        else {key: value for key, value in document.items() if key != "hash"},
        publishers=tuple(sorted(name for name, _ in roles.get("publish", ()))),
        subscribers=tuple(sorted(name for name, _ in roles.get("subscribe", ()))),
    )


def event_conflicts(instances: Iterable[ServiceInfo]) -> list[str]:
    """Return a sentence for each event that services define differently.

    Another subject or stream is always a conflict, another schema is one within a version of
    the event.  Instances of one service that differ are a deployment under way, so that the
    newest of each service counts.
    """
    latest: dict[tuple[str, str], dict[str, AnnouncedEvent]] = {}
    for info in sorted(instances, key=age):
        for event in announced_events(info):
            latest.setdefault((event.name, event.role), {})[info.name] = event
    by_name: dict[str, list[tuple[str, AnnouncedEvent]]] = {}
    for (name, _), said in latest.items():
        by_name.setdefault(name, []).extend(said.items())
    return [
        sentence
        for name in sorted(by_name)
        for sentence in _differences(name, by_name[name])
    ]


def _differences(name: str, said: list[tuple[str, AnnouncedEvent]]) -> Iterable[str]:
    for word in ("subject", "stream"):
        kinds = _kinds(said, word)
        if len(kinds) > 1:
            yield (
                f"services give the event {name!r} different {word}s: {_shown(kinds)};"
                " use one class in all of them"
            )
    for version in sorted({event.version for _, event in said}):
        kinds = _kinds([one for one in said if one[1].version == version], "schema")
        if len(kinds) > 1:
            yield (
                f"services give the event {name!r} version {version} different schemas:"
                f" {_shown(kinds)}; use one class in all of them, or give the new one"
                " another version="
            )


def _kinds(
    said: list[tuple[str, AnnouncedEvent]], attribute: str
) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for service, event in said:
        found.setdefault(getattr(event, attribute), set()).add(service)
    return found


def _shown(kinds: Mapping[str, set[str]]) -> str:
    return "; ".join(
        f"{', '.join(sorted(services))} {'have' if len(services) > 1 else 'has'} {value!r}"
        for value, services in sorted(kinds.items())
    )
