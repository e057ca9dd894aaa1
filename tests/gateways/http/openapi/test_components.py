"""Types of all services, named once."""

from __future__ import annotations

from typing import Any

from kitmsg_gateways.http.openapi.schemas import Components


def schema(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an endpoint's schemas with a request of type Thing."""
    definitions = {"Thing": {"type": "object", "properties": properties}, **more}
    return {"request": {"$ref": "#/$defs/Thing", "$defs": definitions}}


def test_types_of_one_name_are_kept_apart_when_they_differ():
    """Those that mean the same are one; what they refer to counts as meaning."""
    same = Components([("a", schema({"x": {}})), ("b", schema({"x": {}}))])
    assert list(same.schemas) == ["Thing"]
    other = Components([("a", schema({"x": {}})), ("b", schema({"y": {}}))])
    assert list(other.schemas) == ["a.Thing", "b.Thing"]
    inner = {"x": {"$ref": "#/$defs/Part"}}
    deep = Components(
        [
            ("a", schema(inner, Part={"type": "string"})),
            ("b", schema(inner, Part={"type": "integer"})),
        ]
    )
    assert list(deep.schemas) == ["a.Part", "a.Thing", "b.Part", "b.Thing"]
    reference = deep.schemas["b.Thing"]["properties"]["x"]["$ref"]
    assert reference == "#/components/schemas/b.Part"
    within = Components([("a", schema({"x": {}})), ("a", schema({"y": {}}))])
    assert list(within.schemas) == ["a.Thing", "a.Thing-2"]


def test_a_type_in_request_and_result_is_one():
    """A request's type is closed, and stays so if a result has it too."""
    properties = {"x": {"type": "string"}}
    opened = {"type": "object", "properties": properties}
    closed = {**opened, "additionalProperties": False}
    both = {
        "request": {"$ref": "#/$defs/Thing", "$defs": {"Thing": closed}},
        "response": {"$ref": "#/$defs/Thing", "$defs": {"Thing": opened}},
    }
    assert Components([("a", both)]).schemas == {"Thing": closed}
    alone = {"request": both["request"]}
    assert Components([("a", alone), ("b", alone)]).schemas == {"Thing": closed}


def test_a_property_or_value_that_looks_like_a_reference_stays():
    """Only real references are rewritten."""
    found = Components(
        [("a", schema({"$ref": {"type": "string"}, "d": {"default": {"$ref": "x"}}}))]
    )
    properties = found.schemas["Thing"]["properties"]
    assert properties["$ref"] == {"type": "string"}
    assert properties["d"]["default"] == {"$ref": "x"}


def test_the_tags_of_a_union_lead_to_components():
    """The mapping of a discriminator, too; a property of that name stays."""
    mapping = {"cat": "#/$defs/Cat"}
    union = {
        "anyOf": [{"$ref": "#/$defs/Cat"}],
        "discriminator": {"propertyName": "type", "mapping": mapping},
    }
    found = Components([("a", schema({"pet": union, "mapping": {"type": "object"}}))])
    properties = found.schemas["Thing"]["properties"]
    placed = properties["pet"]["discriminator"]["mapping"]
    assert placed == {"cat": "#/components/schemas/Cat"}
    assert properties["mapping"] == {"type": "object"}


def test_the_gateways_own_name_is_not_taken():
    """A service's type named Problem gets its service's name in front."""
    definitions = {"Problem": {"type": "object"}}
    request = {"request": {"$ref": "#/$defs/Problem", "$defs": definitions}}
    assert list(Components([("a", request)]).schemas) == ["a.Problem"]
