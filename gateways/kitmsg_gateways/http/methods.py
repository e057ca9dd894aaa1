"""The endpoints on a bus as mounted routes: a table, built anew after each change."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg.wire import Meta
from kitmsg_gateways.edge.catalogue import left, unavailable
from kitmsg_gateways.http.bind import Parameters
from kitmsg_gateways.http.openapi.components import Components
from kitmsg_gateways.http.router import Route, Router, parse_route, shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.discovery.catalog import Catalog
    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg.errors import Unavailable
    from kitmsg_gateways.edge.catalogue import Catalogue

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
        router: Their routes.
        schemas: Their JSON Schemas by hash.
        conflicts: Sentences about routes that could not be mounted.
        passing: Those of them that end when the older instances of a service leave.
        claims: Services, and the methods and shapes of the routes that they want.
    """

    services: dict[str, ServiceInfo] = field(default_factory=dict)
    endpoints: list[Mounted] = field(default_factory=list)
    router: Router[Mounted] = field(default_factory=Router)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    passing: set[str] = field(default_factory=set)
    claims: set[tuple[str, str, str]] = field(default_factory=set)


class _Owner(NamedTuple):
    service: str
    seen: float


class Mounter:
    """Makes a `Table` of what is on the bus.

    Args:
        reserved: Paths that belong to the gateway.
        kept_seconds: How long a route stays a service's that left.
        public: Paths that need no credentials, and the services they are meant for; one
            that ends in ``*`` stands for all that begin so.
    """

    def __init__(
        self,
        reserved: Iterable[str],
        *,
        kept_seconds: float = 0.0,
        public: Iterable[tuple[str, str]] = (),
    ) -> None:
        self._reserved = frozenset(reserved)
        self._read: dict[str, tuple[dict[str, Any], Parameters]] = {}
        self._told: set[str] = set()
        self._kept: dict[str, tuple[CatalogEndpoint, Mounted]] = {}
        self._owners: dict[tuple[str, str], _Owner] = {}
        self._kept_seconds = kept_seconds
        self._public = tuple(public)

    def build(self, catalog: Catalog) -> Table:
        """Return the table of the endpoints that are there; conflicts are logged once."""
        table = Table(services=catalog.services, conflicts=[*catalog.refused])
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
        self._claim(table)
        rank = {name: at for at, name in enumerate(catalog.seniority)}
        # Whoever was there first keeps its routes.
        eldest = sorted(table.endpoints, key=lambda each: rank.get(each.service, 0))
        for endpoint in eldest:  # so `POST /service/endpoint` always works
            self._add(table, f"POST {endpoint.path}", endpoint)
        for endpoint in eldest:
            if endpoint.http and endpoint.http != f"POST {endpoint.path}":
                self._add(table, endpoint.http, endpoint)
        self._note_owners(table)
        for route in [r for r in table.router.routes if r.target.stream]:
            # A browser's EventSource and WebSocket begin with GET; a declared one wins.
            table.router.add(dataclasses.replace(route, method="GET"))
        self._tell(table)
        return table

    def _claim(self, table: Table) -> None:
        for endpoint in table.endpoints:
            for text in (f"POST {endpoint.path}", endpoint.http):
                with contextlib.suppress(ValueError):
                    table.claims.add(
                        (endpoint.service, *shape(parse_route(text, None)))
                    )

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
        if why := self._taken(table, route, endpoint):
            table.conflicts.append(f"{owner} is not mounted at {text!r}: {why}")
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

    def _taken(self, table: Table, route: Route[Mounted], endpoint: Mounted) -> str:
        """Return who has the requests of a newcomer's route already; "" for nobody."""
        for pattern, service in self._public:
            if service != endpoint.service and _overlaps(pattern, route.template):
                return f"{pattern} is public for {service!r}"
        had = self._owner(table, route)
        if had:
            return "" if had == endpoint.service else f"{had!r} has that route"
        for there in table.router.robbed(route):
            had = self._owner(table, there)
            if had and had != endpoint.service:
                return f"{had!r} has {there.method} {there.template!r}"
        return ""

    def _owner(self, table: Table, route: Route[Mounted]) -> str:
        """Return the service that had a route before, and has it still; "" for none."""
        owner = self._owners.get(shape(route))
        if owner is None:
            return ""
        if owner.service in table.services:
            is_kept = (owner.service, *shape(route)) in table.claims
        else:
            is_kept = monotonic() - owner.seen < self._kept_seconds
        return owner.service if is_kept else ""

    def _note_owners(self, table: Table) -> None:
        """Remember whose the routes are, and for a while, whose they were."""
        now = monotonic()
        oldest = now - self._kept_seconds
        owners = {key: one for key, one in self._owners.items() if one.seen > oldest}
        for route in table.router.routes:
            owners[shape(route)] = _Owner(route.target.service, now)
        self._owners = owners

    def _is_passing(self, table: Table, one: Mounted, other: Mounted) -> bool:
        """Tell whether no instance has both endpoints, as when one was just renamed."""
        info = table.services.get(one.service)
        if one.service != other.service or info is None:
            return False
        there = {endpoint.subject for endpoint in info.endpoints}
        return not {one.subject, other.subject} <= there


def _overlaps(public: str, template: str) -> bool:
    """Tell whether a route may serve a public path.  It may, where that is hard to tell."""
    literal, brace, _ = template.partition("{")
    if public.endswith("*"):
        start = public[:-1]
        return literal.startswith(start) or (bool(brace) and start.startswith(literal))
    return public == template if not brace else public.startswith(literal)


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
