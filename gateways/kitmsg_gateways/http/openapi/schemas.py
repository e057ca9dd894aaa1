"""Named schemas of all services, brought together under ``#/components/schemas``.

Types of one name that mean the same are one component; where they differ, each has its
service's name in front.  Requests refuse fields that they do not name and results promise
nothing of the kind: a type used in both is one component, and refuses them.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.schema.pointers import alternatives, references, resolve, rewritten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from kitmsg.discovery.catalog import CatalogEndpoint

__all__ = ["Components"]

_PREFIX: Final = "#/components/schemas/"
_DEFS: Final = "#/$defs/"
_DATA: Final = ("default", "enum", "const", "examples", "example")
_BAD: Final = re.compile(r"[^A-Za-z0-9._-]+")
_FORBIDDEN: Final = frozenset({"Problem", "RpcRequest", "RpcResponse"})


class Components:
    """The schemas of some endpoints, with references that fit an OpenAPI document.

    Args:
        schemas: The schemas of an endpoint as its service tells them, with the service's
            name; in the order that decides who is named first.

    Attributes:
        schemas: The components by name, sorted.
    """

    def __init__(self, schemas: Iterable[tuple[str, dict[str, Any]]]) -> None:
        documents = [
            (service, document)
            for service, schema in schemas
            for document in _documents(schema)
        ]
        meanings: dict[str, set[str]] = {}
        for _, document in documents:
            for name in _definitions(document):
                meanings.setdefault(name, set()).add(_meaning(document, name))
        self._ambiguous = {name for name, all_ in meanings.items() if len(all_) > 1}
        self._names: dict[tuple[str, str, str], str] = {}
        found: dict[str, Any] = {}
        for service, document in documents:
            rename = self._renamer(service, document)
            for name, schema in _definitions(document).items():
                placed = rewritten(schema, rename)
                known = found.setdefault(self._name(service, document, name), placed)
                if known != placed:
                    closest = max(known, placed, key=_refusals)
                    found[self._name(service, document, name)] = closest
        self.schemas = dict(sorted(found.items()))

    def request(self, endpoint: CatalogEndpoint) -> dict[str, Any] | None:
        """Return the schema of a request, as it is on the wire; None if it is not known.

        Go kit ignores fields that nobody knows, and those that are missing are zero.
        """
        schema = _part(endpoint, "request")
        if schema is None:
            return None
        placed = self._placed(endpoint.service, schema)
        if endpoint.wire != "gokit":
            return placed
        loose = {"required", "additionalProperties"}
        plain = self.resolve(placed)
        return {key: value for key, value in plain.items() if key not in loose}

    def response(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schema of a result, as it is on the wire; ``{}`` for anything."""
        schema = _part(endpoint, "response")
        if schema is None:
            return {}
        placed = self._placed(endpoint.service, schema)
        if endpoint.wire == "gokit" and self.resolve(placed).get("type") != "object":
            return {"type": "object", "properties": {"v": placed}}
        return placed

    def items(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schema of the items that go in; ``{}`` for anything."""
        schema = _part(endpoint, "items")
        return {} if schema is None else self._placed(endpoint.service, schema)

    def errors(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schemas of an endpoint's own errors, by name."""
        errors = (endpoint.schema or {}).get("errors")
        if not isinstance(errors, dict):
            return {}
        return {
            name: self._placed(endpoint.service, schema)
            for name, schema in sorted(errors.items())
            if isinstance(schema, dict)
        }

    def resolve(self, schema: Any) -> Mapping[str, Any]:
        """Return `schema` itself, or the component that it refers to."""
        return resolve(schema, {"components": {"schemas": self.schemas}})

    def is_bytes(self, schema: Any) -> bool:
        """Tell whether a value may be bytes: in JSON, base64."""
        document = {"components": {"schemas": self.schemas}}
        return any("contentEncoding" in one for one in alternatives(schema, document))

    def _placed(self, service: str, document: dict[str, Any]) -> dict[str, Any]:
        bare = {key: value for key, value in document.items() if key != "$defs"}
        found = rewritten(bare, self._renamer(service, document))
        return found if isinstance(found, dict) else {}

    def _renamer(self, service: str, document: dict[str, Any]) -> Callable[[str], str]:
        """Return what makes references to definitions lead to components."""

        def rename(reference: str) -> str:
            if not reference.startswith(_DEFS):
                return reference
            name = reference.removeprefix(_DEFS)
            return _PREFIX + self._name(service, document, name)

        return rename

    def _name(self, service: str, document: dict[str, Any], name: str) -> str:
        """Return the component's name for a definition in one service's document."""
        plain = _BAD.sub("_", name) or "_"
        if name not in self._ambiguous and plain not in _FORBIDDEN:
            return plain
        key = service, name, _meaning(document, name)
        if key not in self._names:
            base = f"{service}.{plain}"
            taken = set(self._names.values())
            number = 1
            while (chosen := base if number == 1 else f"{base}-{number}") in taken:
                number += 1
            self._names[key] = chosen
        return self._names[key]


def _documents(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an endpoint's schemas, each with its ``$defs``."""
    errors = schema.get("errors")
    parts = [schema.get("request"), schema.get("response"), schema.get("items")]
    parts += errors.values() if isinstance(errors, dict) else ()
    for part in parts:
        if isinstance(part, dict):
            yield part


def _part(endpoint: CatalogEndpoint, name: str) -> dict[str, Any] | None:
    part = (endpoint.schema or {}).get(name)
    return part if isinstance(part, dict) else None


def _definitions(document: dict[str, Any]) -> dict[str, Any]:
    definitions = document.get("$defs")
    return definitions if isinstance(definitions, dict) else {}


def _meaning(document: dict[str, Any], name: str) -> str:
    """Return text that is the same for types that mean the same."""
    definitions = _definitions(document)
    seen: dict[str, Any] = {}
    waiting = [name]
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen[at] = definitions.get(at, {})
            waiting += [found.removeprefix(_DEFS) for found in references(seen[at])]
    return json.dumps(_opened(seen), sort_keys=True, default=str)


def _opened(schema: Any) -> Any:
    """Return `schema` without the word that other fields are refused."""
    if isinstance(schema, list):
        return [_opened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _DATA else _opened(value)
        for key, value in schema.items()
        if (key, value) != ("additionalProperties", False)
    }


def _refusals(schema: Any) -> int:
    """Return in how many places a schema refuses other fields."""
    return json.dumps(schema, default=str).count('"additionalProperties": false')
