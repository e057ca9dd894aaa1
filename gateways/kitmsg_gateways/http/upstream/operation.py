"""Encodes a request object as an HTTP request, by the place of each field.

Path, query, header or body, as an `Operation` says, which comes from a route and a schema
here or from an OpenAPI document.  Values travel as the HTTP gateway reads them: lists
repeat their name, objects are JSON text.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

import msgspec

from kitmsg.codec import JSON
from kitmsg.errors import InvalidArgument
from kitmsg.schema.places import HEADER_KEY
from kitmsg.schema.pointers import resolve
from kitmsg_gateways.http.bind import Parameters

__all__ = [
    "FORM",
    "Field",
    "HttpRequest",
    "Operation",
    "Rest",
    "Style",
    "operation",
    "plain",
    "reading",
]

Place: TypeAlias = Literal["path", "query", "header", "body"]
Rest: TypeAlias = Literal["query", "body", ""]
Style: TypeAlias = Literal["repeat", "comma", "space", "pipe", "json", "deep"]

_BODYLESS: Final = frozenset({"GET", "HEAD", "DELETE"})
UNSAID: Final = object()
_ROUTE: Final = re.compile(r"(GET|HEAD|POST|PUT|PATCH|DELETE) (/[\x21-\x7e]*)")
_NAME: Final = re.compile(r"\{([^{}/]+)\}")
_HEADER: Final = re.compile(r"[\x20-\x7e]*")
_BETWEEN: Final[dict[str, str]] = {"comma": ",", "space": " ", "pipe": "|"}
FORM: Final = "application/x-www-form-urlencoded"

_encode: Final = JSON.encoder(Any)
_decode: Final = msgspec.json.Decoder().decode


@dataclass(slots=True)
class HttpRequest:
    """An HTTP request on its way out; hooks may change it.

    Attributes:
        method: Such as ``GET``.
        target: Path and query, percent-encoded; the server's own base comes before it.
        headers: By name.
        body: None for none.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """Place of one field of the request object in the HTTP request.

    Attributes:
        place: Path, query, header or body.
        wire: Its name there.
        style: How a list or an object is written there.
        default: The value that the server assumes without it; `UNSAID` if unknown.
        reading: Reads a value back, where its text could mean something else.
    """

    place: Place
    wire: str
    style: Style = "repeat"
    default: Any = UNSAID
    reading: Parameters | None = None

    def pairs(self, name: str, value: Any) -> list[tuple[str, str]]:
        """Return the query parameters that `value` becomes.

        Raises:
            InvalidArgument: The server would read something else.
        """
        if value is None and self.default in (UNSAID, None):
            return []
        if self.style == "json":
            return [(self.wire, _encode(value).decode())]
        if self.style == "deep" and isinstance(value, dict):
            return [(f"{self.wire}[{key}]", _text(item)) for key, item in value.items()]
        if isinstance(value, list):
            return self._list(name, value)
        return [(self.wire, self._told(name, value))]

    def _list(self, name: str, items: list[Any]) -> list[tuple[str, str]]:
        if not items and self.default not in (UNSAID, []):
            raise InvalidArgument(
                f"field {name!r} cannot be an empty list: it goes into the query, where"
                " that means its default",
                field=name,
            )
        if self.style in _BETWEEN:
            return [(self.wire, _joined(name, items, _BETWEEN[self.style]))]
        return [(self.wire, self._told(name, item)) for item in items]

    def _told(self, name: str, value: Any) -> str:
        """Return the text of a value; it must not read as another one."""
        text = _text(value)
        if self.reading is not None:
            query = urlencode({self.wire: text}, quote_via=quote)
            read = _decode(self.reading.build({}, query, b"", JSON))[self.wire]
            read = read[0] if isinstance(read, list) else read
            if read != value or type(read) is not type(value):
                raise InvalidArgument(
                    f"field {name!r} cannot be {text[:40]!r}: the query has no kinds of"
                    f" values, and the server would read {read!r}",
                    field=name,
                )
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One HTTP operation.

    Attributes:
        method: Such as ``GET``.
        path: Template, with ``{name}`` for parameters.
        fields: Where the fields go, by their names in the request.
        rest: Where other fields go; "" refuses them.
        required: Fields that must be there.
        body: Name of the field that is the whole body; "" when the body is an object of
            the fields that go there.
        content_type: Of the body.
    """

    method: str
    path: str
    fields: Mapping[str, Field] = field(default_factory=dict)
    rest: Rest = ""
    required: tuple[str, ...] = ()
    body: str = ""
    content_type: str = JSON.content_type

    def build(self, request: Mapping[str, Any]) -> HttpRequest:
        """Return the HTTP request for a request object of plain values.

        Raises:
            InvalidArgument: A field is missing, is not known, or has no form in its place.
        """
        for name in self.required:
            if name not in request:
                raise InvalidArgument(f"field {name!r} is missing", field=name)
        path: dict[str, str] = {}
        query: list[tuple[str, str]] = []
        body: dict[str, Any] = {}
        made = HttpRequest(self.method, "", {})
        for name, value in request.items():
            goes = self.fields.get(name) or self._other(name)
            if goes.place == "body":
                body[goes.wire] = value
            elif goes.place == "path":
                path[goes.wire] = _segment(name, value)
            elif goes.place == "query":
                query += goes.pairs(name, value)
            elif value is not None:
                made.headers[goes.wire] = _header(name, value)
        asked = f"?{urlencode(query, quote_via=quote)}" if query else ""
        made.target = self._path(path) + asked
        if body or (self.rest == "body" and not self.body):
            self._add_body(made, body)
        return made

    def _other(self, name: str) -> Field:
        if not self.rest:
            known = ", ".join(self.fields) or "none"
            raise InvalidArgument(
                f"field {name!r} is not known; known fields: {known}", field=name
            )
        return Field(self.rest, name)

    def _path(self, values: Mapping[str, str]) -> str:
        def fill(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise InvalidArgument(f"field {match[1]!r} is missing", field=match[1])
            return values[match[1]]

        return _NAME.sub(fill, self.path)

    def _add_body(self, made: HttpRequest, fields: Mapping[str, Any]) -> None:
        made.headers["Content-Type"] = self.content_type
        if not self.body:
            is_form = self.content_type == FORM
            made.body = _form(fields) if is_form else _encode(fields)
            return
        value = fields[self.body]
        if JSON.content_type in self.content_type or "+json" in self.content_type:
            made.body = _encode(value)
        else:
            made.body = _raw(self.body, value, self.content_type)


def operation(
    route: str, schema: Mapping[str, Any] | None = None, *, rest: Rest = ""
) -> Operation:
    """Return the operation of a route such as ``GET /users/{id}``.

    A field that is not in the path goes into the query of a GET, HEAD or DELETE, and a JSON
    body otherwise; a field whose schema names a header goes there.

    Args:
        route: Method and path template.
        schema: JSON Schema of the request, if it is known.
        rest: Where what is not in the path goes, if it is not as above.

    Raises:
        ValueError: It is no route.
    """
    matched = _ROUTE.fullmatch(route)
    if matched is None:
        raise ValueError(f"{route!r} is not a route such as 'GET /users/{{id}}'")
    method, path = matched.groups()
    names = _NAME.findall(path)
    rest = rest or ("query" if method in _BODYLESS else "body")
    root = schema or {}
    top = resolve(root, root)
    properties = top.get("properties", {})
    needed = top.get("required", ())
    fields = {n: _field_of(n, root, rest, required=n in needed) for n in properties}
    fields.update({name: Field("path", name) for name in names})
    required = [*names, *(n for n in needed if n not in names)]
    return Operation(
        method=method, path=path, fields=fields, rest=rest, required=tuple(required)
    )


def _field_of(
    name: str, root: Mapping[str, Any], rest: Place, *, required: bool
) -> Field:
    schema = resolve(root, root)["properties"][name]
    header = schema.get(HEADER_KEY) if isinstance(schema, Mapping) else None
    if isinstance(header, str):
        return Field("header", header)
    if rest != "query" or not isinstance(schema, Mapping):
        return Field(rest, name)
    # A field that must be there has no default: whatever it is, it is written.
    default = ... if required else schema.get("default", UNSAID)
    return Field("query", name, default=default, reading=reading(name, schema, root))


def reading(
    name: str, schema: Mapping[str, Any], root: Mapping[str, Any]
) -> Parameters | None:
    """Return what reads a parameter back; None where its text can mean one thing only."""
    whole = {"$defs": root.get("$defs", {}), "properties": {name: schema}}
    is_clear = resolve(schema, root).get("type") in ("boolean", "integer", "string")
    return None if is_clear else Parameters(whole)


def plain(request: Any) -> Any:
    """Return a request as JSON's own kinds of values: bytes as base64, times as text.

    Raises:
        InvalidArgument: It has no form in JSON.
    """
    try:
        return _decode(_encode(request))
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise InvalidArgument(f"the request has no form in JSON: {exc}") from exc


def _text(value: Any) -> str:
    """Return a value as the text of a parameter."""
    return value if isinstance(value, str) else _encode(value).decode()


def _joined(name: str, items: list[Any], between: str) -> str:
    """Return the items of a list as one text.

    Raises:
        InvalidArgument: It would read as other items.
    """
    texts = [_text(item) for item in items]
    if any(between in text for text in texts):
        raise InvalidArgument(
            f"field {name!r} cannot have {between!r} in an item: it stands between them",
            field=name,
        )
    return between.join(texts)


def _segment(name: str, value: Any) -> str:
    texts = [_text(item) for item in (value if isinstance(value, list) else [value])]
    whole = ",".join(texts)
    if value is None or whole in ("", ".", ".."):
        # Such a path would lead elsewhere.
        raise InvalidArgument(
            f"field {name!r} is part of a path and cannot be {whole!r}", field=name
        )
    return ",".join(quote(text, safe="") for text in texts)


def _header(name: str, value: Any) -> str:
    text = _joined(name, value, ",") if isinstance(value, list) else _text(value)
    if not _HEADER.fullmatch(text) or text != text.strip():
        raise InvalidArgument(
            f"field {name!r} goes into a header and must be printable ASCII without"
            " blanks around it",
            field=name,
        )
    return text


def _form(fields: Mapping[str, Any]) -> bytes:
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        pairs += Field("body", name).pairs(name, value)
    return urlencode(pairs).encode()


def _raw(name: str, value: Any, content_type: str) -> bytes:
    """Return a body that is not JSON: text, or bytes that came as base64."""
    if not isinstance(value, str):
        raise InvalidArgument(f"field {name!r} must be text or bytes", field=name)
    if content_type.startswith("text/"):
        return value.encode()
    try:
        return base64.b64decode(value, validate=True)
    except ValueError as exc:
        raise InvalidArgument(f"field {name!r} must be base64", field=name) from exc
