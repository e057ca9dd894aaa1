"""Services on the bus in the form of an IDL, generated anew only when something changes.

A gateway that makes a format out of schemas has a `Generator`.  The numbers of fields stay
what they are for as long as it lives, whatever becomes of the services.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from kitmsg.idl.numbers import Numbers, misfit
from kitmsg.idl.service import Described, shape_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import Method, ServiceShapes

__all__ = ["Generated", "Generator", "Offered"]

T = TypeVar("T")


class Offered(Described, Protocol):
    """An endpoint that a service on the bus offers."""

    @property
    def service(self) -> str:
        """Name of the service."""
        ...


E = TypeVar("E", bound=Offered)


@dataclass(frozen=True, slots=True)
class Generated(Generic[T]):
    """One service in the form of an IDL.

    Attributes:
        shapes: Its definition.
        result: The result of `make`; None if all of it is refused.
        refused: A sentence for each reason why an endpoint is left out.
        waiting: Endpoints that the format has no number for now.
        why: The message for callers of those.
    """

    shapes: ServiceShapes
    result: T | None
    refused: tuple[str, ...]
    waiting: tuple[Method, ...]
    why: str


class Generator(Generic[E, T]):
    """Generates an IDL for each service, and what serves it.

    Args:
        lock: File with the numbers to begin with; "" for none.
        make: Takes a service, its endpoints by name and a lock, which it may change;
            raises `ValueError` or a `KitError` for what it refuses.
        left_out: Returns a sentence for each endpoint that the format cannot carry.

    Raises:
        FailedPrecondition: The lock cannot be read.
    """

    def __init__(
        self,
        lock: str,
        make: Callable[[ServiceShapes, Mapping[str, E], Lock], T],
        left_out: Callable[[ServiceShapes], Iterable[str]],
    ) -> None:
        self._numbers = Numbers(lock)
        self._make = make
        self._left_out = left_out
        self._known: dict[str, tuple[list[E], str, Generated[T]]] = {}

    def services(
        self, endpoints: Iterable[E], docs: Mapping[str, str]
    ) -> list[Generated[T]]:
        """Return the services of some endpoints, in the order of those.

        Args:
            endpoints: All that are on the bus.
            docs: Descriptions of the services, by name.
        """
        grouped: dict[str, list[E]] = {}
        for endpoint in endpoints:
            grouped.setdefault(endpoint.service, []).append(endpoint)
        before, self._known = self._known, {}
        for service, own in grouped.items():
            doc = docs.get(service, "")
            known = before.get(service)
            if known is None or known[:2] != (own, doc):
                known = own, doc, self._generated(service, own, doc)
            self._known[service] = known
        return [generated for _, _, generated in self._known.values()]

    def _generated(self, service: str, endpoints: list[E], doc: str) -> Generated[T]:
        shapes = shape_service(service, endpoints, doc=doc)
        by_name = {endpoint.name: endpoint for endpoint in endpoints}
        made = self._numbers.make(
            shapes, lambda shapes, lock: self._make(shapes, by_name, lock)
        )
        refused = (*self._left_out(shapes), *made.sentences(service))
        waiting = tuple(m for m in shapes.methods if m.endpoint in made.refused)
        return Generated(shapes, made.result, refused, waiting, misfit(service))
