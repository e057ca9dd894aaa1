"""Request body, response and typed errors of an OpenAPI operation.

A kitmsg gateway describes a typed error as a problem whose ``error`` is a name and whose
``details`` are its fields.  Such an error goes on with its name and fields, so that a typed
client on the bus raises its own class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kitmsg.errors import BusinessError, Code
from kitmsg_gateways.http.upstream.document import Unreadable, follow, modern
from kitmsg_gateways.http.upstream.operation import FORM
from kitmsg_gateways.upstream.errors import error_class

__all__ = ["STREAMS", "Body", "Result", "body_of", "errors_of", "response_of"]

STREAMS: Final = ("text/event-stream", "application/x-ndjson", "application/jsonl")
"""Media types of streams: each event, or each line, is an item."""

_WHOLE: Final = "body"
_PROBLEM: Final = "application/problem+json"
_MAX_DEPTH: Final = 4
_BYTES: Final = {"type": "string", "contentEncoding": "base64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The body of a request.

    Attributes:
        fields: Schemas of the request's fields that go there, by name.
        required: Those that must be there.
        whole: Name of the field that is the body itself; "" if it is an object of them.
        is_open: Whether fields that are not named go there too.
        content_type: How it is written.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    whole: str = ""
    is_open: bool = False
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of an operation.

    Attributes:
        schema: Of the result, or of each item of a stream.
        is_stream: Whether items come.
    """

    schema: dict[str, Any]
    is_stream: bool = False


def body_of(given: Any, document: Mapping[str, Any], *, taken: set[str]) -> Body:
    """Return the body of an operation.

    Args:
        given: Its ``requestBody``; None for none.
        document: Where references lead.
        taken: Names that parameters have.

    Raises:
        Unreadable: It has a form that cannot be sent.
    """
    if given is None:
        return Body()
    own = follow(given, document)
    content = own.get("content") or {}
    kind = _preferred(content)
    if kind.startswith("multipart/"):
        raise Unreadable(f"its body is {kind}, which is not supported")
    schema = modern(schema_of(content, kind))
    is_needed = bool(own.get("required"))
    if _is_json(kind) or kind == FORM:
        resolved = modern(follow(schema_of(content, kind), document))
        if _is_flat(resolved) and not taken & {*resolved["properties"], _WHOLE}:
            return _flat(resolved, kind, is_needed=is_needed)
    if kind == FORM:
        raise Unreadable("its body is a form whose fields are not told, or collide")
    name = f"{_WHOLE}_" if _WHOLE in taken else _WHOLE
    if not _is_json(kind):
        schema = {"type": "string"} if kind.startswith("text/") else dict(_BYTES)
    return Body(
        fields={name: schema},
        required=(name,) if is_needed else (),
        whole=name,
        content_type=kind or "application/json",
    )


def schema_of(content: Mapping[str, Any], kind: str) -> Any:
    """Return the schema under a media type; an empty one if there is none."""
    return (content.get(kind) or {}).get("schema") or {}


def _is_flat(schema: Mapping[str, Any]) -> bool:
    """Tell whether a body's fields may stand beside the parameters."""
    return bool(
        isinstance(schema.get("properties"), Mapping)
        and schema["properties"]
        and schema.get("type", "object") == "object"
        and not {"allOf", "anyOf", "oneOf", "not", "if"} & set(schema)
    )


def _flat(schema: Mapping[str, Any], kind: str, *, is_needed: bool) -> Body:
    properties = schema["properties"]
    read_only = {
        name
        for name, one in properties.items()
        if isinstance(one, Mapping) and one.get("readOnly") is True
    }
    needed = schema.get("required", ()) if is_needed else ()
    return Body(
        fields=properties,
        required=tuple(name for name in needed if name not in read_only),
        is_open=schema.get("additionalProperties", True) is not False,
        content_type=kind,
    )


def _preferred(content: Mapping[str, Any]) -> str:
    """Return the media type to use: JSON if there is one, else the first."""
    return next((kind for kind in content if _is_json(kind)), next(iter(content), ""))


def _is_json(kind: str) -> bool:
    plain = kind.partition(";")[0].strip().lower()
    return plain in ("application/json", "*/*") or plain.endswith("+json")


def response_of(given: Any, document: Mapping[str, Any]) -> Result:
    """Return the result of an operation: that of its lowest 2xx status with a body.

    Raises:
        Unreadable: A reference in it leads nowhere.
    """
    responses = given if isinstance(given, Mapping) else {}
    good = sorted(str(status) for status in responses if str(status).startswith("2"))
    for status in good:
        one = responses.get(
            status, responses.get(int(status) if status.isdigit() else "")
        )
        content = follow(one, document).get("content") or {}
        if not content:
            continue
        stream = next((kind for kind in content if kind in STREAMS), "")
        kind = stream or _preferred(content)
        if stream or _is_json(kind):
            return Result(modern(schema_of(content, kind)), bool(stream))
        return Result({"type": "string"} if kind.startswith("text/") else dict(_BYTES))
    return Result({"type": "null"} if good else {})


def errors_of(
    responses: Any, document: Mapping[str, Any]
) -> tuple[type[BusinessError], ...]:
    """Return a class for each typed error of an operation.

    Args:
        responses: Of the operation, by status.
        document: Where references lead.
    """
    found: dict[str, type[BusinessError]] = {}
    given = responses if isinstance(responses, Mapping) else {}
    for status, response in ((str(s), r) for s, r in given.items()):
        content = follow(response, document).get("content") or {}
        problem = schema_of(content, _PROBLEM)
        for name, details in _typed(problem, document, _MAX_DEPTH):
            code = Code.from_http(int(status)) if status.isdigit() else Code.UNKNOWN
            doc = str(details.get("description") or name)
            made = error_class(name, details, doc=doc, code=code)
            if made is not None:
                found.setdefault(name, made)
    return tuple(found.values())


def _typed(
    schema: Any, document: Mapping[str, Any], depth: int
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield name and schema of the fields of each typed error in a schema."""
    if not isinstance(schema, Mapping) or not depth:
        return
    own = follow(schema, document)
    properties = own.get("properties") or {}
    name = (properties.get("error") or {}).get("const")
    if isinstance(name, str) and "details" in properties:
        yield name, modern(follow(properties["details"], document))
    for key in ("anyOf", "oneOf", "allOf"):
        for branch in own.get(key) or ():
            yield from _typed(branch, document, depth - 1)
