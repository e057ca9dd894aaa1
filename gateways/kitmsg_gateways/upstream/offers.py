"""Selection of a server's endpoints, and the settings of a class that stands for it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from kitmsg.errors import FailedPrecondition
from kitmsg.idl.service import Description, shape_service
from kitmsg.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.idl.model import ServiceShapes
    from kitmsg.service.declare import Declaration

__all__ = ["only", "renamed", "service_of", "settings_of", "shapes_of"]

T = TypeVar("T")


def only(found: Mapping[str, T], wanted: Sequence[str], owner: str) -> list[T]:
    """Return the endpoints that are wanted, or all if none is named.

    Args:
        found: Endpoints by name.
        wanted: Names.
        owner: Their service or server, for messages.

    Raises:
        ValueError: One that is wanted is not there.
    """
    for name in wanted:
        if name not in found:
            known = ", ".join(sorted(found)) or "none"
            raise ValueError(f"{owner} has no endpoint {name!r}; it has {known}")
    return [each for name, each in found.items() if not wanted or name in wanted]


def service_of(services: Mapping[str, T], wanted: str, owner: str) -> T:
    """Return the service that is meant, of those in an interface description.

    Raises:
        ValueError: There is no such service, or several and none is named.
    """
    listed = ", ".join(services) or "none"
    if wanted in services:
        return services[wanted]
    if wanted:
        raise ValueError(f"{owner} has no service {wanted!r}; it has {listed}")
    if len(services) != 1:
        raise ValueError(f"choose a service of {owner} with --service: {listed}")
    return next(iter(services.values()))


def settings_of(endpoints: object) -> dict[str, Any]:
    """Return what a class says of itself: `name`, `doc`, and the settings it changes.

    Empty for endpoints that are given in another way.
    """
    if not isinstance(endpoints, type) or not issubclass(endpoints, Service):
        return {}
    names = (*Service.__annotations__, "version")
    changed = {
        name: getattr(endpoints, name)
        for name in names
        if getattr(endpoints, name) is not getattr(Service, name, None)
        and not name.startswith("_")
    }
    doc = inspect.cleandoc(endpoints.__dict__.get("__doc__") or "")
    return {**changed, "name": endpoints.name, "doc": doc.partition("\n")[0]}


def renamed(declaration: Declaration, service: str) -> Declaration:
    """Return the declaration of a class's endpoint under the name of the upstream."""
    if declaration.options.subject:
        return declaration
    subject = f"{service}.{declaration.name}"
    return dataclasses.replace(declaration, subject=subject)


def shapes_of(service: str, declarations: Iterable[Declaration]) -> ServiceShapes:
    """Return the types of a service, as gateways read them of one on the bus.

    Raises:
        FailedPrecondition: An endpoint has no form in an interface description.
    """
    shapes = shape_service(
        service,
        [
            Description(d.name, d.describe(), d.signature.doc, d.signature.stream)
            for d in declarations
        ],
    )
    if shapes.refused:
        raise FailedPrecondition("; ".join(shapes.refused.values()))
    return shapes
