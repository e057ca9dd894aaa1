"""The endpoints on a bus with their schemas, followed as services come and go.

What a gateway builds on: `Directory` knows the instances, this knows what they serve.  An
endpoint is listed when its schema was asked for, which happens once for each hash;
endpoints without one are listed at once.  What a route or a .proto makes of an endpoint is
left to the gateways.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.auth.allow import Policy, parse_policy
from kitmsg.discovery.conflicts import conflicts
from kitmsg.discovery.directory import Directory
from kitmsg.errors import KitError
from kitmsg.message import check_name, check_subject
from kitmsg.wire import Meta, schema_subject, schemas_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.bus import Bus
    from kitmsg.discovery.subject import EndpointInfo, ServiceInfo

__all__ = ["Catalog", "CatalogEndpoint"]

_log = logging.getLogger("kitmsg.discovery")

_FETCH_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 2.0
_MAX_SCHEMAS: Final = 1024  # those that left stay so long, as most come back
_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(-?)")


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
        on_change: Called after `services` or `endpoints` changed; not between their
            changes.  What it raises is logged.

    Attributes:
        services: One instance of each service, by name; the newest version.
        endpoints: All endpoints, sorted by service and name.
        refused: Sentences about endpoints that cannot be called.
        conflicts: Sentences about classes that say different things under one name.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        interval: float = 2.0,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        self.services: dict[str, ServiceInfo] = {}
        self.endpoints: list[CatalogEndpoint] = []
        self.refused: list[str] = []
        self.conflicts: list[str] = []
        self._bus = bus
        self._on_change = on_change
        self._directory = Directory(bus, interval=interval, on_change=self._notice)
        self._schemas: dict[str, dict[str, Any]] = {}
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
        await asyncio.gather(*self._fetching.values())
        self._update()
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
            self._update()

    def _update(self) -> None:
        """List what is known now, and tell of it if it is something new."""
        before = self.services, self.endpoints, self.refused
        self._note_conflicts()
        self.services, self.endpoints, self.refused = self._build()
        if len(self._schemas) > _MAX_SCHEMAS:
            self._forget()
        after = self.services, self.endpoints, self.refused
        if self._on_change is None or after == before:
            return
        try:
            self._on_change()
        except Exception:  # noqa: BLE001  # logged; the next change comes anyway
            _log.exception("a change of what is on the bus could not be followed")

    def _note_conflicts(self) -> None:
        found = list(conflicts(self._directory.instances).values())
        for sentence in found:
            if sentence not in self.conflicts:
                _log.warning("%s", sentence)
        self.conflicts = found

    def _forget(self) -> None:
        """Drop the schemas that no instance shows: services change for years."""
        shown = {
            _hash(endpoint)
            for info in self._directory.instances
            for endpoint in info.endpoints
        }
        self._schemas = {h: schema for h, schema in self._schemas.items() if h in shown}
        self._asked &= shown

    def _fetch_missing(self) -> None:
        missing = {
            info.name: None
            for info in self._directory.instances
            for endpoint in info.endpoints
            if _hash(endpoint) and _hash(endpoint) not in self._schemas
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
            await self._ask(schemas_subject(service))
            await asyncio.gather(
                *(
                    self._ask(schema_subject(service, hash_))
                    for hash_ in self._wanted(service)
                )
            )
        finally:
            self._asked |= wanted
            del self._fetching[service]
            self._changed.set()

    def _wanted(self, service: str) -> set[str]:
        hashes = {
            _hash(endpoint)
            for info in self._directory.instances
            if info.name == service
            for endpoint in info.endpoints
        }
        return hashes - {"", *self._schemas}

    async def _ask(self, subject: str) -> None:
        try:
            check_subject(subject)
            reply = await self._bus.request(subject, b"", _FETCH_SECONDS)
            found = msgspec.json.decode(reply.data)
        except (KitError, msgspec.DecodeError) as exc:
            _log.debug("no schema from %s: %s", subject, exc)
            return
        if not isinstance(found, dict):
            return
        for schema in found.values() if "hash" not in found else (found,):
            hash_ = schema.get("hash") if isinstance(schema, dict) else None
            if isinstance(hash_, str):
                self._schemas.setdefault(hash_, schema)

    def _build(
        self,
    ) -> tuple[dict[str, ServiceInfo], list[CatalogEndpoint], list[str]]:
        instances = sorted(
            (info for info in self._directory.instances if _is_named(info.name)),
            key=lambda info: (info.name, *_age(info)),
        )
        by_name: dict[str, list[ServiceInfo]] = {}
        for info in instances:
            by_name.setdefault(info.name, []).append(info)
        endpoints: list[CatalogEndpoint] = []
        refused: dict[str, None] = {}
        for several in by_name.values():
            endpoints += self._endpoints(several, refused)
        services = {name: several[-1] for name, several in by_name.items()}
        return services, endpoints, list(refused)

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
                try:
                    check_subject(endpoint.subject)
                except (KitError, ValueError) as exc:
                    refused[f"{info.name}.{endpoint.name} is not listed: {exc}"] = None
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


def _is_named(name: str) -> bool:
    try:
        check_name(name, "a service")
    except ValueError:
        return False
    return True


def _age(info: ServiceInfo) -> tuple[tuple[int, ...], bool, str]:
    """Return what sorts instances from the oldest version to the newest."""
    matched = _NUMBERS.match(info.version)
    if matched is None:
        return (), False, info.id
    numbers = tuple(int(part[:9]) for part in matched.groups()[:3])
    return numbers, not matched[4], info.id


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
