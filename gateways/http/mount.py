"""The services on a bus as mounted endpoints, followed as they come and go.

A table is built anew after each change: an endpoint is mounted when its schema was asked
for, which happens once for each hash.  Services without schemas are mounted at once.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateways.http.components import Components
from gateways.http.problem import Problem
from gateways.http.request import Parameters
from gateways.http.router import Route, Router, parse_route
from kitmsg.discovery.directory import Directory
from kitmsg.errors import KitError
from kitmsg.message import check_name, check_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.bus import Bus
    from kitmsg.discovery.subject import EndpointInfo, ServiceInfo

__all__ = ["Mounted", "Mounts", "Table"]

_log = logging.getLogger("gateways.http")

_FETCH_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 2.0
_REMEMBERED: Final = 16
_REMEMBERED_SECONDS: Final = 10.0
_SCHEMA: Final = "_kit.schema"
_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)\.(\d+)(-?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """One endpoint, as the gateway serves it.

    Attributes:
        service: Name of its service.
        version: Version of its service.
        name: Its own name; with its subject where a service has two of that name.
        subject: Where requests go.
        description: For people.
        http: Declared route; "" for none.
        is_idempotent: Whether a second call does no harm.
        timeout: Seconds a call may take by default; None if unsaid.
        is_kit: Whether a kitmsg service serves it, which checks requests itself and
            answers in the codec it was asked in.
        wire: ``kit`` or ``gokit``.
        schema: JSON Schemas: request, response, errors; None if unknown.
        parameters: How path and query are read.
    """

    service: str
    version: str
    name: str
    subject: str
    description: str
    http: str
    is_idempotent: bool
    timeout: float | None
    is_kit: bool
    wire: str
    schema: dict[str, Any] | None
    parameters: Parameters

    @property
    def path(self) -> str:
        """Where it is served whatever it declares."""
        return f"/{self.service}/{self.name}"


@dataclass(slots=True)
class Table:
    """What is mounted at one time.

    Attributes:
        services: One instance of each service, by name; the newest version.
        endpoints: All endpoints, sorted by service and name.
        router: Their routes.
        conflicts: Sentences about routes that could not be mounted.
    """

    services: dict[str, ServiceInfo] = field(default_factory=dict)
    endpoints: list[Mounted] = field(default_factory=list)
    router: Router[Mounted] = field(default_factory=Router)
    conflicts: list[str] = field(default_factory=list)


class Mounts:
    """Keeps a `Table` of what is on the bus.

    Args:
        bus: Where to look.
        reserved: Paths that belong to the gateway.
        interval: Seconds between two rounds of asking who is there.
    """

    def __init__(self, bus: Bus, reserved: Iterable[str], interval: float) -> None:
        self.table = Table()
        self.is_ready = False
        self._bus = bus
        self._reserved = frozenset(reserved)
        self._directory = Directory(bus, interval=interval, on_change=self._notice)
        self._schemas: dict[str, dict[str, Any]] = {}
        self._parameters: dict[str, Parameters] = {}
        self._asked: set[str] = set()
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._told: set[str] = set()
        self._former: deque[tuple[float, Table]] = deque(maxlen=_REMEMBERED)
        self._is_stale = False

    async def start(self) -> None:
        """Look who is there, mount them, and go on watching until `stop`."""
        self._unwatch = self._bus.watch(self._on_bus)
        await self._directory.start()
        self.is_ready = self._bus.is_connected
        self._mount()
        await asyncio.gather(*self._fetching.values())
        self._mount()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Watch no more; what is mounted stays."""
        if self._unwatch is not None:
            self._unwatch()
        tasks = [*self._fetching.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._directory.stop()

    def left(self, method: str, raw_path: str) -> str:
        """Return the service that has just gone and took such requests; "" for none.

        So that the moment between two lives of a service is no 404.
        """
        now = asyncio.get_running_loop().time()
        for when, table in reversed(self._former):
            if now - when > _REMEMBERED_SECONDS:
                break
            try:
                service = table.router.match(method, raw_path).route.target.service
            except Problem:
                continue
            if service not in self.table.services:
                return service
        return ""

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
                self.is_ready = self.is_ready or self._bus.is_connected
            try:
                self._mount()
            except Exception:  # noqa: BLE001  # logged; the next change comes anyway
                _log.exception("what is on the bus could not be mounted")

    def _mount(self) -> None:
        """Mount what is known, and ask for the schemas that are missing."""
        before, self.table = self.table, self._build()
        if not before.services.keys() <= self.table.services.keys():
            self._former.append((asyncio.get_running_loop().time(), before))
        for service in self._missing():
            if service not in self._fetching:
                self._fetching[service] = asyncio.create_task(self._fetch(service))
        for conflict in self.table.conflicts:
            if conflict not in self._told:
                _log.warning("%s", conflict)
        self._told = set(self.table.conflicts)

    def _missing(self) -> dict[str, None]:
        """Return the services with a schema that is not known."""
        return {
            info.name: None
            for info in self._directory.instances
            for endpoint in info.endpoints
            if _hash(endpoint) and _hash(endpoint) not in self._schemas
        }

    async def _fetch(self, service: str) -> None:
        """Ask a service for its schemas; those it lacks are asked for by hash."""
        wanted = self._wanted(service)
        try:
            if wanted <= self._asked:  # it did not say last time
                await asyncio.sleep(_RETRY_SECONDS)
            await self._ask(f"{service}._schema")
            await asyncio.gather(
                *(self._ask(f"{_SCHEMA}.{hash_}") for hash_ in self._wanted(service))
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
            self._keep(subject, schema)

    def _keep(self, subject: str, schema: Any) -> None:
        """Keep a schema, if it can be read: a service may say what it likes."""
        hash_ = schema.get("hash") if isinstance(schema, dict) else None
        if not isinstance(hash_, str) or hash_ in self._schemas:
            return
        try:
            parameters = Parameters(schema.get("request"))
            Components([("x", schema)])
        except (TypeError, ValueError, AttributeError, RecursionError) as exc:
            _log.warning("%s has a schema that cannot be read: %s", subject, exc)
            parameters, schema = Parameters(None), {}
        self._parameters[hash_] = parameters
        self._schemas[hash_] = schema

    def _build(self) -> Table:
        table = Table()
        instances = [i for i in self._directory.instances if _is_named(i.name)]
        for info in sorted(instances, key=lambda info: (info.name, *_age(info))):
            table.services[info.name] = info
        for name in table.services:
            table.endpoints += self._endpoints(
                sorted((i for i in instances if i.name == name), key=_age)
            )
        for endpoint in table.endpoints:  # so `POST /service/endpoint` always works
            self._add(table, f"POST {endpoint.path}", endpoint)
        for endpoint in table.endpoints:
            if endpoint.http and endpoint.http != f"POST {endpoint.path}":
                self._add(table, endpoint.http, endpoint)
        return table

    def _endpoints(self, instances: list[ServiceInfo]) -> list[Mounted]:
        """Return the endpoints of one service; the newest instance has the last word."""
        found: dict[str, tuple[ServiceInfo, EndpointInfo]] = {}
        for info in instances:
            for endpoint in info.endpoints:
                # Until the schema of a newer one is known, the older one stays.
                if self._is_known(_hash(endpoint)):
                    found[endpoint.subject] = info, endpoint
        names = [endpoint.name for _, endpoint in found.values()]
        mounted = [
            self._mounted(info, endpoint, names.count(endpoint.name) == 1)
            for info, endpoint in found.values()
        ]
        return sorted(mounted, key=lambda endpoint: endpoint.name)

    def _is_known(self, hash_: str) -> bool:
        return not hash_ or hash_ in self._schemas or hash_ in self._asked

    def _mounted(
        self, info: ServiceInfo, endpoint: EndpointInfo, is_only: bool
    ) -> Mounted:
        metadata = endpoint.metadata or {}
        hash_ = _hash(endpoint)
        schema = self._schemas.get(hash_)
        return Mounted(
            service=info.name,
            version=info.version,
            name=endpoint.name if is_only else endpoint.subject,
            subject=endpoint.subject,
            description=metadata.get("description", ""),
            http=metadata.get("kit.http", ""),
            is_idempotent=metadata.get("kit.idempotent") == "true",
            timeout=_seconds(metadata.get("kit.timeout", "")),
            is_kit=bool(hash_),
            wire=metadata.get("kit.wire", "kit"),
            schema=schema,
            parameters=self._parameters.get(hash_) or Parameters(None),
        )

    def _add(self, table: Table, text: str, endpoint: Mounted) -> None:
        """Add a route, or a conflict."""
        owner = f"{endpoint.service}.{endpoint.name}"
        try:
            check_subject(endpoint.subject)
            route: Route[Mounted] = parse_route(text, endpoint)
        except (KitError, ValueError) as exc:
            table.conflicts.append(f"{owner} is not mounted: {exc}")
            return
        if route.template in self._reserved:
            table.conflicts.append(
                f"{owner} is not mounted at {text!r}: the path is the gateway's own"
            )
            return
        there = table.router.add(route)
        if there is not None:
            kept = f"{there.target.service}.{there.target.name}"
            table.conflicts.append(
                f"{owner} is not mounted at {text!r}: {kept} has that route"
            )


def _hash(endpoint: EndpointInfo) -> str:
    return (endpoint.metadata or {}).get("kit.schema", "")


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
