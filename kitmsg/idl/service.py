"""Reads the JSON Schemas of a service's endpoints into one definition.

Schemas as `kitmsg.schema.jsonschema` and pydantic write them, and most that people write by
hand, are read.  Left out are bounds, patterns and lengths, which the service itself checks,
and fields of an object beyond those it names.  A schema that no generator could carry is
refused, with the endpoint and the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from kitmsg.idl.model import (
    Method,
    Named,
    ServiceShapes,
    Shape,
    kinds_in,
    members_of,
    parts_of,
    renamed_shape,
    renamed_type,
)
from kitmsg.idl.naming import camel, plain, unique
from kitmsg.idl.reader import Part, SchemaReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Described", "Description", "shape_service"]

_ERROR: Final = "error "
_IN: Final = ("request", "items")


class Described(Protocol):
    """An endpoint as discovery knows it: `Description`, or a catalog's own."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def schema(self) -> dict[str, Any] | None:
        """Its JSON Schemas, as ``{service}._schema`` has them; None if unknown."""
        ...

    @property
    def description(self) -> str:
        """For people."""
        ...

    @property
    def stream(self) -> str:
        """``out``, ``in``, ``both`` or ""."""
        ...


@dataclass(frozen=True, slots=True)
class Description:
    """An endpoint as its class tells it; the fields are those of `Described`."""

    name: str
    schema: dict[str, Any] | None
    description: str = ""
    stream: str = ""


def shape_service(
    service: str, endpoints: Iterable[Described], *, doc: str = ""
) -> ServiceShapes:
    """Return the shapes of a service; the order of `endpoints` does not matter.

    Types of one name that mean the same are one type; where they differ, the first
    endpoint by name keeps it and another's has that endpoint's name in front.

    Args:
        service: Its name on the bus.
        endpoints: Those to carry; one that cannot be is in `ServiceShapes.refused`.
        doc: For people.
    """
    name = camel(service)
    merged = _Merged(name)
    methods: list[Method] = []
    refused: dict[str, str] = {}
    taken: set[str] = set()
    for endpoint in sorted(endpoints, key=lambda each: each.name):
        chosen = unique(camel(endpoint.name), taken)
        try:
            parts = _read(f"{service}.{endpoint.name}", endpoint, chosen)
        except ValueError as error:
            refused[endpoint.name] = str(error)
            continue
        taken.add(plain(chosen))
        methods.append(_method(endpoint, chosen, parts, merged))
    return ServiceShapes(service, name, tuple(methods), merged.types, refused, doc)


def _method(
    endpoint: Described, name: str, parts: Mapping[str, Part], merged: _Merged
) -> Method:
    """Return an endpoint whose types are in `merged`."""
    shapes = {key: merged.add(name, part) for key, part in parts.items()}
    return Method(
        endpoint=endpoint.name,
        name=name,
        request=shapes["request"].name,
        response=shapes.get("response"),
        items=shapes.get("items"),
        stream=endpoint.stream,
        codec="json" if any(_has_map(parts.get(k)) for k in _IN) else "msgpack",
        errors={
            key.removeprefix(_ERROR): shape.name
            for key, shape in shapes.items()
            if key.startswith(_ERROR)
        },
        doc=endpoint.description,
        is_single=parts["request"].shape.name != _own(name),
    )


def _own(name: str) -> str:
    """Return the name of a request that is made of a method's parameters."""
    return f"{name}Request"


def _has_map(part: Part | None) -> bool:
    if part is None:
        return False
    waiting = [part.shape]
    for type_ in part.types.values():
        waiting += [member.shape for member in members_of(type_)]
    return any("map" in kinds_in(shape) for shape in waiting)


def _read(where: str, endpoint: Described, name: str) -> dict[str, Part]:
    """Return the parts read from the schemas of an endpoint, by ``request`` and so on.

    Raises:
        ValueError: It has none, or one that cannot be carried.
    """
    schema = endpoint.schema
    if not schema or not isinstance(schema.get("request"), dict):
        raise ValueError(f"{where}: it does not tell its types")
    reader = SchemaReader(where, schema["request"])
    parts = {"request": reader.object(_own(name), "the request")}
    response = schema.get("response", True)
    if not isinstance(response, dict) or response.get("type") != "null":
        reader = SchemaReader(where, response)
        parts["response"] = reader.anything(f"{name}Result", "the result")
    if schema.get("items") is not None:
        reader = SchemaReader(where, schema["items"])
        parts["items"] = reader.anything(f"{name}Item", "the items")
    for error, document in sorted((schema.get("errors") or {}).items()):
        reader = SchemaReader(where, document)
        parts[_ERROR + error] = reader.object(camel(error), f"the error {error}")
    return parts


class _Merged:
    """The types of all endpoints together.

    Args:
        reserved: A name that no type may have.
    """

    def __init__(self, reserved: str) -> None:
        self.types: dict[str, Named] = {}
        self._reserved = plain(reserved)
        self._taken = {self._reserved}

    def add(self, prefix: str, part: Part) -> Shape:
        """Take in types; returns the shape that is made of them, with their names here.

        Args:
            prefix: In front of a name that means something else here.
            part: Of one schema.
        """
        names = {
            local: local
            for local in part.types
            if local in self.types and _same(local, part.types, self.types)
        }
        for local in part.types:
            if local not in names:
                names[local] = self._name(local, prefix)
        for local, type_ in part.types.items():
            renamed = renamed_type(type_, names.__getitem__)
            self.types.setdefault(names[local], renamed)
        return renamed_shape(part.shape, names.__getitem__)

    def _name(self, local: str, prefix: str) -> str:
        bare = plain(local)
        if bare == self._reserved:
            local = f"{local}Data"
        elif bare in self._taken:
            local = f"{prefix}{local}"
        chosen = unique(local, self._taken)
        self._taken.add(plain(chosen))
        return chosen


def _same(name: str, here: Mapping[str, Named], there: Mapping[str, Named]) -> bool:
    """Tell whether a type and all that it is made of mean the same in both."""
    waiting, seen = [name], set()
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        if here[at] != there.get(at):
            return False
        waiting += parts_of(here[at])
    return True
