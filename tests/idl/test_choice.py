"""A union's option is told by its tag, or by the type of its value."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from kitmsg.idl.choice import chooser, plain_types
from kitmsg.idl.model import Enum, Named, Shape, Struct

TYPES: dict[str, Named] = {
    "Colour": Enum("Colour", ("red",)),
    "Pair": Struct("Pair", is_array=True),
}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (True, "flag"),
        (7, "count"),
        (7.5, "ratio"),
        ("red", "text"),
        (b"red", "text"),
        (datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC), "text"),
        ({"kind": "cat"}, "cat"),
        ({"kind": "cow"}, None),
        ({"kind": []}, None),
        ({}, None),
        (["p", 1], "pair"),
        ([], None),
        (None, None),
    ],
)
def test_a_value_is_one_option_or_none(value: Any, name: str | None) -> None:
    """Whatever it is: a stranger's value may be anything."""
    shapes = {"flag": "bool", "count": "int", "ratio": "float", "text": "str"}
    options = [(name, plain_types(Shape(kind)), None) for name, kind in shapes.items()]
    tagged = [("cat", (dict,), "cat"), ("pair", (list,), "p")]
    assert chooser([*options, *tagged], "kind")(value) == name


def test_a_whole_number_is_a_number_where_there_is_no_integer() -> None:
    """JSON writes 7.0 as 7."""
    assert chooser([("ratio", (float,), None)], "")(7) == "ratio"


@pytest.mark.parametrize(
    ("shape", "types"),
    [
        (Shape("enum", "Colour"), (str,)),
        (Shape("struct", "Pair"), (list,)),
        (Shape("struct", "Other"), (dict,)),
        (Shape("map"), (dict,)),
    ],
)
def test_a_named_type_is_what_it_travels_as(
    shape: Shape, types: tuple[type, ...]
) -> None:
    """An enum as its values, a struct as an object or an array."""
    assert plain_types(shape, TYPES) == types
