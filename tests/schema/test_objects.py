"""JSON Schemas made schemas of objects."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from kitmsg.schema.objects import as_object, in_object, is_object, with_list

ITEM: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
TREE: dict[str, Any] = {
    "$ref": "#/$defs/Tree",
    "$defs": {
        "Tree": {
            "title": "Tree",
            "type": "object",
            "properties": {
                "leaf": {"$ref": "#/$defs/Leaf"},
                "parts": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
            },
            "required": ["leaf"],
        },
        "Leaf": {"type": "integer"},
    },
}
BIG = {"leaf": 1, "parts": [{"leaf": 2, "parts": []}]}


def test_a_reference_at_the_root_becomes_the_object():
    """Its definitions stay where it finds them; one that nobody needs goes."""
    found = as_object(TREE)
    assert found["type"] == "object"
    assert "title" not in found
    jsonschema.validate(BIG, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"leaf": 1, "parts": [{"leaf": "x"}]}, found)
    plain = {"$ref": "#/$defs/Item", "$defs": {"Item": ITEM}}
    assert as_object(plain) == ITEM
    assert TREE["$ref"]  # what was given stays as it is


@pytest.mark.parametrize(
    "schema", [None, 5, {}, {"type": "string"}, {"$ref": "#/$defs/No", "$defs": 5}]
)
def test_what_is_no_object_takes_any(schema):
    """So a caller of objects only can call it."""
    found = as_object(schema)
    assert (found["type"], found["properties"]) == ("object", {})
    assert not is_object(schema)


def test_a_value_stands_in_an_object():
    """Under a name, which it must have."""
    found = in_object("result", {"anyOf": [TREE, {"type": "null"}], **TREE})
    jsonschema.validate({"result": BIG}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({}, found)
    assert in_object("result", {"type": "null"})["required"] == ["result"]


def test_definitions_of_two_schemas_do_not_meet():
    """Those of the items get names of their own."""
    other = {
        "$ref": "#/$defs/Tree",
        "$defs": {
            "Tree": {
                "type": "object",
                "properties": {"leaf": {"$ref": "#/$defs/Leaf"}},
            },
            "Leaf": {"type": "string"},
        },
    }
    found = with_list(as_object(TREE), "items", other)
    jsonschema.validate({**BIG, "items": [{"leaf": "green"}]}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**BIG, "items": [{"leaf": 1}]}, found)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(BIG, found)
    assert found["required"] == ["leaf", "items"]


def test_a_list_is_required_beside_what_was():
    """And optional fields stay optional."""
    found = with_list(as_object(ITEM), "items", {"type": "string"})
    assert found["required"] == ["items"]
    jsonschema.validate({"items": ["x"]}, found)
