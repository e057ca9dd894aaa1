"""The endpoints and events on a bus with their schemas, followed as services come and go.

What a gateway builds on: `Directory` knows the instances, this knows what they serve.  An
endpoint is listed when its schema was asked for, which happens once for each hash;
endpoints without one are listed at once.  What a route or a .proto makes of an endpoint is
left to the gateways.

What a peer says is checked before anybody reads it: subjects by `Claims`, schemas by
`kitmsg.schema.live`, and all of them together have a bounded weight.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.auth.allow import Policy, parse_policy
from kitmsg.discovery.claims import Claims, SubjectPolicy
from kitmsg.discovery.conflicts import conflicts
from kitmsg.discovery.directory import Directory
from kitmsg.discovery.events import (
    CatalogEvent,
    announced_events,
    event_conflicts,
    merge_events,
)
from kitmsg.discovery.subject import age
from kitmsg.errors import KitError
from kitmsg.message import check_name, check_subject, printable
from kitmsg.schema.live import weigh, why_unread
from kitmsg.wire import Meta, schema_subject, schemas_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.bus import Bus
    from kitmsg.discovery.subject import EndpointInfo, ServiceInfo

__all__ = ["Catalog", "CatalogEndpoint"]

_log = logging.getLogger("kitmsg.discovery")

_FETCH_SECONDS: Final = 2.0
_START_SECONDS: Final = 5.0  # for the schemas of those who are there at the start
_RETRY_SECONDS: Final = 2.0
_MAX_SCHEMAS: Final = 1024  # those that left stay so long, as most come back
_MAX_WEIGHT: Final = 2_000_000  # of all schemas together
_FETCHES: Final = 256  # services that are asked for their schemas at once
_MOST_HASHES: Final = 64  # schemas of one service that are asked for one by one
_MOST_REFUSED: Final = 100  # sentences
_SLICE: Final = 32  # services that are listed in one turn of the event loop
_REST: Final = 4  # times as long as an update took, until the next one begins
_LONGEST_REST: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class CatalogEndpoint:
    """One endpoint of one service, as its newest instance describes it.

    Attributes:
        service: Name of its service.
        version: Version of its service.
        name: Its own name; its subject where a service has two of that name.
        subject: Where requests go; checked.
        description: For people.
        metadata: What INFO says beside name and subject, text by name.
        hash: Of its schemas; "" for an endpoint that has none.
        schema: JSON Schemas by part (request, response, errors ...) as its service tells
            them, not checked; None if unknown.
        instances: Ids of those to call, where another class of the service's name and
            version serves `subject` otherwise; none for the queue group.
    """

    service: str
    version: str
    name: str
    subject: str
    description: str
    metadata: dict[str, str]
    hash: str
    schema: dict[str, Any] | None
    instances: tuple[str, ...] = ()

    @cached_property
    def dotted(self) -> str:
        """Its dotted name, ``service.endpoint``: as logs and metrics have it."""
        return f"{self.service}.{self.name}"

    @cached_property
    def is_idempotent(self) -> bool:
        """Whether a second call does no harm."""
        return self.metadata.get(Meta.IDEMPOTENT) == "true"

    @cached_property
    def is_internal(self) -> bool:
        """Whether no gateway may serve it."""
        return self.metadata.get(Meta.INTERNAL) == "true"

    @cached_property
    def timeout(self) -> float | None:
        """Seconds a call may take by default; None if unsaid."""
        return _seconds(self.metadata.get(Meta.TIMEOUT, ""))

    @cached_property
    def is_kit(self) -> bool:
        """Whether a kitmsg service serves it.

        Such a one checks requests itself and answers in the codec it was asked in.
        """
        return bool(self.hash)

    @cached_property
    def wire(self) -> str:
        """``kit`` or ``gokit``."""
        return self.metadata.get(Meta.WIRE, "kit")

    @cached_property
    def http(self) -> str:
        """Declared route, such as ``GET /orders/{id}``; "" for none."""
        return self.metadata.get(Meta.HTTP, "")

    @cached_property
    def allow(self) -> Policy | None:
        """Policy of its callers, as far as it can be told; None where anyone may call."""
        return parse_policy(self.metadata.get(Meta.ALLOW, ""))

    @cached_property
    def stream(self) -> str:
        """``in``, ``out`` or ``both`` for what streams; "" for one answer to one call."""
        return self.metadata.get(Meta.STREAM, "")


class Catalog:
    """Keeps the list of endpoints on a bus.

    Args:
        bus: Where to look.
        interval: Seconds between two rounds of asking who is there; kitmsg services
            announce themselves and are seen at once.
        on_change: Called after `services`, `endpoints` or `events` changed; not between
            their changes.  What it raises is logged.
        policy: Where services may be called on their word.

    Attributes:
        services: One instance of each service, by name; the newest version.
        endpoints: All endpoints, sorted by service and name.
        events: All events, sorted by name.
        refused: Sentences about endpoints that cannot be called.
        conflicts: Sentences about classes that say different things under one name.
        event_conflicts: Sentences about services that define an event differently.
        seniority: Names of the services, those in front that were here first.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        interval: float = 2.0,
        on_change: Callable[[], None] | None = None,
        policy: SubjectPolicy | None = None,
    ) -> None:
        self.services: dict[str, ServiceInfo] = {}
        self.endpoints: list[CatalogEndpoint] = []
        self.events: list[CatalogEvent] = []
        self.refused: list[str] = []
        self.conflicts: list[str] = []
        self.event_conflicts: list[str] = []
        self.seniority: list[str] = []
        self._bus = bus
        self._on_change = on_change
        self._directory = Directory(bus, interval=interval, on_change=self._notice)
        self._schemas: dict[str, dict[str, Any]] = {}
        self._weights: dict[str, int] = {}
        self._unread: dict[str, str] = {}  # why, by hash
        self._claims = Claims(policy or SubjectPolicy())
        self._slots = asyncio.Semaphore(_FETCHES)
        self._asked: set[str] = set()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._is_stale = False

    @property
    def is_ready(self) -> bool:
        """Whether everybody was asked once, and the bus answered."""
        return self._directory.has_heard

    async def start(self) -> None:
        """Look who is there, ask for their schemas, and go on watching until `stop`."""
        self._unwatch = self._bus.watch(self._on_bus)
        await self._directory.start()
        self._fetch_missing()
        if self._fetching:
            await asyncio.wait(self._fetching.values(), timeout=_START_SECONDS)
        await self._update()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Watch no more; what is listed stays."""
        if self._unwatch is not None:
            self._unwatch()
        tasks = [*self._fetching.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._directory.stop()

    def _notice(self) -> None:
        self._changed.set()

    def _on_bus(self, is_connected: bool) -> None:
        self._is_stale = is_connected
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._is_stale:  # what was said while we could not hear is lost
                self._is_stale = False
                await self._directory.refresh()
            self._fetch_missing()
            began = asyncio.get_running_loop().time()
            await self._update()
            # So that a bus where much changes leaves most of the time to calls.
            took = asyncio.get_running_loop().time() - began
            await asyncio.sleep(min(_LONGEST_REST, _REST * took))

    async def _update(self) -> None:
        """List what is known now, and tell of it if it is something new."""
        before = self.services, self.endpoints, self.events, self.refused
        self._note_conflicts()
        services, endpoints, self.refused = await self._build()
        self.services, self.endpoints = services, endpoints
        self.events = self._merged_events()
        if len(self._schemas) > _MAX_SCHEMAS:
            self._forget()
        after = self.services, self.endpoints, self.events, self.refused
        if self._on_change is None or after == before:
            return
        try:
            self._on_change()
        except Exception:  # noqa: BLE001  # logged; the next change comes anyway
            _log.exception("a change of what is on the bus could not be followed")

    def _note_conflicts(self) -> None:
        instances = self._directory.instances
        found = list(conflicts(instances).values())
        of_events = event_conflicts(instances)[:_MOST_REFUSED]
        for sentence in {*found, *of_events}.difference(
            self.conflicts, self.event_conflicts
        ):
            _log.warning("%s", sentence)
        self.conflicts, self.event_conflicts = found, of_events

    def _merged_events(self) -> list[CatalogEvent]:
        by_name: dict[str, list[ServiceInfo]] = {}
        for info in sorted(self._directory.instances, key=age):
            by_name.setdefault(info.name, []).append(info)
        services = [by_name[name] for name in self.seniority if name in by_name]
        return merge_events(services, self._schemas, self._asked)

    def _forget(self) -> None:
        """Drop the schemas that no instance shows: services change for years."""
        shown = {hash_ for info in self._directory.instances for hash_ in _hashes(info)}
        self._schemas = {h: schema for h, schema in self._schemas.items() if h in shown}
        self._weights = {h: n for h, n in self._weights.items() if h in shown}
        self._asked &= shown

    def _fetch_missing(self) -> None:
        missing = {
            info.name: None
            for info in self._directory.instances
            if not _hashes(info) <= self._schemas.keys()
        }
        for service in missing:
            if service not in self._fetching:
                self._fetching[service] = asyncio.create_task(self._fetch(service))

    async def _fetch(self, service: str) -> None:
        """Ask a service for its schemas; those it lacks are asked for by hash."""
        wanted = self._wanted(service)
        try:
            if wanted <= self._asked:  # it did not say last time
                await asyncio.sleep(_RETRY_SECONDS)
            async with self._slots:
                await self._ask(service, schemas_subject(service))
                missing = sorted(self._wanted(service))[:_MOST_HASHES]
                subjects = [schema_subject(service, hash_) for hash_ in missing]
                asks = (self._ask(service, subject) for subject in subjects)
                await asyncio.gather(*asks)
        finally:
            self._asked |= wanted
            del self._fetching[service]
            self._changed.set()

    def _wanted(self, service: str) -> set[str]:
        hashes = {
            hash_
            for info in self._directory.instances
            if info.name == service
            for hash_ in _hashes(info)
        }
        return hashes - self._schemas.keys()

    async def _ask(self, service: str, subject: str) -> None:
        try:
            check_subject(subject)
            reply = await self._bus.request(subject, b"", _FETCH_SECONDS)
            found = msgspec.json.decode(reply.data)
        except (KitError, msgspec.DecodeError) as exc:
            _log.debug("no schema from %s: %s", subject, exc)
            return
        if not isinstance(found, dict):
            return
        wanted = self._wanted(service)
        for schema in found.values() if "hash" not in found else (found,):
            hash_ = schema.get("hash") if isinstance(schema, dict) else None
            if isinstance(hash_, str) and hash_ in wanted:
                self._believe(service, hash_, schema)
                await asyncio.sleep(0)

    def _believe(self, service: str, hash_: str, schema: dict[str, Any]) -> None:
        """Keep a schema, if it is what its hash says and there is room for it."""
        problem = why_unread(schema, hash_)
        if not problem:
            weight = weigh(schema)
            if sum(self._weights.values()) + weight <= _MAX_WEIGHT:
                self._weights[hash_] = weight
                self._schemas.setdefault(hash_, schema)
                return
            problem = "the schemas of all services together are too large"
        if self._unread.get(hash_) != problem:
            if len(self._unread) >= _MAX_SCHEMAS:
                self._unread.clear()
            self._unread[hash_] = problem
            text = "%s: the schema %s is not read, so whatever has it counts as one without: %s"
            _log.warning(text, service, printable(hash_), problem)

    async def _build(
        self,
    ) -> tuple[dict[str, ServiceInfo], list[CatalogEndpoint], list[str]]:
        """Return what is known now, made in slices: calls go on meanwhile."""
        instances = sorted(
            (info for info in self._directory.instances if _is_named(info.name)),
            key=lambda info: (info.name, *age(info)),
        )
        by_name: dict[str, list[ServiceInfo]] = {}
        for info in instances:
            by_name.setdefault(info.name, []).append(info)
        endpoints: list[CatalogEndpoint] = []
        refused: dict[str, None] = {}
        self._claims.settle(list(by_name), asyncio.get_running_loop().time())
        self.seniority = self._claims.seniority(by_name)
        for at, name in enumerate(self.seniority):
            endpoints += self._endpoints(by_name[name], refused)
            if at % _SLICE == _SLICE - 1:
                await asyncio.sleep(0)
        endpoints.sort(key=lambda endpoint: (endpoint.service, endpoint.name))
        services = {name: several[-1] for name, several in by_name.items()}
        return services, endpoints, _shortened(list(refused))

    def _endpoints(
        self, instances: list[ServiceInfo], refused: dict[str, None]
    ) -> list[CatalogEndpoint]:
        """Return the endpoints of one service; the newest instance has the last word."""
        found: dict[str, tuple[ServiceInfo, EndpointInfo]] = {}
        for info in instances:
            for endpoint in info.endpoints:
                # Until the schema of a newer one is known, the older one stays.
                if not self._is_known(_hash(endpoint)):
                    continue
                problem = self._claims.take(
                    info.name, endpoint.subject, asyncio.get_running_loop().time()
                )
                if problem:
                    name = f"{info.name}.{endpoint.name}"
                    refused[f"{name} is not listed: {problem}"] = None
                    continue
                found[endpoint.subject] = info, endpoint
        return self._listed(found.values(), instances)

    def _is_known(self, hash_: str) -> bool:
        return not hash_ or hash_ in self._schemas or hash_ in self._asked

    def _listed(
        self,
        found: Iterable[tuple[ServiceInfo, EndpointInfo]],
        instances: list[ServiceInfo],
    ) -> list[CatalogEndpoint]:
        found = list(found)
        names = [endpoint.name for _, endpoint in found]
        listed = []
        for info, endpoint in found:
            metadata = endpoint.metadata or {}
            is_only = names.count(endpoint.name) == 1
            listed.append(
                CatalogEndpoint(
                    service=info.name,
                    version=info.version,
                    name=endpoint.name if is_only else endpoint.subject,
                    subject=endpoint.subject,
                    description=metadata.get("description", ""),
                    metadata=metadata,
                    hash=_hash(endpoint),
                    schema=self._schemas.get(_hash(endpoint)),
                    instances=_chosen(info, endpoint, instances),
                )
            )
        return sorted(listed, key=lambda endpoint: endpoint.name)


def _shortened(sentences: list[str]) -> list[str]:
    """Return sentences, not endlessly many."""
    more = len(sentences) - _MOST_REFUSED
    if more <= 0:
        return sentences
    return [*sentences[:_MOST_REFUSED], f"{more} more endpoints are not listed"]


def _chosen(
    shown: ServiceInfo, endpoint: EndpointInfo, instances: list[ServiceInfo]
) -> tuple[str, ...]:
    """Return the ids of the instances that serve `endpoint` as it is shown.

    None where all of its version do, or it has no schema to tell by.
    """
    wanted = _hash(endpoint)
    hashes = [
        (info, _hash(each))
        for info in instances
        for each in info.endpoints
        if each.subject == endpoint.subject
    ]
    is_clash = wanted and any(
        other and other != wanted and info.version == shown.version
        for info, other in hashes
    )
    return tuple(info.id for info, same in hashes if is_clash and same == wanted)


def _hash(endpoint: EndpointInfo) -> str:
    return (endpoint.metadata or {}).get(Meta.SCHEMA, "")


def _hashes(info: ServiceInfo) -> set[str]:
    """Return the hashes of all schemas that an instance has."""
    events = {event.schema for event in announced_events(info)}
    return events | {_hash(endpoint) for endpoint in info.endpoints} - {""}


def _is_named(name: str) -> bool:
    try:
        check_name(name, "a service")
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
