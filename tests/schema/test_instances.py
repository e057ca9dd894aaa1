"""Plain values against a JSON Schema."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from kitmsg.errors import InvalidArgument
from kitmsg.schema import json_schema
from kitmsg.schema.instances import validator

TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 3},
                "size": {"type": "integer", "format": "int32", "minimum": 0},
                "share": {"type": ["number", "null"], "exclusiveMaximum": 1},
                "data": {"type": "string", "contentEncoding": "base64"},
                "kind": {"enum": ["leaf", "twig"]},
                "parts": {
                    "type": "array",
                    "items": {"$ref": "#/$defs/Node"},
                    "maxItems": 2,
                },
                "either": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/Node"}]},
                "at": {"type": "string", "format": "date-time"},
            },
        }
    },
}


@pytest.mark.parametrize(
    ("value", "field", "problem"),
    [
        ({}, "name", "is missing"),
        ({"name": 1}, "name", "expected string, got integer"),
        ({"name": ""}, "name", "1 to 3 characters"),
        ({"name": "a", "size": -1}, "size", ">= 0"),
        ({"name": "a", "size": True}, "size", "expected integer, got boolean"),
        ({"name": "a", "size": 2**31}, "size", "32-bit"),
        ({"name": "a", "size": 1.5}, "size", "expected integer, got number"),
        ({"name": "a", "share": 1}, "share", "< 1"),
        ({"name": "a", "share": "x"}, "share", "expected number or null, got string"),
        ({"name": "a", "data": "?"}, "data", "base64"),
        ({"name": "a", "kind": "root"}, "kind", 'one of "leaf", "twig"'),
        ({"name": "a", "other": 1}, "other", "is not known; known fields: name"),
        ({"name": "a", "parts": [{}]}, "parts[0].name", "is missing"),
        ({"name": "a", "parts": [1, 2, 3]}, "parts", "0 to 2 items"),
        ({"name": "a", "either": {"name": 2}}, "either.name", "expected string"),
        ([], "", "expected object, got array"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    value: Any, field: str, problem: str
) -> None:
    """The error says which field, and what was expected."""
    with pytest.raises(InvalidArgument) as caught:
        validator(TREE)(value)
    assert caught.value.field == field
    assert problem in str(caught.value)


def test_values_get_one_form() -> None:
    """Base64 and bytes become bytes, whole numbers integers, times text."""
    at = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    fit = validator(TREE)
    assert fit({"name": "a", "data": "aGk=", "size": 2.0}) == {
        "name": "a",
        "data": b"hi",
        "size": 2,
    }
    assert fit({"name": "a", "data": b"hi", "at": at}) == {
        "name": "a",
        "data": b"hi",
        "at": "2026-01-02T00:00:00Z",
    }


def test_no_schema_takes_anything() -> None:
    """An empty schema and an unknown reference check nothing; false refuses all."""
    assert validator({})([1, {"a": None}]) == [1, {"a": None}]
    assert validator({"$ref": "#/$defs/Gone"})(5) == 5
    with pytest.raises(InvalidArgument, match="is not allowed"):
        validator({"properties": {"a": False}})({"a": 1})


def test_all_parts_count() -> None:
    """Every part of an allOf is checked."""
    both = {
        "allOf": [
            {"required": ["a"], "properties": {}},
            {"required": ["b"], "properties": {}},
        ]
    }
    with pytest.raises(InvalidArgument, match="'b' is missing"):
        validator(both)({"a": 1})


def test_an_endless_value_is_refused() -> None:
    """Nesting has a bound."""
    value: dict[str, Any] = {"name": "a"}
    for _ in range(150):
        value = {"name": "a", "parts": [value]}
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        validator(TREE)(value)


class Inner(msgspec.Struct):
    data: bytes
    text: str = "x"


class Outer(msgspec.Struct):
    inner: list[Inner]
    number: int | None
    ratio: float
    labels: dict[str, bool]


_inner = st.builds(Inner, st.binary(max_size=9), st.text(max_size=5))
_outer = st.builds(
    Outer,
    st.lists(_inner, max_size=3),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dictionaries(st.text(max_size=5), st.booleans(), max_size=3),
)


@given(_outer)
def test_both_codecs_give_the_same_value(value: Outer) -> None:
    """Whatever a class makes, its own schema takes, from JSON and from msgpack alike."""
    fit = validator(json_schema(Outer))
    from_json = fit(msgspec.json.decode(msgspec.json.encode(value)))
    from_msgpack = fit(msgspec.msgpack.decode(msgspec.msgpack.encode(value)))
    assert from_json == from_msgpack
    assert msgspec.convert(from_json, Outer) == value
