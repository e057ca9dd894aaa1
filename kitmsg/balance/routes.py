"""Routes: which instances of a service on the bus get a client's calls.

Without a route the queue group takes a call, and the server picks at random.  With one, the
client picks among the instances that answer ``$SRV`` and sends to a subject of their own.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from kitmsg.balance.node import Node
from kitmsg.balance.p2c import p2c
from kitmsg.balance.picker import Narrowed, Nodes, Picker, PickerAround
from kitmsg.balance.ring import consistent_hash
from kitmsg.context import Context
from kitmsg.discovery.instance import Instance
from kitmsg.schema.calls import StreamRequest

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

__all__ = [
    "Key",
    "Route",
    "direct",
    "key_of",
    "parse_route",
    "split",
    "sticky",
    "version",
]

Key: TypeAlias = Callable[[Context, Any], str]
"""Returns the key of a request, "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One way to choose instances; made by `direct`, `sticky`, `version` and `split`.

    Two are equal when they were made of the same arguments.

    Attributes:
        name: In metrics, such as ``direct``.
        spec: As the command line has it, such as ``version:~=1.4``; for messages.
        picker: Makes the picker of one endpoint's calls.
        key: Key of a request, for pickers that care.
        takes_all: Whether any instance may have a call, so that the queue group stands for
            those that have no subject of their own.
        serves: Whether an instance may have calls at all.
        by: Arguments that `spec` does not tell; hashable.
    """

    name: str
    spec: str
    picker: Callable[[], Picker] = field(compare=False)
    key: Key | None = field(default=None, compare=False)
    takes_all: bool = True
    serves: Callable[[Instance], bool] | None = field(default=None, compare=False)
    by: object = None

    @property
    def field(self) -> str:
        """Name of the field of a request that it goes by; "" for none."""
        first = self.by[0] if isinstance(self.by, tuple) and self.by else None
        return first if isinstance(first, str) else ""


def direct(pick: Callable[[], Picker] = p2c) -> Route:
    """Return the route to the instance where a call waits least.

    Args:
        pick: Makes the picker: `p2c` over live latency and open calls by default.
    """
    return Route(name="direct", spec="direct", picker=pick, by=pick)


def sticky(
    by: str | Callable[[Any], object],
    *,
    bound: float = 1.25,
) -> Route:
    """Return the route to the same instance for the same key.

    An instance that has `bound` times the mean of open calls passes a key on.  A request
    without the field, or with nothing in it, goes where it waits least; a client is refused
    where no endpoint of its service has it.

    Args:
        by: Name of a field of the request, or a function of the request.
        bound: As in `consistent_hash`.

    Raises:
        ValueError: `bound` is not more than 1, or the name is empty.
    """
    if not by:
        raise ValueError("sticky() takes the name of a field, or a function")
    consistent_hash(bound=bound)  # it is checked at once
    return Route(
        name="sticky",
        spec=f"sticky:{by if isinstance(by, str) else getattr(by, '__name__', by)}",
        picker=lambda: _Keyed(consistent_hash(bound=bound)),
        key=key_of(by),
        by=(by, bound),
    )


def key_of(by: str | Callable[[Any], object]) -> Key:
    """Return what finds the key of a request.

    Args:
        by: Name of a field of the request, or a function of the request.
    """
    find = _field(by) if isinstance(by, str) else by

    def key(_ctx: Context, request: Any) -> str:
        value = find(request.request if isinstance(request, StreamRequest) else request)
        return "" if value is None else str(value)

    return key


def version(spec: str) -> Route:
    """Return the route to the instances of some versions.

    Args:
        spec: Such as ``~=1.4``, ``>=1.4,<2``, or ``1.4`` for all that begin with it; as
            Python packages have it (PEP 440).

    Raises:
        ValueError: It is no such specifier.
    """
    allowed = _specifier(spec)
    return Route(
        name="version",
        spec=f"version:{spec}",
        picker=p2c,
        takes_all=False,
        serves=lambda instance: _is_in(instance, allowed),
    )


def split(
    shares: Mapping[str, float], *, chance: Callable[[], float] = random.random
) -> Route:
    """Return the route that gives versions shares of the calls: ``{"1.4": 95, "1.5": 5}``.

    The share of a version that nobody serves goes to the others.

    Args:
        shares: By specifier, as in `version`; their sum is the whole.
        chance: Returns a number from 0 to 1, all equally likely; for tests.

    Raises:
        ValueError: A specifier or a share is wrong, or there is none.
    """
    if not shares or not all(0 < share < math.inf for share in shares.values()):
        raise ValueError(f"split() takes versions with shares over 0, not {shares!r}")
    parts = [(_specifier(spec), share) for spec, share in shares.items()]
    said = ",".join(f"{spec}={share:g}" for spec, share in shares.items())
    return Route(
        name="split",
        spec=f"split:{said}",
        picker=lambda: _Split(parts, p2c(), chance),
        takes_all=False,
        serves=lambda instance: any(_is_in(instance, spec) for spec, _ in parts),
    )


def parse_route(text: str) -> Route:
    """Return the route that a text means: ``direct``, ``sticky:id``, ``version:~=1.4``.

    And ``split:1.4=95,1.5=5``.

    Raises:
        ValueError: It means none.
    """
    kind, _, rest = text.partition(":")
    if kind == "direct" and not rest:
        return direct()
    if kind == "sticky" and rest:
        return sticky(rest)
    if kind == "version" and rest:
        return version(rest)
    if kind == "split" and rest:
        return split(dict(_share(part) for part in rest.split(",")))
    raise ValueError(
        f"{text!r} is no route; write direct, sticky:FIELD, version:SPEC such as"
        " version:~=1.4, or split:VERSION=SHARE,... such as split:1.4=95,1.5=5"
    )


def _share(text: str) -> tuple[str, float]:
    spec, _, share = text.rpartition("=")
    try:
        if spec:
            return spec.strip(), float(share)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no VERSION=SHARE, such as 1.4=95")


def _field(name: str) -> Callable[[Any], object]:
    def find(request: Any) -> object:
        if isinstance(request, Mapping):
            return request.get(name)
        return getattr(request, name, None)

    return find


def _specifier(text: str) -> SpecifierSet:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    said = text.strip()
    if said[:1].isdigit():
        said = f"=={said}.*"
    try:
        found = SpecifierSet(said)
    except InvalidSpecifier:
        found = SpecifierSet()
    if not len(found):
        raise ValueError(
            f"{text!r} is no version specifier, such as 1.4, ~=1.4 or >=1.4,<2"
        )
    return found


def _is_in(instance: Instance, allowed: SpecifierSet) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        # What stands behind a `-` or a `+` may be anything in a semantic version.
        found = Version(instance.version)
    except InvalidVersion:
        try:
            found = Version(instance.version.partition("-")[0].partition("+")[0])
        except InvalidVersion:
            return False
    return allowed.contains(found, prereleases=True)


class _Keyed(PickerAround):
    """By key where there is one; else where a call waits least."""

    def __init__(self, inner: Picker) -> None:
        super().__init__(inner)
        self._least = p2c()

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node."""
        picker = self.inner if key else self._least
        return picker.pick(nodes, now, key, tried)


class _Split(PickerAround):
    """One of several parts of a set by chance, then a node of it."""

    def __init__(
        self,
        parts: list[tuple[SpecifierSet, float]],
        inner: Picker,
        chance: Callable[[], float],
    ) -> None:
        super().__init__(inner)
        self._parts = parts
        self._chance = chance
        self._groups = Narrowed(self._group)

    def pick(
        self, nodes: Nodes, now: float, key: str, tried: Collection[Node[Any]], /
    ) -> Node[Any] | None:
        """Return a node of the part that the call falls into, if it has one left."""
        groups = self._groups.of(nodes)
        at = self._chance() * sum(share for _, share in groups)
        for group, share in groups:
            at -= share
            if at < 0:
                node = self.inner.pick(group, now, key, tried)
                if node is not None:
                    return node
                break
        return self.inner.pick(nodes, now, key, tried)

    def _group(self, nodes: Nodes) -> list[tuple[Nodes, float]]:
        found = [
            (tuple(node for node in nodes if _is_in(node.instance, spec)), share)
            for spec, share in self._parts
        ]
        return [(group, share) for group, share in found if group]
