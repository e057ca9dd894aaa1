"""Owners of routes: whoever was there first keeps its own.

A newcomer takes neither a route that another service has, nor, by a more exact one, some of
its requests; nor is it mounted where the operator made paths public for another service.
"""

from __future__ import annotations

import functools
import re
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from kitmsg_gateways.http.router import Route, Router

__all__ = ["Owners", "Shape", "shape"]

_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Owned(Protocol):
    """An endpoint of a service."""

    @property
    def service(self) -> str:
        """Name of the service."""
        ...


O = TypeVar("O", bound=Owned)  # noqa: E741  # O of owned


class Shape(NamedTuple):
    """The method and path that routes for the same requests have in common."""

    method: str
    path: str


def shape(route: Route[Any]) -> Shape:
    """Return the shape of a route: the names of its parameters left out."""
    return Shape(route.method, _bare(route.template))


@functools.lru_cache(maxsize=8192)
def _bare(template: str) -> str:
    return _PARAMETER.sub("{}", template)


class _Owner(NamedTuple):
    service: str
    seen: float


class Owners:
    """The services that have routes, and for a while, those that had them.

    Args:
        kept_seconds: How long a route stays a service's that left.
        public: Paths that need no credentials, and the services they are meant for; one
            that ends in ``*`` stands for all that begin so.
    """

    def __init__(
        self, *, kept_seconds: float = 0.0, public: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._kept_seconds = kept_seconds
        self._public = tuple(public)
        self._known: dict[Shape, _Owner] = {}
        self._there: Collection[str] = ()
        self._wanted: set[tuple[str, Shape]] = set()

    def begin(
        self, there: Collection[str], wanted: Iterable[tuple[str, Route[Any]]]
    ) -> None:
        """Begin a table.

        Args:
            there: The services that are there.
            wanted: Services, and the routes that they want.
        """
        self._there = there
        self._wanted = {(service, shape(route)) for service, route in wanted}

    def why_taken(self, router: Router[O], route: Route[O], service: str) -> str:
        """Return who has the requests of a route already; "" where nobody has."""
        for pattern, owner in self._public:
            if owner != service and _overlaps(pattern, route.template):
                return f"{pattern} is public for {owner!r}"
        had = self._owner(route)
        if had:
            return "" if had == service else f"{had!r} has that route"
        for there in router.robbed(route):
            had = self._owner(there)
            if had and had != service:
                return f"{had!r} has {there.method} {there.template!r}"
        return ""

    def note(self, routes: Iterable[Route[O]]) -> None:
        """Remember whose the routes of a table are."""
        now = monotonic()
        oldest = now - self._kept_seconds
        self._known = {
            key: one for key, one in self._known.items() if one.seen > oldest
        }
        for route in routes:
            self._known[shape(route)] = _Owner(route.target.service, now)

    def _owner(self, route: Route[Any]) -> str:
        """Return the service that had a route before, and has it still; "" for none."""
        key = shape(route)
        owner = self._known.get(key)
        if owner is None:
            return ""
        if owner.service in self._there:
            is_kept = (owner.service, key) in self._wanted
        else:
            is_kept = monotonic() - owner.seen < self._kept_seconds
        return owner.service if is_kept else ""


def _overlaps(public: str, template: str) -> bool:
    """Tell whether a route may serve a public path.  It may, where that is hard to tell."""
    literal, brace, _ = template.partition("{")
    if public.endswith("*"):
        start = public[:-1]
        return literal.startswith(start) or (bool(brace) and start.startswith(literal))
    return public.startswith(literal) if brace else public == template
