"""The OpenAPI document of what is mounted.  Source: OpenAPI 3.1.0, JSON Schema 2020-12.

The same table gives the same document, byte for byte.  A service without schemas gets a
free-form object.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import kitmsg
from gateways.http import problem
from gateways.http.components import Components
from kitmsg.codec import JSON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gateways.http.mount import Mounted, Table
    from gateways.http.router import Route

__all__ = ["document"]

_TEXT: Final = {"type": "string"}
_BODYLESS: Final = frozenset({"GET", "HEAD", "DELETE"})
_PROBLEM_REF: Final = {"$ref": "#/components/schemas/Problem"}
_TIMEOUT_REF: Final = {"$ref": "#/components/parameters/RequestTimeout"}

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "Kind of problem, as a URN."},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "description": "HTTP status."},
        "detail": {"type": "string", "description": "What was wrong, for people."},
        "instance": {"type": "string", "description": "Path of the request."},
        "code": {
            "enum": [code.value for code in kitmsg.Code],
            "description": "Kind of error, in gRPC's names.",
        },
        "request_id": {"type": "string", "description": "As in the logs."},
        "field": {"type": "string", "description": "What is to blame."},
        "retry_after": {"type": "number", "description": "Seconds to wait."},
        "error": {"type": "string", "description": "The service's own error type."},
        "details": {"description": "The fields of that error."},
    },
}
_TIMEOUT: Final[dict[str, Any]] = {
    "name": "Request-Timeout",
    "in": "header",
    "description": "Seconds that the call may take.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_STATUSES: Final = {
    "400": "The request does not fit; `field` says where.",
    "429": "The service is full; `retry_after` says when to come back.",
    "503": "Nobody can do it now.",
    "504": "It took too long.",
}


def document(table: Table, *, title: str) -> dict[str, Any]:
    """Return the document for a table of endpoints."""
    components = Components(
        [(endpoint.service, endpoint.schema or {}) for endpoint in table.endpoints]
    )
    used = {r.target.service for r in table.router.routes}
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": kitmsg.__version__},
        "tags": [
            {"name": name, "description": info.description, "x-version": info.version}
            for name, info in table.services.items()
            if name in used
        ],
        "paths": _paths(table, components),
        "components": {
            "schemas": {"Problem": _PROBLEM, **components.schemas},
            "parameters": {"RequestTimeout": _TIMEOUT},
            "responses": {"Problem": _response("Any other error.", _PROBLEM_REF)},
        },
    }
    if table.conflicts:
        found["x-conflicts"] = table.conflicts
    return found


def _paths(table: Table, components: Components) -> dict[str, Any]:
    paths: dict[str, dict[str, Any]] = {}
    spellings: dict[tuple[str, ...], Counter[str]] = {}
    for route in table.router.routes:
        spellings.setdefault(_shape(route.template), Counter())[route.template] += 1
    for route in table.router.routes:
        # OpenAPI lets a path be spelled in one way only: as most of its routes do.
        ((path, _),) = spellings[_shape(route.template)].most_common(1)
        operation = _operation(route, _names(path), components)
        paths.setdefault(path, {})[route.method.lower()] = operation
    return dict(sorted(paths.items()))


def _shape(template: str) -> tuple[str, ...]:
    return tuple("{}" if s.startswith("{") else s for s in template.split("/"))


def _names(template: str) -> list[str]:
    return [s[1:-1] for s in template.split("/") if s.startswith("{")]


def _operation(
    route: Route[Mounted], names: list[str], components: Components
) -> dict[str, Any]:
    mounted = route.target
    own = f"{mounted.service}.{mounted.name}"
    is_own = route.template == mounted.path
    summary, _, _ = mounted.description.partition(". ")
    request = components.request(mounted)
    operation: dict[str, Any] = {
        "operationId": own if is_own else f"{own}.{route.method.lower()}",
        "tags": [mounted.service],
        "summary": summary.rstrip(".") or own,
        "description": mounted.description,
        "parameters": _parameters(route, names, request, components),
        "responses": _responses(mounted, components),
        "x-subject": mounted.subject,
    }
    if mounted.timeout is not None:
        operation["x-timeout"] = mounted.timeout
    if mounted.is_idempotent:
        operation["x-idempotent"] = True
    if route.method not in _BODYLESS:
        operation["requestBody"] = _body(request, route.names, components)
    return operation


def _parameters(
    route: Route[Mounted],
    names: list[str],
    request: Mapping[str, Any] | None,
    components: Components,
) -> list[dict[str, Any]]:
    properties, required = _fields(request, components)
    found = [
        _parameter(spelled, "path", properties.get(name, _TEXT), True, components)
        for name, spelled in zip(route.names, names, strict=True)
    ]
    if route.method in _BODYLESS:
        found += [
            _parameter(name, "query", schema, name in required, components)
            for name, schema in properties.items()
            if name not in route.names
        ]
    return [*found, _TIMEOUT_REF]


def _parameter(
    name: str,
    where: str,
    schema: Any,
    is_required: bool,
    components: Components,
) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "in": where, "required": is_required}
    if isinstance(schema, dict) and "description" in schema:
        found["description"] = schema["description"]
    if components.resolve(schema).get("type") == "object":
        found["content"] = {JSON.content_type: {"schema": schema}}
    else:
        found["schema"] = schema
    return found


def _fields(
    request: Mapping[str, Any] | None, components: Components
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the properties of a request and the names of those that must be there."""
    plain = components.resolve(request or {})
    properties, required = plain.get("properties"), plain.get("required")
    return (
        properties if isinstance(properties, dict) else {},
        frozenset(
            name
            for name in (required if isinstance(required, list) else ())
            if isinstance(name, str)
        ),
    )


def _body(
    request: Mapping[str, Any] | None, taken: tuple[str, ...], components: Components
) -> dict[str, Any]:
    """Return the body: the request without what the path has taken."""
    if request is None:
        schema: Any = {"type": "object", "additionalProperties": True}
        return {"content": {JSON.content_type: {"schema": schema}}}
    _, required = _fields(request, components)
    left = required - {*taken}
    schema = request
    if taken:
        plain = components.resolve(request)
        properties = {
            name: value
            for name, value in plain.get("properties", {}).items()
            if name not in taken
        }
        schema = {**plain, "properties": properties, "required": sorted(left)}
        schema.pop("title", None)
    return {
        "required": bool(left),
        "content": {JSON.content_type: {"schema": schema}},
    }


def _responses(mounted: Mounted, components: Components) -> dict[str, Any]:
    success = {
        "description": "The result.",
        "content": {JSON.content_type: {"schema": components.response(mounted)}},
    }
    known = {
        status: _response(text, _PROBLEM_REF) for status, text in _STATUSES.items()
    }
    typed = components.errors(mounted)
    other: dict[str, Any] = {"$ref": "#/components/responses/Problem"}
    if typed:
        variants = [_typed(name, schema) for name, schema in typed.items()]
        names = ", ".join(typed)
        other = _response(
            f"Any other error; {names} among them.",
            {"anyOf": [*variants, _PROBLEM_REF]},
        )
    return {"200": success, **known, "default": other}


def _response(description: str, schema: Any) -> dict[str, Any]:
    content = {problem.CONTENT_TYPE: {"schema": schema}}
    return {"description": description, "content": content}


def _typed(name: str, schema: Any) -> dict[str, Any]:
    """Return the schema of a problem that carries one of a service's own errors."""
    properties = {"error": {"const": name}, "details": schema}
    return {
        "allOf": [
            _PROBLEM_REF,
            {
                "type": "object",
                "required": ["error", "details"],
                "properties": properties,
            },
        ]
    }
