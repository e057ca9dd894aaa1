"""Named schemas of all services, brought together under ``#/components/schemas``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.schema.definitions import Definitions
from kitmsg.schema.pointers import alternatives, resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kitmsg.discovery.catalog import CatalogEndpoint

__all__ = ["Components"]

_PREFIX: Final = "#/components/schemas/"
_RESERVED: Final = frozenset({"Problem", "RpcRequest", "RpcResponse"})


class Components(Definitions):
    """The schemas of some endpoints, with references that fit an OpenAPI document.

    Args:
        schemas: The schemas of an endpoint as its service tells them, with the service's
            name; in the order that decides who is named first.
    """

    def __init__(self, schemas: Iterable[tuple[str, dict[str, Any]]]) -> None:
        documents = ((owner, each) for owner, s in schemas for each in _documents(s))
        super().__init__(documents, _PREFIX, _RESERVED)

    def request(self, endpoint: CatalogEndpoint) -> dict[str, Any] | None:
        """Return the schema of a request, as it is on the wire; None if it is not known.

        Go kit ignores fields that nobody knows, and those that are missing are zero.
        """
        schema = _part(endpoint, "request")
        if schema is None:
            return None
        placed = self.placed(endpoint.service, schema)
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
        placed = self.placed(endpoint.service, schema)
        if endpoint.wire == "gokit" and self.resolve(placed).get("type") != "object":
            return {"type": "object", "properties": {"v": placed}}
        return placed

    def items(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schema of the items that go in; ``{}`` for anything."""
        schema = _part(endpoint, "items")
        return {} if schema is None else self.placed(endpoint.service, schema)

    def errors(self, endpoint: CatalogEndpoint) -> dict[str, Any]:
        """Return the schemas of an endpoint's own errors, by name."""
        errors = (endpoint.schema or {}).get("errors")
        if not isinstance(errors, dict):
            return {}
        return {
            name: self.placed(endpoint.service, schema)
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
