"""The OpenAPI document of what is mounted.  Source: OpenAPI 3.1.0, JSON Schema 2020-12.

The same table gives the same document, byte for byte.  A service without schemas gets a
free-form object.
"""

from __future__ import annotations

from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import msgspec

import kitmsg
from kitmsg.codec import JSON, RAW
from kitmsg.schema.places import HEADER_KEY
from kitmsg.schema.samples import NONE, Samples
from kitmsg_gateways.http.body import BODYLESS
from kitmsg_gateways.http.call import MAX_SECONDS, MIN_SECONDS
from kitmsg_gateways.http.events.operations import event_paths, event_schemas
from kitmsg_gateways.http.openapi.responses import (
    BYTES,
    STREAM_NOTES,
    Responses,
    media_types,
    stream_body,
    with_example,
)
from kitmsg_gateways.http.openapi.schemas import Components

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg_gateways.edge.events import EventDoor
    from kitmsg_gateways.http.methods import Mounted, Table
    from kitmsg_gateways.http.options import GatewayOptions
    from kitmsg_gateways.http.router import Route

__all__ = ["SCHEMAS", "document", "schemes_of"]

SCHEMAS: Final = "/schemas/"
"""Where the schemas of an endpoint are, by their hash."""

_TEXT: Final = {"type": "string"}
_TIMEOUT_REF: Final = {"$ref": "#/components/parameters/RequestTimeout"}

_CONSTANT: Final = files("kitmsg_gateways.http").joinpath("static/openapi.json")
"""The parts that every document has: JSON-RPC, problems, the timeout header."""


def document(
    table: Table,
    *,
    title: str,
    schemes: Mapping[str, Any] | None = None,
    events: EventDoor | None = None,
) -> dict[str, Any]:
    """Return the document for a table of endpoints.

    Args:
        table: What is mounted.
        title: Of the API.
        schemes: Security schemes, one of which a client needs; see `schemes_of`.
        events: The open events; None for none.
    """
    schemas = [(each.service, each.schema or {}) for each in table.endpoints]
    components = Components([*schemas, *event_schemas(events)])
    found = _constant()
    found["info"] = {"title": title, "version": kitmsg.__version__}
    found["security"] = [{name: []} for name in schemes or ()]
    used = {r.target.service for r in table.router.routes}
    found["tags"] = [
        _tag(name, info) for name, info in table.services.items() if name in used
    ]
    paths = found["paths"] | _paths(table, components, schemes or ())
    paths |= event_paths(events, components)
    found["paths"] = dict(sorted(paths.items()))
    found["components"]["schemas"] |= components.schemas
    if schemes:
        found["components"]["securitySchemes"] = dict(schemes)
    if table.conflicts:
        found["x-conflicts"] = table.conflicts
    return found


def _constant() -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(_CONSTANT.read_bytes())
    components = found["components"]
    codes = [code.value for code in kitmsg.Code]
    components["schemas"]["Problem"]["properties"]["code"]["enum"] = codes
    seconds = components["parameters"]["RequestTimeout"]["schema"]
    seconds |= {"minimum": MIN_SECONDS, "maximum": MAX_SECONDS}
    return found


def schemes_of(options: GatewayOptions) -> dict[str, Any]:
    """Return the security schemes that the options ask for, by name."""
    found: dict[str, Any] = {}
    if options.jwt_key or options.jwks_url:
        found["bearer"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    if options.basic_file:
        found["basic"] = {"type": "http", "scheme": "basic"}
    if options.api_keys:
        found["key"] = {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
    if options.tls_client_ca:
        found["certificate"] = {"type": "mutualTLS"}
    return found


def _tag(name: str, info: ServiceInfo) -> dict[str, Any]:
    described = {"description": info.description} if info.description else {}
    return {"name": name, **described, "x-version": info.version}


def _paths(
    table: Table, components: Components, schemes: Iterable[str]
) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    operations = _Operations(components, schemes)
    spellings: dict[tuple[str, ...], Counter[str]] = {}
    for route in table.router.routes:
        spellings.setdefault(_shape(route.template), Counter())[route.template] += 1
    for route in table.router.routes:
        # OpenAPI lets a path be spelled in one way only: as most of its routes do.
        ((path, _),) = spellings[_shape(route.template)].most_common(1)
        operation = operations.of(route, _names(path))
        paths.setdefault(path, {})[route.method.lower()] = operation
    return paths


def _shape(template: str) -> tuple[str, ...]:
    return tuple("{}" if s.startswith("{") else s for s in template.split("/"))


def _names(template: str) -> list[str]:
    return [s[1:-1] for s in template.split("/") if s.startswith("{")]


def _operation_id(route: Route[Mounted]) -> str:
    """Return the name of an operation; an endpoint has up to three routes."""
    mounted, method = route.target, route.method.lower()
    if route.template != mounted.path:
        return f"{mounted.dotted}.{method}"
    return mounted.dotted if method == "post" else f"{mounted.dotted}.own-{method}"


def _takes_items(mounted: Mounted) -> bool:
    return mounted.stream in ("in", "both")


class _Operations:
    """Describes routes.

    Args:
        components: Where named schemas are.
        schemes: Names of the security schemes, one of which a client needs.
    """

    def __init__(self, components: Components, schemes: Iterable[str]) -> None:
        self._schemes = tuple(schemes)
        self._components = components
        self._responses = Responses(components)
        self._samples = Samples(components.resolve)
        self._rough = Samples(components.resolve, is_rough=True)

    def of(self, route: Route[Mounted], names: list[str]) -> dict[str, Any]:
        """Return the operation of a route.

        Args:
            route: Where an endpoint is mounted.
            names: How its path's parameters are spelled in the document.
        """
        mounted = route.target
        summary, _, _ = mounted.description.partition(". ")
        request = self._components.request(mounted)
        facts = {
            "x-schema": f"{SCHEMAS}{mounted.hash}" if mounted.schema else None,
            "x-timeout": mounted.timeout,
            "x-idempotent": mounted.is_idempotent or None,
            "x-stream": mounted.stream or None,
            "x-declared": mounted.declares(route) or None,
            "x-allow": mounted.allow and str(mounted.allow),
            "security": self._security(mounted),
        }
        operation: dict[str, Any] = {
            "operationId": _operation_id(route),
            "tags": [mounted.service],
            "summary": summary.rstrip(".") or mounted.dotted,
            "description": mounted.description,
            "parameters": self._parameters(route, names, request),
            "responses": self._responses.of(mounted, route.method),
            "x-subject": mounted.subject,
            **{name: fact for name, fact in facts.items() if fact is not None},
        }
        if mounted.stream:
            note = STREAM_NOTES.get(mounted.stream, "")
            operation["description"] = f"{mounted.description} {note}".strip()
        if route.method not in BODYLESS:
            operation["requestBody"] = self._body(route, request)
        return operation

    def _security(self, mounted: Mounted) -> list[dict[str, list[str]]] | None:
        """Return what a client needs beside credentials: scopes and roles; None for no more.

        OpenAPI 3.1 lists them with a scheme of any type.
        """
        if mounted.allow is None or not self._schemes:
            return None
        found = [
            {scheme: [o.text.partition(":")[2] for o in each if ":" in o.text]}
            for each in mounted.allow.alternatives
            for scheme in self._schemes
        ]
        return found if any(any(one.values()) for one in found) else None

    def _parameters(
        self,
        route: Route[Mounted],
        names: list[str],
        request: Mapping[str, Any] | None,
    ) -> list[dict[str, Any]]:
        properties, required = self._fields(request)
        is_bodyless = route.method in BODYLESS or _takes_items(route.target)
        headers = route.target.parameters.headers
        found = [
            self._parameter(spelled, "path", properties.get(name, _TEXT), True)
            for name, spelled in zip(route.names, names, strict=True)
        ]
        for name, schema in properties.items():
            if name in headers:
                is_needed = name in required
                bare = {k: v for k, v in schema.items() if k != HEADER_KEY}
                found.append(self._parameter(headers[name], "header", bare, is_needed))
            elif is_bodyless and name not in route.names:
                found.append(self._parameter(name, "query", schema, name in required))
        return [*found, _TIMEOUT_REF]

    def _parameter(
        self, name: str, where: str, schema: Any, is_required: bool
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"name": name, "in": where, "required": is_required}
        if isinstance(schema, dict) and "description" in schema:
            found["description"] = schema["description"]
        content = with_example({"schema": schema}, self._samples)
        if self._components.resolve(schema).get("type") == "object":
            return {**found, "content": {JSON.content_type: content}}
        return {**found, **content}

    def _fields(
        self, request: Mapping[str, Any] | None
    ) -> tuple[dict[str, Any], frozenset[str]]:
        """Return a request's properties and the names of those that must be there."""
        plain = self._components.resolve(request or {})
        properties, required = plain.get("properties"), plain.get("required")
        names = required if isinstance(required, list) else ()
        return (
            properties if isinstance(properties, dict) else {},
            frozenset(name for name in names if isinstance(name, str)),
        )

    def _body(
        self, route: Route[Mounted], request: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """Return the body: items, or the request without what path and headers took."""
        mounted = route.target
        if _takes_items(mounted):
            return stream_body(self._components.items(mounted), self._samples)
        if request is None:
            schema: Any = {"type": "object", "additionalProperties": True}
            return {"content": {JSON.content_type: {"schema": schema, "x-sample": {}}}}
        taken = (*route.names, *mounted.parameters.headers)
        properties, required = self._fields(request)
        left = required - {*taken}
        schema = request
        if taken:
            plain = self._components.resolve(request)
            kept = {n: value for n, value in properties.items() if n not in taken}
            schema = {**plain, "properties": kept, "required": sorted(left)}
            schema.pop("title", None)
        spoken = media_types(mounted, schema, self._samples)
        if "example" not in spoken[JSON.content_type]:  # the docs page starts with it
            rough = self._rough.of(schema)
            spoken[JSON.content_type]["x-sample"] = {} if rough is NONE else rough
        if self._takes_raw({*properties} - {*taken}, left, properties):
            spoken[RAW.content_type] = BYTES
        return {"required": bool(left), "content": spoken}

    def _takes_raw(
        self, names: set[str], required: frozenset[str], properties: Mapping[str, Any]
    ) -> bool:
        """Tell whether a body may be the one parameter of bytes that is left for it."""
        found = {n for n in names if self._components.is_bytes(properties[n])}
        return len(found) == 1 and required <= found
