"""JSON Schemas become shapes: one form for each thing that can be said."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator  # noqa: TC003  # read when services are defined
from typing import Any

import pytest
from msgspec import Struct as Record

from kitmsg import BusinessError, Service, endpoint
from kitmsg.idl.model import MISSING, Enum, Field, Shape, Struct, Union
from kitmsg.idl.service import Description, shape_service

NODE = {
    "title": "Node",
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
    "required": ["next"],
}


class Cat(Record, tag="cat"):
    name: str


class Dog(Record, tag="dog"):
    name: str


class Pets(Record):
    all: list[Cat | Dog]
    best: Cat | None = None


class Lost(BusinessError):
    template = "{name} is lost"
    name: str


class Shop(Record):
    """Shares its name with the service."""

    name: str


class ShopService(Service):
    name = "shop"

    @endpoint(raises=[Lost])
    async def keep(self, pets: Pets) -> int | None:
        """Keep pets."""
        return len(pets.all)

    @endpoint
    async def get_shop(self, at: Cat) -> Shop:
        return Shop(at.name)

    @endpoint
    async def close(self) -> None:
        """Close it."""

    @endpoint
    async def talk(self, room: str, words: AsyncIterator[str]) -> AsyncIterator[Cat]:
        async for word in words:
            yield Cat(room + word)


def described(cls: type[Service]) -> list[Description]:
    return [
        Description(d.name, d.describe(), d.signature.doc, d.signature.stream)
        for d in cls.__declarations__.values()
    ]


def read(schema: Any, **definitions: Any) -> tuple[Shape, dict[str, Any]]:
    """Return the shape of a field with that schema, and the types around it."""
    request = {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"],
        "$defs": definitions,
    }
    shapes = shape_service("s", [Description("call", {"request": request})])
    if shapes.refused:
        raise ValueError(shapes.refused["call"])
    (field,) = shapes.struct("CallRequest").fields
    return field.shape, dict(shapes.types)


def test_a_service_is_a_tree_of_shapes() -> None:
    """Requests, results, items and errors of a real class, with their names."""
    shapes = shape_service("shop", described(ShopService))
    close, get_shop, keep, talk = shapes.methods
    assert (close.name, close.request, close.response) == (
        "Close",
        "CloseRequest",
        None,
    )
    assert shapes.types["CloseRequest"] == Struct("CloseRequest")
    assert (keep.request, keep.response) == ("Pets", Shape("int", is_nullable=True))
    assert (keep.errors, keep.doc) == ({"Lost": "Lost"}, "Keep pets.")
    assert (talk.stream, talk.items) == ("both", Shape("str"))
    assert talk.response == Shape("struct", "Cat")
    assert get_shop.name == "GetShop"
    cat = Struct("Cat", (Field("name", Shape("str")),), (("type", "cat"),))
    assert shapes.types["Cat"] == cat


def test_a_union_has_options_with_tags() -> None:
    """A union is named by where it is, its options by what they are."""
    shapes = shape_service("shop", described(ShopService))
    union = shapes.types["PetsAllItem"]
    assert isinstance(union, Union)
    assert union.tag_field == "type"
    assert [(o.name, o.tag) for o in union.options] == [("cat", "cat"), ("dog", "dog")]


def test_no_type_has_the_name_of_the_service() -> None:
    """In generated code both stand side by side."""
    shapes = shape_service("shop", described(ShopService))
    assert shapes.name == "Shop"
    assert "Shop" not in shapes.types
    assert shapes.methods[1].response == Shape("struct", "ShopData")


def test_the_order_of_endpoints_makes_no_difference() -> None:
    """Instances list what they serve in any order."""
    endpoints = described(ShopService)
    shuffled = random.Random(1).sample(endpoints, len(endpoints))
    assert shape_service("shop", shuffled) == shape_service("shop", endpoints)


@pytest.mark.parametrize(
    ("schema", "shape"),
    [
        ({"type": "boolean"}, Shape("bool")),
        ({"type": "integer", "format": "int64"}, Shape("int")),
        ({"type": "number", "minimum": 0}, Shape("float")),
        ({"type": "string", "minLength": 3}, Shape("str")),
        ({"type": "string", "contentEncoding": "base64"}, Shape("bytes")),
        ({"type": "string", "format": "date-time"}, Shape("datetime")),
        ({"type": "string", "format": "uuid"}, Shape("uuid")),
        ({"type": "string", "format": "email"}, Shape("str")),
        ({}, Shape("any")),
        (True, Shape("any")),
        ({"type": "array"}, Shape("list", item=Shape("any"))),
        ({"type": "object"}, Shape("map", item=Shape("any"))),
        ({"type": ["integer", "null"]}, Shape("int", is_nullable=True)),
        ({"allOf": [{"type": "integer"}]}, Shape("int")),
        (
            {"oneOf": [{"type": "null"}, {"type": "string"}]},
            Shape("str", is_nullable=True),
        ),
        ({"enum": ["a", "b", None]}, Shape("enum", "CallRequestX", is_nullable=True)),
        (
            {"type": "object", "additionalProperties": {"type": "integer"}},
            Shape("map", item=Shape("int")),
        ),
        ({"anyOf": [{"type": "integer"}, {}]}, Shape("any")),
    ],
)
def test_each_thing_has_one_form(schema: Any, shape: Shape) -> None:
    """Schemas of ours, of pydantic and by hand that mean the same are the same."""
    assert read(schema)[0] == shape


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (False, "its schema allows nothing"),
        ({"type": "null"}, "it is always null; leave it out"),
        ({"not": {}}, "its schema has no form outside JSON"),
        ({"enum": [1.5, 2]}, "an enum cannot hold 1.5"),
        ({"$ref": "#/$defs/Gone"}, "there is no '#/$defs/Gone' in its schema"),
        (
            {"$ref": "https://x.example/a.json"},
            "there is no 'https://x.example/a.json'",
        ),
        (
            {"anyOf": [{"type": "array"}, {"type": "array", "items": {"enum": ["a"]}}]},
            "two of its options are arrays; give each a tag",
        ),
        (
            {"anyOf": [{"enum": ["a", 1]}, {"type": "array"}]},
            "an enum of texts and integers",
        ),
        ({"$ref": "#/$defs/Loop"}, "#/$defs/Loop is made of nothing but itself"),
    ],
)
def test_what_has_no_form_is_refused(schema: Any, why: str) -> None:
    """A refusal names the endpoint, the field and the reason."""
    with pytest.raises(ValueError, match="s.call: the request, field 'x'") as caught:
        read(schema, Loop={"type": "array", "items": {"$ref": "#/$defs/Loop"}})
    assert why in str(caught.value)


def test_a_struct_may_hold_itself() -> None:
    """A definition that refers to itself is one struct."""
    shape, types = read({"$ref": "#/$defs/Node"}, Node=NODE)
    assert shape == Shape("struct", "Node")
    inner = Shape("struct", "Node", is_nullable=True)
    assert types["Node"] == Struct("Node", (Field("next", inner),))


def test_a_schema_cannot_explode() -> None:
    """A small schema that unfolds into a large one is refused, not followed."""
    definitions: dict[str, Any] = {}
    for number in range(20):
        ref = {"$ref": f"#/$defs/D{number + 1}"}
        definitions[f"D{number}"] = {
            "anyOf": [
                {"type": "array", "items": ref},
                {"type": "object", "additionalProperties": ref},
            ]
        }
    definitions["D20"] = {"type": "integer"}
    read({"$ref": "#/$defs/D0"}, **definitions)
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ValueError, match="too large or too deep"):
        read(deep)


def test_defaults_and_presence_are_kept() -> None:
    """Left out, null and there are told apart only where they differ."""
    properties = {
        "a": {"type": "integer"},
        "b": {"type": ["integer", "null"], "default": None},
        "c": {"type": ["integer", "null"], "default": 5},
        "d": {"type": ["integer", "null"]},
    }
    request = {"type": "object", "properties": properties, "required": ["a"]}
    shapes = shape_service("s", [Description("call", {"request": request})])
    a, b, c, d = shapes.struct("CallRequest").fields
    assert (a.is_required, a.default) == (True, MISSING)
    assert (b.is_required, b.default, b.has_three_states) == (False, None, False)
    assert (c.default, c.has_three_states) == (5, True)
    assert (d.default, d.has_three_states) == (MISSING, True)


def test_one_name_for_two_meanings() -> None:
    """The first endpoint's type keeps the name, another's has its endpoint in front."""

    def request(kind: str) -> dict[str, Any]:
        inner = {"type": "object", "properties": {"v": {"type": kind}}}
        return {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/Box"}},
            "$defs": {"Box": inner},
        }

    endpoints = [
        Description("b", {"request": request("string")}),
        Description("a", {"request": request("integer")}),
        Description("c", {"request": request("string")}),
    ]
    shapes = shape_service("s", endpoints)
    boxes = {
        name: shapes.struct(name).fields[0].shape.kind
        for name in shapes.types
        if "Box" in name
    }
    assert boxes == {"Box": "int", "BBox": "str", "CBox": "str"}


def test_an_endpoint_that_is_refused_leaves_the_others() -> None:
    """What cannot be carried does not take the service with it."""
    good = Description("good", {"request": {"type": "object", "properties": {}}})
    bad = Description("bad", {"request": {"type": "integer"}})
    shapes = shape_service("s", [good, bad, Description("silent", None)])
    assert [method.endpoint for method in shapes.methods] == ["good"]
    assert shapes.refused == {
        "bad": "s.bad: the request: it is not an object with named fields",
        "silent": "s.silent: it does not tell its types",
    }


def test_maps_are_called_in_json() -> None:
    """Generated types have text for keys, which only JSON reads as numbers."""

    class Maps(Service):
        @endpoint
        async def plain(self, a: int) -> dict[int, int]:
            return {a: a}

        @endpoint
        async def deep(self, a: list[dict[int, int]]) -> None: ...

    shapes = shape_service("maps", described(Maps))
    assert [(m.name, m.codec) for m in shapes.methods] == [
        ("Deep", "json"),
        ("Plain", "msgpack"),
    ]


def test_enums_keep_their_values() -> None:
    """Doubles and null are no values."""
    _, types = read({"enum": ["b", "a", None, "b"]})
    assert types["CallRequestX"] == Enum("CallRequestX", ("b", "a"))
