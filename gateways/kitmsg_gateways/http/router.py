"""Routes: methods and path templates, and the one that a request matches.

A static segment wins over a parameter; where the better match lacks the method, the next
one is tried.  A parameter is one whole segment and never empty.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http.errors import Problem, refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Match", "Route", "Router", "parse_route"]

T = TypeVar("T")

_ROUTE: Final = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[\x21-\x7e]*)")
_PARAMETER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_HINT_CHARS: Final = 120
_MAX_HINT_PATHS: Final = 500


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """One method on one path template.

    Attributes:
        method: HTTP method.
        template: Path, with ``{name}`` for parameters.
        names: The parameters, in order.
        target: What it leads to.
    """

    method: str
    template: str
    names: tuple[str, ...]
    target: T


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A route, and the values of its parameters by name."""

    route: Route[T]
    values: dict[str, str]


def parse_route(text: str, target: T) -> Route[T]:
    """Return the route that ``METHOD /path/{name}`` describes.

    Raises:
        ValueError: It is no route; the message says what is wrong with it.
    """
    return Route(*_parsed(text), target)


@lru_cache(maxsize=8192)
def _parsed(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Return method, template and names of a route."""
    matched = _ROUTE.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is not a route such as 'GET /orders/{{id}}'")
    method, template = matched.groups()
    names = []
    for segment in _segments(template):
        parameter = _PARAMETER.fullmatch(segment)
        if parameter is not None:
            names.append(parameter[1])
        elif any(mark in segment for mark in "{}?#%"):
            raise ValueError(
                f"{text!r}: {segment!r} is neither plain text nor one '{{name}}'"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{text!r} names a parameter twice")
    return method, template, tuple(names)


@dataclass(slots=True)
class _Node(Generic[T]):
    static: dict[str, _Node[T]] = field(default_factory=dict)
    parameter: _Node[T] | None = None
    routes: dict[str, Route[T]] = field(default_factory=dict)


class Router(Generic[T]):
    """A table of routes."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._fixed: dict[tuple[str, str], Match[T]] = {}
        self.routes: list[Route[T]] = []

    def add(self, route: Route[T]) -> Route[T] | None:
        """Add `route`, unless one for the same requests is there: return that then."""
        node = self._root
        for segment in _segments(route.template):
            if _PARAMETER.fullmatch(segment):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment, _Node())
        there = node.routes.setdefault(route.method, route)
        if there is not route:
            return there
        self.routes.append(route)
        if not route.names:
            self._fixed[route.method, route.template] = Match(route, {})
        return None

    def robbed(self, route: Route[T]) -> list[Route[T]]:
        """Return the routes here that would lose requests to `route`, being less exact."""
        found: list[Route[T]] = []
        waiting = [(self._root, 0, False)]
        segments = _segments(route.template)
        while waiting:
            node, at, is_exacter = waiting.pop()
            if at == len(segments):
                there = node.routes.get(route.method)
                found += [there] if there is not None and is_exacter else []
                continue
            is_parameter = bool(_PARAMETER.fullmatch(segments[at]))
            if node.parameter is not None:
                exacter = is_exacter or not is_parameter
                waiting.append((node.parameter, at + 1, exacter))
            if not is_parameter and segments[at] in node.static:
                waiting.append((node.static[segments[at]], at + 1, is_exacter))
            elif is_parameter and is_exacter:
                waiting += [(each, at + 1, True) for each in node.static.values()]
        return found

    def match(self, method: str, raw_path: str) -> Match[T]:
        """Return the route for a request.

        Args:
            method: HTTP method; ``HEAD`` is also served by ``GET`` routes.
            raw_path: Path as it was sent, percent-encoded, without the query.

        Raises:
            Problem: 404 with a hint, 405 with ``Allow``, 400 for broken encoding.
        """
        fixed = self._fixed.get((method, raw_path))
        if fixed is not None:
            return fixed
        nodes = self._nodes(raw_path)
        for node, values in nodes:
            route = node.routes.get(method)
            if route is None and method == "HEAD":
                route = node.routes.get("GET")
            if route is not None:
                return Match(route, dict(zip(route.names, values, strict=True)))
        methods = ", ".join(_allow(nodes))
        raise refusal(
            405,
            f"{raw_path[:_MAX_HINT_CHARS]} does not take {method[:16]}; it takes"
            f" {methods}",
            headers={"Allow": methods},
        )

    def allowed(self, raw_path: str) -> list[str]:
        """Return the methods that a path takes, HEAD and OPTIONS included.

        Raises:
            Problem: 404 with a hint, 400 for broken encoding.
        """
        return _allow(self._nodes(raw_path))

    def _nodes(self, raw_path: str) -> list[tuple[_Node[T], tuple[str, ...]]]:
        segments = [_decoded(part) for part in _segments(raw_path)]
        found = _candidates(self._root, segments, 0, ())
        if not found:
            raise self._not_found(raw_path)
        return found

    def _not_found(self, raw_path: str) -> Problem:
        detail = f"nothing is mounted at {raw_path[:_MAX_HINT_CHARS]!r}"
        near = self._near(raw_path)
        if near:
            detail += f"; did you mean {near!r}?"
        elif self.routes:
            detail += "; /openapi.json lists what is"
        else:
            detail += "; no service is on the bus yet"
        return refusal(404, detail)

    def _near(self, raw_path: str) -> str:
        if len(raw_path) > _MAX_HINT_CHARS:
            return ""
        known = {r.template: f"{r.method} {r.template}" for r in self.routes}
        few = list(known)[:_MAX_HINT_PATHS]
        near = difflib.get_close_matches(raw_path, few, n=1, cutoff=0.6)
        return known[near[0]] if near else ""


def _allow(nodes: Iterable[tuple[_Node[T], object]]) -> list[str]:
    methods = {method for node, _ in nodes for method in node.routes}
    return sorted({*methods, "OPTIONS", *(("HEAD",) if "GET" in methods else ())})


def _segments(path: str) -> list[str]:
    return path.split("/")[1:]


def _decoded(segment: str) -> str:
    """Return a path segment without percent-encoding.

    Raises:
        Problem: 400; it is not UTF-8.
    """
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        detail = f"the path segment {segment[:40]!r} is not UTF-8, percent-encoded"
        raise Problem.of(InvalidArgument(detail)) from None


def _candidates(
    node: _Node[T], segments: list[str], at: int, values: tuple[str, ...]
) -> list[tuple[_Node[T], tuple[str, ...]]]:
    """Return the nodes that match from `at` on, best first."""
    if at == len(segments):
        return [(node, values)] if node.routes else []
    segment = segments[at]
    found: list[tuple[_Node[T], tuple[str, ...]]] = []
    static = node.static.get(segment)
    if static is not None:
        found += _candidates(static, segments, at + 1, values)
    if node.parameter is not None and segment:
        found += _candidates(node.parameter, segments, at + 1, (*values, segment))
    return found
