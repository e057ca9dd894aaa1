"""The numbers of fields as one process gives them, while services come, go and change.

A gateway that makes a format out of schemas keeps a lock for as long as it runs: clients
that are connected go on to be understood.  What would be misread is refused by itself, so
that the other endpoints of its service stay; when it fits again, it is taken again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from kitmsg.errors import FailedPrecondition, KitError
from kitmsg.idl.lock import Lock
from kitmsg.idl.model import names_in, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from kitmsg.idl.model import Method, ServiceShapes

__all__ = ["Made", "Numbers", "misfit", "warn_apart"]

T = TypeVar("T")

_log = logging.getLogger("kitmsg_gateways")

_REFUSALS: Final = (ValueError, KitError)
_RESTART: Final = "restart this gateway"


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """A service in a format, without the endpoints that are refused.

    Attributes:
        result: Made of all endpoints but those that are refused; None if that is all.
        refused: Why an endpoint is not in it, by the endpoint's name.
    """

    result: T | None
    refused: Mapping[str, str] = field(default_factory=dict)

    def sentences(self, service: str) -> list[str]:
        """Return a sentence for each reason of a refusal, with its endpoints."""
        reasons: dict[str, list[str]] = {}
        for endpoint, why in self.refused.items():
            reasons.setdefault(why, []).append(f"{service}.{endpoint}")
        return [
            f"{service} is not served: {why}"
            if self.result is None and len(reasons) == 1
            else f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not served:"
            f" {why}"
            for why, names in reasons.items()
        ]


class Numbers:
    """Gives numbers, those of a file first, and takes none back.

    Args:
        file: A lock to begin with, which is read once and never written; "" for none.

    Raises:
        FailedPrecondition: The file cannot be read.
    """

    def __init__(self, file: str = "") -> None:
        if not file:
            self._lock = Lock(cure=_RESTART)
            return
        try:
            text = Path(file).read_text(encoding="utf-8")
            cure = f"delete its line in {file} and {_RESTART}"
            self._lock = Lock.parse(text, file, cure=cure)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise FailedPrecondition(f"the lock {file} cannot be used: {why}") from exc

    def make(
        self, shapes: ServiceShapes, make: Callable[[ServiceShapes, Lock], T]
    ) -> Made[T]:
        """Return the result of `make` for a service, without the endpoints it refuses.

        Numbers are kept of what is made, and of nothing else.

        Args:
            shapes: The service.
            make: Takes shapes and a lock, which it may change; raises `ValueError` or a
                `KitError` for what it refuses.
        """
        if not shapes.methods:
            return Made(None)
        try:
            return Made(self._kept(shapes, make))
        except _REFUSALS as exc:
            whole = str(exc)
        refused = {}
        for method in shapes.methods:
            try:
                make(_only(shapes, (method,)), self._lock.copy())
            except _REFUSALS as exc:
                refused[method.endpoint] = str(exc)
        others = [each for each in shapes.methods if each.endpoint not in refused]
        if refused and others:
            try:
                return Made(self._kept(_only(shapes, others), make), refused)
            except _REFUSALS as exc:
                whole = str(exc)
        return Made(None, refused | {each.endpoint: whole for each in others})

    def _kept(
        self, shapes: ServiceShapes, make: Callable[[ServiceShapes, Lock], T]
    ) -> T:
        lock = self._lock.copy()
        made = make(shapes, lock)
        self._lock = lock
        return made


def misfit(service: str) -> str:
    """Return the message for callers of a service whose schema is refused."""
    return (
        f"what {service!r} says of its types now is refused by this gateway; its log says"
        " why"
    )


def warn_apart(workers: int, file: str) -> None:
    """Say in the log that processes without a lock of theirs will come to disagree.

    Args:
        workers: How many there are.
        file: Their lock; "" for none.
    """
    if workers > 1 and not file:
        _log.warning(
            "%d workers number what changes on the bus each for itself; give them --lock, so"
            " that they agree",
            workers,
        )


def _only(shapes: ServiceShapes, methods: Collection[Method]) -> ServiceShapes:
    """Return a service with some of its methods, and the types of those as they are."""
    waiting = [name for method in methods for name in _types_of(method)]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += parts_of(shapes.types[name])
    types = {name: type_ for name, type_ in shapes.types.items() if name in needed}
    return replace(shapes, methods=tuple(methods), types=types)


def _types_of(method: Method) -> list[str]:
    shapes = [shape for shape in (method.response, method.items) if shape is not None]
    named = [name for shape in shapes for name in names_in(shape)]
    return [method.request, *method.errors.values(), *named]
