"""The endpoints on a bus as mounted routes: a table, built anew after each change.

A table is built once and replaced whole, because services come and go.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg.wire import Meta
from kitmsg_gateways.edge.catalogue import left, unavailable
from kitmsg_gateways.http.bind import Parameters
from kitmsg_gateways.http.openapi.schemas import Components
from kitmsg_gateways.http.owners import Owners
from kitmsg_gateways.http.router import Router, parse_route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.discovery.catalog import Catalog
    from kitmsg.discovery.events import CatalogEvent
    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg.errors import Unavailable
    from kitmsg_gateways.edge.catalogue import Catalogue
    from kitmsg_gateways.http.router import Route

__all__ = ["Mounted", "Mounter", "Table", "left_with"]


_log = logging.getLogger("kitmsg_gateways.http")

_FACTS: Final = tuple(field.name for field in dataclasses.fields(CatalogEndpoint))
_UNKNOWN: Final = Parameters(None)
_SUCCESS: Final = re.compile(r"20[01237]|208|226")
_DIGITS: Final = re.compile(r"[0-9]{1,9}")


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
        """Path at which it is served whatever route it declares."""
        return f"/{self.service}/{self.name}"

    def declares(self, route: Route[Mounted]) -> bool:
        """Tell whether a route is the one that it declares; else POST to `path` is."""
        text = f"{route.method} {route.template}"
        return text == (self.http or f"POST {self.path}")


@dataclass(slots=True)
class Table:
    """Routing table: a snapshot of the endpoints that are mounted.

    Attributes:
        services: One instance of each service, by name; the newest version.
        endpoints: All endpoints, sorted by service and name.
        events: The events on the bus, sorted by name.
        event_conflicts: Sentences about services that define them differently.
        router: Their routes.
        schemas: Their JSON Schemas by hash.
        conflicts: Sentences about routes that could not be mounted.
        passing: Those of them that end when the older instances of a service leave.
    """

    services: dict[str, ServiceInfo] = field(default_factory=dict)
    endpoints: list[Mounted] = field(default_factory=list)
    events: list[CatalogEvent] = field(default_factory=list)
    event_conflicts: list[str] = field(default_factory=list)
    router: Router[Mounted] = field(default_factory=Router)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    passing: set[str] = field(default_factory=set)


class Mounter:
    """Makes a `Table` of what is on the bus.

    Args:
        reserved: Paths that belong to the gateway.
        owners: Whose the routes are.
        below: Beginnings of paths that do, too.
    """

    def __init__(
        self,
        reserved: Iterable[str],
        owners: Owners | None = None,
        below: tuple[str, ...] = (),
    ) -> None:
        self._reserved = frozenset(reserved)
        self._below = below
        self._owners = owners or Owners()
        self._read: dict[str, tuple[dict[str, Any], Parameters]] = {}
        self._told: set[str] = set()
        self._kept: dict[str, tuple[CatalogEndpoint, Mounted]] = {}

    def build(self, catalog: Catalog) -> Table:
        """Return the table of the endpoints that are there; conflicts are logged once."""
        table = Table(
            services=catalog.services,
            events=catalog.events,
            event_conflicts=catalog.event_conflicts,
            conflicts=[*catalog.refused],
        )
        kept, self._kept = self._kept, {}
        table.endpoints = [
            self._mounted(endpoint, kept.get(endpoint.dotted))
            for endpoint in catalog.endpoints
        ]
        shown = {endpoint.hash for endpoint in table.endpoints}
        self._read = {
            hash_: read for hash_, read in self._read.items() if hash_ in shown
        }
        table.schemas = {e.hash: e.schema for e in table.endpoints if e.schema}
        self._begin(table)
        rank = {name: at for at, name in enumerate(catalog.seniority)}
        # Whoever was there first keeps its routes.
        eldest = sorted(table.endpoints, key=lambda each: rank.get(each.service, 0))
        for endpoint in eldest:  # so `POST /service/endpoint` always works
            self._add(table, f"POST {endpoint.path}", endpoint)
        for endpoint in eldest:
            if endpoint.http and endpoint.http != f"POST {endpoint.path}":
                self._add(table, endpoint.http, endpoint)
        self._owners.note(table.router.routes)
        for route in [r for r in table.router.routes if r.target.stream]:
            # A browser's EventSource and WebSocket begin with GET; a declared one wins.
            table.router.add(dataclasses.replace(route, method="GET"))
        self._tell(table)
        return table

    def _begin(self, table: Table) -> None:
        """Say who is there and wants which routes, before the first is added."""
        wanted = []
        for endpoint in table.endpoints:
            for text in (f"POST {endpoint.path}", endpoint.http):
                with contextlib.suppress(ValueError):
                    wanted.append((endpoint.service, parse_route(text, None)))
        self._owners.begin(table.services, wanted)

    def _tell(self, table: Table) -> None:
        for conflict in table.conflicts:
            if conflict not in self._told:
                level = logging.INFO if conflict in table.passing else logging.WARNING
                _log.log(level, "%s", conflict)
        self._told = set(table.conflicts)

    def _mounted(
        self, endpoint: CatalogEndpoint, before: tuple[CatalogEndpoint, Mounted] | None
    ) -> Mounted:
        """Return an endpoint as it is served; the one of `before` if it is the same."""
        if before is not None and before[0] == endpoint:
            mounted = before[1]
        else:
            mounted = self._newly_mounted(endpoint)
        self._kept[endpoint.dotted] = endpoint, mounted
        return mounted

    def _newly_mounted(self, endpoint: CatalogEndpoint) -> Mounted:
        facts = {name: getattr(endpoint, name) for name in _FACTS}
        if endpoint.schema is None:
            return Mounted(**facts, parameters=_UNKNOWN)
        if endpoint.hash not in self._read:
            self._read[endpoint.hash] = _readable(endpoint, endpoint.schema)
        facts["schema"], parameters = self._read[endpoint.hash]
        return Mounted(**facts, parameters=parameters)

    def _add(self, table: Table, text: str, endpoint: Mounted) -> None:
        """Add a route, or a conflict."""
        owner = endpoint.dotted
        try:
            route: Route[Mounted] = parse_route(text, endpoint)
        except ValueError as exc:
            table.conflicts.append(f"{owner} is not mounted: {exc}")
            return
        is_ours = route.template.startswith(self._below)
        if is_ours or (route.template.rstrip("/") or "/") in self._reserved:
            table.conflicts.append(
                f"{owner} is not mounted at {text!r}: the path is the gateway's own"
            )
            return
        if why := self._owners.why_taken(table.router, route, endpoint.service):
            table.conflicts.append(f"{owner} is not mounted at {text!r}: {why}")
            return
        there = table.router.add(route)
        if there is not None:
            kept = there.target.dotted
            is_passing = self._is_passing(table, endpoint, there.target)
            differ = f" while instances of {endpoint.service!r} differ"
            at = f"{text!r}{differ if is_passing else ''}"
            conflict = f"{owner} is not mounted at {at}: {kept} has that route"
            table.conflicts.append(conflict)
            if is_passing:
                table.passing.add(conflict)

    def _is_passing(self, table: Table, one: Mounted, other: Mounted) -> bool:
        """Tell whether no instance has both endpoints, as when one was just renamed."""
        info = table.services.get(one.service)
        if one.service != other.service or info is None:
            return False
        there = {endpoint.subject for endpoint in info.endpoints}
        return not {one.subject, other.subject} <= there


def left_with(
    catalogue: Catalogue[Table], find: Callable[[Table], Mounted | None]
) -> Unavailable | None:
    """Return the error of what was or may be there; None if nothing says so.

    So that the moment between two lives of a service is no 404, nor the first one.

    Args:
        catalogue: Remembers it.
        find: Looks for it in a table; None if it is not there.
    """
    if why := catalogue.why_unknown():
        return unavailable(why)
    for table in catalogue.former():
        mounted = find(table)
        if mounted is not None and mounted.service not in catalogue.table.services:
            return unavailable(left(mounted.service))
    return None


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
