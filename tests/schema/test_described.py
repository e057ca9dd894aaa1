"""JSON Schema of a signature: required fields, descriptions, bounds and its hash."""

from __future__ import annotations

from typing import (
    Annotated,
    Any,
)

import msgspec
from msgspec import Meta

from kitmsg.schema import signature
from tests.schema.shapes import GREETER, taking


def test_schema_says_what_is_required_and_describes_it():
    """Defaults, descriptions and bounds of the user's own are published."""

    async def f(
        name: Annotated[str, Meta(description="Whom to greet.", max_length=9)],
        times: Annotated[int, Meta(ge=1)] = 1,
        weight: float = 0.5,
    ) -> None: ...

    schema = signature(f, owner="Greeter").request_schema()
    assert schema["$ref"] == "#/$defs/GreeterFRequest"
    assert schema["$defs"]["GreeterFRequest"] == {
        "title": "GreeterFRequest",
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 9,
                "description": "Whom to greet.",
            },
            "times": {"type": "integer", "minimum": 1, "default": 1, "format": "int64"},
            "weight": {"type": "number", "default": 0.5},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def test_schema_hash_changes_with_the_schema_only():
    """Same types, same hash; another default or type, another hash."""

    def made(annotation: Any, default: Any = ...) -> str:
        return signature(taking(annotation, default)).schema_hash

    assert made(int) == made(int)
    assert len({made(int), made(str), made(int, 1), made(int, 2)}) == 4
    assert len(made(int)) == 16
    assert signature(GREETER.hello).describe() == {
        "request": signature(GREETER.hello).request_schema(),
        "response": {"type": "string"},
        "hash": signature(GREETER.hello).schema_hash,
    }


def test_field_named_like_a_keyword_of_json_schema_stays():
    """A property called ``minimum`` or ``type`` is not taken for a bound."""

    class Bounds(msgspec.Struct):
        minimum: int
        type: str

    properties = signature(taking(Bounds)).request_schema()["$defs"]["Bounds"]
    assert set(properties["properties"]) == {"minimum", "type"}


class Inner(msgspec.Struct):
    x: int


class Outer(msgspec.Struct):
    inner: Inner
    extra: dict[str, Inner]


def test_request_schema_refuses_what_the_service_refuses() -> None:
    """Objects at any depth are closed in the request's schema, and open in a response's."""

    async def method(outer: Outer) -> Outer:
        return outer

    def is_closed(schema: Any) -> bool | None:
        return schema.get("additionalProperties")  # type: ignore[no-any-return]

    sig = signature(method)
    closed = sig.request_schema()["$defs"]
    opened = sig.response_schema()["$defs"]
    assert is_closed(closed["Inner"]) is False
    assert is_closed(closed["Outer"]) is False
    assert closed["Outer"]["properties"]["extra"]["additionalProperties"] != False  # noqa: E712
    assert "additionalProperties" not in opened["Inner"]
