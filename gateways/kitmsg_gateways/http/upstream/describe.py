"""The operations of an OpenAPI document as endpoints.  Source: OpenAPI 3.0.3 and 3.1.0.

A request has one field for each parameter, and the fields of the body beside them; a body
that is no object, or whose fields have the names of parameters, is the field ``body``.
An operation that cannot be carried is left out, with a warning that says why.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kitmsg.discovery.subject import check_version
from kitmsg.schema.instances import validator
from kitmsg.schema.places import HEADER_KEY, is_free_header
from kitmsg.service.described import describe
from kitmsg_gateways.http.upstream.call import HttpMethod
from kitmsg_gateways.http.upstream.document import (
    Body,
    Unreadable,
    body_of,
    complete,
    errors_of,
    follow,
    modern,
    response_of,
)
from kitmsg_gateways.http.upstream.offer import IDEMPOTENT
from kitmsg_gateways.http.upstream.operation import (
    UNSAID,
    Field,
    Operation,
    Style,
    plain,
    reading,
)
from kitmsg_gateways.http.upstream.reply import plain_reader
from kitmsg_gateways.upstream.offers import only as chosen

__all__ = ["Document", "read_document"]

_log = logging.getLogger("kitmsg_gateways.upstream")

_METHODS: Final = ("get", "head", "post", "put", "patch", "delete")
# Anything may stand anywhere in a document.
_FAULTS: Final = AttributeError, LookupError, RecursionError, TypeError, ValueError
_BAD: Final = re.compile(r"[^A-Za-z0-9_-]+")
_SEGMENT: Final = re.compile(
    r"/\{([A-Za-z_][A-Za-z0-9_]*)\}|/[A-Za-z0-9._~!$&'()*+,;=:@-]+"
)
# What the toolkit itself says with each call, or HTTP does.
_OURS: Final = frozenset(
    {
        "accept",
        "content-type",
        "authorization",
        "request-timeout",
        "x-request-timeout-ms",
    }
)
_STYLES: Final[dict[tuple[str, bool], Style]] = {
    ("form", True): "repeat",
    ("form", False): "comma",
    ("spaceDelimited", False): "space",
    ("pipeDelimited", False): "pipe",
    ("deepObject", True): "deep",
}


@dataclass(frozen=True, slots=True)
class Document:
    """The endpoints of a document, and what it says of the API.

    Attributes:
        title: Of the API.
        version: Semantic version; "" if the document's is none.
        servers: Addresses, absolute ones only.
        offers: The endpoints.
        left_out: Why an operation is none, by its name.
    """

    title: str
    version: str
    servers: tuple[str, ...]
    offers: tuple[HttpMethod, ...]
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """One operation, as it stands in the document."""

    name: str
    label: str
    method: str
    path: str
    own: Mapping[str, Any]
    shared: Sequence[Any]


def read_document(
    document: Mapping[str, Any], *, service: str, only: Sequence[str] = ()
) -> Document:
    """Return the endpoints of a document.

    Args:
        document: Parsed already.
        service: Name of the service that they make.
        only: Names of the endpoints that are wanted; all if empty.

    Raises:
        ValueError: It is no OpenAPI 3 document, two operations have one name, one that is
            wanted is not there or cannot be carried, or none is left.
    """
    given: object = document
    version = str(document.get("openapi", "")) if isinstance(given, Mapping) else ""
    if not version.startswith("3."):
        raise ValueError(
            "this is no OpenAPI 3 document: it does not begin with 'openapi: 3.x'"
        )
    found = chosen(_named(document), only, "the document")
    offers: list[HttpMethod] = []
    left_out: dict[str, str] = {}
    names = {each.name for each in found}
    for each in found:
        try:
            offers.append(_offer(each, document, service, names))
        except _FAULTS as exc:
            is_told = isinstance(exc, Unreadable)
            why = str(exc) if is_told else f"it is not as OpenAPI has it: {exc}"
            if only:
                raise ValueError(f"{each.label} cannot be served: {why}") from exc
            left_out[each.name] = why
            _log.warning("%s: %s is left out: %s", service, each.label, why)
    if not offers:
        raise ValueError("the document has no operation that can be served")
    info = document.get("info")
    info = info if isinstance(info, Mapping) else {}
    return Document(
        str(info.get("title", "")),
        _version(str(info.get("version", ""))),
        _servers(document),
        tuple(offers),
        left_out,
    )


def _version(text: str) -> str:
    try:
        return check_version(text, "the document")
    except ValueError:
        return ""


def _servers(document: Mapping[str, Any]) -> tuple[str, ...]:
    listed = document.get("servers")
    urls = [
        str(server.get("url", ""))
        for server in (listed if isinstance(listed, list) else ())
        if isinstance(server, Mapping)
    ]
    return tuple(
        u for u in urls if u.startswith(("http://", "https://")) and "{" not in u
    )


def _named(document: Mapping[str, Any]) -> dict[str, _Found]:
    """Return all operations by name.

    Raises:
        ValueError: Two have one name.
    """
    by_name: dict[str, _Found] = {}
    for each in _operations(document):
        there = by_name.setdefault(each.name, each)
        if there is not each:
            raise ValueError(
                f"{there.label} and {each.label} would both be the endpoint"
                f" {each.name!r}; give one another operationId"
            )
    return by_name


def _operations(document: Mapping[str, Any]) -> Iterator[_Found]:
    paths = document.get("paths")
    for path, item in paths.items() if isinstance(paths, Mapping) else ():
        if not isinstance(item, Mapping):
            continue
        for method in _METHODS:
            own = item.get(method)
            if isinstance(own, Mapping):
                id_ = str(own.get("operationId") or "")
                name = _BAD.sub("_", id_ or f"{method}{path}").strip("_-")
                label = f"{method.upper()} {path}" + (f" ({id_})" if id_ else "")
                shared = item.get("parameters") or ()
                yield _Found(name or method, label, method.upper(), path, own, shared)


def _offer(
    found: _Found, document: Mapping[str, Any], service: str, names: set[str]
) -> HttpMethod:
    """Return one operation as an endpoint; any error says that it cannot be one."""
    parameters = _parameters(found, document)
    body = body_of(found.own.get("requestBody"), document, taken=set(parameters))
    request = complete(_request(parameters, body), document)
    validator(request)
    fields = {name: _place(p, request) for name, p in parameters.items()}
    fields |= {name: Field("body", name) for name in body.fields}
    made = Operation(
        method=found.method,
        path=found.path,
        fields=fields,
        rest="body" if body.is_open else "",
        required=tuple(request["required"]),
        body=body.whole,
        content_type=body.content_type,
    )
    result = response_of(found.own.get("responses"), document)
    response = complete(result.schema, document)
    text = str(found.own.get("summary") or found.own.get("description") or "")
    declaration = describe(
        service,
        found.name,
        request=request,
        response=response,
        gives_items=result.is_stream,
        doc=" ".join(text.partition("\n\n")[0].split()),
        http=_route(found, service, names),
        idempotent=found.method in IDEMPOTENT,
        raises=errors_of(found.own.get("responses"), document),
    )
    read = plain_reader(declaration.subject, response)
    return HttpMethod(declaration, made, plain, read)


def _route(found: _Found, service: str, names: set[str]) -> str:
    """Return where an HTTP gateway shows it: below the service's name; "" if nowhere.

    A path that could be another endpoint's own is left to that.
    """
    whole = re.fullmatch(f"(?:{_SEGMENT.pattern})+", found.path)
    if whole is None or found.path.strip("/") in names:
        return ""
    return f"{found.method} /{service}{found.path}"


def _parameters(
    found: _Found, document: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Return the parameters by the names that they have in the request."""
    by_place: dict[tuple[str, str], Mapping[str, Any]] = {}
    for each in (*found.shared, *(found.own.get("parameters") or ())):
        one = follow(each, document)
        by_place[str(one.get("in")), str(one.get("name"))] = one
    chosen: dict[str, Mapping[str, Any]] = {}
    for (place, name), one in by_place.items():
        if place == "header" and name.lower() in _OURS:
            continue
        if place == "cookie":
            if one.get("required"):
                raise Unreadable(f"it needs the cookie {name!r}")
            continue
        if place not in ("path", "query", "header"):
            raise Unreadable(f"its parameter {name!r} is in {place!r}")
        chosen[f"{place}_{name}" if name in chosen else name] = one
    for name in re.findall(r"\{([^{}/]+)\}", found.path):
        if ("path", name) not in by_place:
            chosen[name] = {"name": name, "in": "path", "required": True}
    return chosen


def _request(parameters: Mapping[str, Mapping[str, Any]], body: Body) -> dict[str, Any]:
    """Return the schema of the request: parameters and body in one object."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for name, one in parameters.items():
        schema = modern(_content(one) or one.get("schema") or {"type": "string"})
        if one.get("description"):
            schema = {"description": str(one["description"]), **schema}
        wire = str(one["name"])
        if one["in"] == "header" and is_free_header(wire):
            schema = {**schema, HEADER_KEY: wire}
        properties[name] = schema
        if one.get("required") or one["in"] == "path":
            required.append(name)
    return {
        "type": "object",
        "properties": {**properties, **body.fields},
        "required": [*required, *body.required],
        "additionalProperties": body.is_open,
    }


def _content(parameter: Mapping[str, Any]) -> Any:
    """Return the schema of a parameter that is written as JSON; None for any other."""
    content = parameter.get("content")
    if not isinstance(content, Mapping):
        return None
    kind = next(iter(content), "")
    if not kind.startswith("application/json"):
        raise Unreadable(
            f"its parameter {parameter.get('name')!r} is written as {kind!r}"
        )
    return (content[kind] or {}).get("schema") or {}


def _place(one: Mapping[str, Any], request: Mapping[str, Any]) -> Field:
    """Return where a parameter goes, and how it is written there."""
    wire, place = str(one["name"]), one["in"]
    if place != "query":
        style = one.get("style", "simple")
        if style != "simple":
            raise Unreadable(f"its parameter {wire!r} has the style {style!r}")
        return Field(place, wire)
    schema = modern(one.get("schema") or {})
    if _content(one) is not None:
        return Field("query", wire, "json")
    style = str(one.get("style", "form"))
    way = (style, bool(one.get("explode", style in ("form", "deepObject"))))
    if way not in _STYLES:
        raise Unreadable(f"its parameter {wire!r} has the style {style!r}, unusually")
    if _STYLES[way] != "deep" and schema.get("type") == "object":
        raise Unreadable(f"its parameter {wire!r} is an object, written as {style!r}")
    is_sure = bool(one.get("required"))
    default = ... if is_sure else schema.get("default", UNSAID)
    read = reading(wire, schema, request) if _STYLES[way] == "repeat" else None
    return Field("query", wire, _STYLES[way], default=default, reading=read)
