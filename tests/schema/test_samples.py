"""Samples fit the schemas they are made from."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest

from kitmsg.schema import json_schema
from kitmsg.schema.pointers import resolve
from kitmsg.schema.samples import NONE, Samples


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Node:
    name: str
    parent: Node | None = None
    children: list[Node] = dataclasses.field(default_factory=list)


class Money(msgspec.Struct):
    amount: decimal.Decimal
    currency: Annotated[str, msgspec.Meta(min_length=3, max_length=3)] = "EUR"


class Point(msgspec.Struct, tag="point"):
    x: float


class Name(msgspec.Struct, tag="name"):
    text: str


TYPES = [
    bool,
    int,
    float,
    str,
    bytes,
    None,
    Colour,
    Node,
    Money,
    Point | Name,
    int | None,
    list[int],
    dict[str, int],
    tuple[int, str],
    set[str],
    Literal["a", 2],
    Annotated[datetime.datetime, msgspec.Meta(tz=True)],
    datetime.date,
    Annotated[datetime.time, msgspec.Meta(tz=True)],
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
    Annotated[int, msgspec.Meta(ge=7, multiple_of=5)],
    Annotated[int, msgspec.Meta(lt=0)],
    Annotated[float, msgspec.Meta(gt=2, lt=3.5)],
    Annotated[str, msgspec.Meta(min_length=10, max_length=12)],
    Annotated[str, msgspec.Meta(max_length=2)],
    Annotated[list[int], msgspec.Meta(min_length=3)],
    Annotated[list[int], msgspec.Meta(max_length=0)],
    Annotated[str, msgspec.Meta(examples=["told"])],
]


def sample(schema: dict[str, Any]) -> Any:
    """Return the example for a schema with its definitions inside."""
    return Samples(lambda part: resolve(part, schema)).of(schema)


@pytest.mark.parametrize("type_", TYPES, ids=str)
def test_an_example_fits(type_):
    """The schema says so, and the type itself takes it."""
    schema = json_schema(type_)
    found = sample(schema)
    assert found is not NONE
    jsonschema.validate(found, schema)
    msgspec.json.decode(msgspec.json.encode(found), type=type_)


def test_what_is_declared_wins():
    """Before anything that is made up."""
    assert sample({"type": "string", "examples": ["told", "x"]}) == "told"
    assert sample({"type": "string", "default": "preset"}) == "preset"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^x+$"},
        {"type": "string", "format": "email"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "number", "multipleOf": 0.3},
        {"type": "array", "minItems": 1000, "items": {"type": "integer"}},
        {"type": "array", "minItems": 2, "uniqueItems": True, "items": {"const": 1}},
        {"type": "object", "required": ["a"], "properties": {"a": {"not": {}}}},
        {"type": "object", "minProperties": 3},
        {"type": "nonsense"},
        {"type": 5},
        {"type": "string", "minLength": "x"},
        {"anyOf": 5},
        {"type": "object", "properties": [1]},
    ],
)
def test_there_is_no_example_rather_than_a_wrong_one(schema):
    """Where it is hard, or the schema is none."""
    assert sample(schema) is NONE


def test_a_rough_sample_is_there_where_none_fits():
    """It has the fields that must be there, for people to change."""
    schema = {
        "type": "object",
        "required": ["code", "first_name"],
        "properties": {
            "code": {"type": "string", "pattern": "^x+$"},
            "first_name": {"type": "string"},
            "note": {"type": "string"},
        },
    }
    rough = Samples(lambda part: resolve(part, schema), str.upper, is_rough=True)
    assert rough.of(schema) == {"code": "CODE", "first_name": "FIRST_NAME"}
