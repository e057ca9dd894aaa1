"""The endpoints on a bus as mounted routes, followed as services come and go.

What is there, and with which schemas, the `Catalog` knows; a table of routes is built
anew after each of its changes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections import deque
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
from kitmsg.errors import Code
from kitmsg.wire import Meta
from kitmsg_gateways.http.bind import Parameters
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.jsonrpc import RpcError
from kitmsg_gateways.http.openapi.components import Components
from kitmsg_gateways.http.router import Route, Router, parse_route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.bus import Bus
    from kitmsg.discovery.subject import ServiceInfo

__all__ = ["Mounted", "Mounts", "Table", "has_left"]

_log = logging.getLogger("kitmsg_gateways.http")

_SUCCESS: Final = re.compile(r"20[01237]|208|226")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")
_UNAVAILABLE: Final = 503
_REMEMBERED: Final = 16
_REMEMBERED_SECONDS: Final = 10.0


@dataclass(frozen=True, kw_only=True)
class Mounted(CatalogEndpoint):
    """One endpoint, as the gateway serves it.

    Attributes:
        parameters: How path and query are read.
    """

    parameters: Parameters

    @cached_property
    def cache(self) -> int | None:
        """Seconds for which a client may keep an answer to GET; None if it may not."""
        text = self.metadata.get(Meta.CACHE, "")
        return int(text) if _DIGITS.fullmatch(text) else None

    @cached_property
    def gives_bytes(self) -> bool:
        """Whether its result, or each item of it, is bytes."""
        return _is_bytes(self.schema, "response")

    @cached_property
    def takes_bytes(self) -> bool:
        """Whether the items that it takes are bytes."""
        return _is_bytes(self.schema, "items")

    @cached_property
    def status(self) -> int:
        """HTTP status of a result; one of nothing is 204 if this is 200."""
        text = self.metadata.get(Meta.STATUS, "")
        return int(text) if _SUCCESS.fullmatch(text) else 200

    @cached_property
    def gives_nothing(self) -> bool:
        """Whether the only result is None."""
        return (self.schema or {}).get("response") == {"type": "null"}

    @property
    def path(self) -> str:
        """Where it is served whatever it declares."""
        return f"/{self.service}/{self.name}"

    def declares(self, route: Route[Mounted]) -> bool:
        """Tell whether a route is the one that it declares; else POST to `path` is."""
        text = f"{route.method} {route.template}"
        return text == (self.http or f"POST {self.path}")


@dataclass(slots=True)
class Table:
    """What is mounted at one time.

    Attributes:
        services: One instance of each service, by name; the newest version.
        endpoints: All endpoints, sorted by service and name.
        router: Their routes.
        schemas: Their JSON Schemas by hash.
        conflicts: Sentences about routes that could not be mounted.
        passing: Those of them that end when the older instances of a service leave.
    """

    services: dict[str, ServiceInfo] = field(default_factory=dict)
    endpoints: list[Mounted] = field(default_factory=list)
    router: Router[Mounted] = field(default_factory=Router)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    passing: set[str] = field(default_factory=set)


class Mounts:
    """Keeps a `Table` of what is on the bus.

    Args:
        bus: Where to look.
        reserved: Paths that belong to the gateway.
        interval: Seconds between two rounds of asking who is there.
    """

    def __init__(self, bus: Bus, reserved: Iterable[str], interval: float) -> None:
        self.table = Table()
        self._reserved = frozenset(reserved)
        self._catalog = Catalog(bus, interval=interval, on_change=self._mount)
        self._read: dict[str, tuple[dict[str, Any], Parameters]] = {}
        self._told: set[str] = set()
        self._former: deque[tuple[float, Table]] = deque(maxlen=_REMEMBERED)

    @property
    def is_ready(self) -> bool:
        """Whether everybody could be asked at least once."""
        return self._catalog.is_ready

    async def start(self) -> None:
        """Look who is there, mount them, and go on watching until `stop`."""
        await self._catalog.start()

    async def stop(self) -> None:
        """Watch no more; what is mounted stays."""
        await self._catalog.stop()

    def left(self, method: str, raw_path: str) -> str:
        """Return the service that has just gone and took such requests; "" for none."""
        return self.lost(
            lambda table: table.router.match(method, raw_path).route.target
        )

    def lost(self, find: Callable[[Table], Mounted]) -> str:
        """Return the service that has just gone and had what is looked for; "" for none.

        So that the moment between two lives of a service is no 404.

        Args:
            find: Looks for it in a table; raises `Problem` or `RpcError` if it is not there.
        """
        now = asyncio.get_running_loop().time()
        for when, table in reversed(self._former):
            if now - when > _REMEMBERED_SECONDS:
                break
            try:
                service = find(table).service
            except (Problem, RpcError):
                continue
            if service not in self.table.services:
                return service
        return ""

    def _mount(self) -> None:
        """Mount what is known."""
        before, self.table = self.table, self._build()
        if not before.services.keys() <= self.table.services.keys():
            self._former.append((asyncio.get_running_loop().time(), before))
        for conflict in self.table.conflicts:
            if conflict not in self._told:
                is_passing = conflict in self.table.passing
                level = logging.INFO if is_passing else logging.WARNING
                _log.log(level, "%s", conflict)
        self._told = set(self.table.conflicts)

    def _build(self) -> Table:
        catalog = self._catalog
        table = Table(services=catalog.services, conflicts=[*catalog.refused])
        table.endpoints = [self._mounted(endpoint) for endpoint in catalog.endpoints]
        shown = {endpoint.hash for endpoint in table.endpoints}
        self._read = {
            hash_: read for hash_, read in self._read.items() if hash_ in shown
        }
        table.schemas = {e.hash: e.schema for e in table.endpoints if e.schema}
        for endpoint in table.endpoints:  # so `POST /service/endpoint` always works
            self._add(table, f"POST {endpoint.path}", endpoint)
        for endpoint in table.endpoints:
            if endpoint.http and endpoint.http != f"POST {endpoint.path}":
                self._add(table, endpoint.http, endpoint)
        for route in [r for r in table.router.routes if r.target.stream]:
            # A browser's EventSource and WebSocket begin with GET; a declared one wins.
            table.router.add(dataclasses.replace(route, method="GET"))
        return table

    def _mounted(self, endpoint: CatalogEndpoint) -> Mounted:
        facts = {
            f.name: getattr(endpoint, f.name) for f in dataclasses.fields(endpoint)
        }
        if endpoint.schema is None:
            return Mounted(**facts, parameters=Parameters(None))
        if endpoint.hash not in self._read:
            self._read[endpoint.hash] = _readable(endpoint, endpoint.schema)
        facts["schema"], parameters = self._read[endpoint.hash]
        return Mounted(**facts, parameters=parameters)

    def _add(self, table: Table, text: str, endpoint: Mounted) -> None:
        """Add a route, or a conflict."""
        owner = f"{endpoint.service}.{endpoint.name}"
        try:
            route: Route[Mounted] = parse_route(text, endpoint)
        except ValueError as exc:
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
            while_ = ""
            if self._is_passing(table, endpoint, there.target):
                while_ = f" while instances of {endpoint.service!r} differ"
            conflict = (
                f"{owner} is not mounted at {text!r}{while_}: {kept} has that route"
            )
            table.conflicts.append(conflict)
            if while_:
                table.passing.add(conflict)

    def _is_passing(self, table: Table, one: Mounted, other: Mounted) -> bool:
        """Tell whether no instance has both endpoints, as when one was just renamed."""
        info = table.services.get(one.service)
        if one.service != other.service or info is None:
            return False
        there = {endpoint.subject for endpoint in info.endpoints}
        return not {one.subject, other.subject} <= there


def has_left(service: str) -> Problem:
    """Return what to say of a service that was here a moment ago; see `Mounts.lost`."""
    return Problem(
        _UNAVAILABLE,
        Code.UNAVAILABLE,
        f"the last instance of {service!r} has just left the bus",
        retry_after=1.0,
    )


def _is_bytes(schema: dict[str, Any] | None, part: str) -> bool:
    found = (schema or {}).get(part)
    return isinstance(found, dict) and "contentEncoding" in found


def _readable(
    endpoint: CatalogEndpoint, schema: dict[str, Any]
) -> tuple[dict[str, Any], Parameters]:
    """Return a schema, if it can be read, and its parameters.

    A service may say what it likes; one that says nonsense counts as one without schemas.
    """
    try:
        parameters = Parameters(schema.get("request"))
        Components([("x", schema)])
    except (TypeError, ValueError, AttributeError, RecursionError) as exc:
        _log.warning("%s has a schema that cannot be read: %s", endpoint.subject, exc)
        return {}, Parameters(None)
    return schema, parameters
