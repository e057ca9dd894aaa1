"""References inside a document lead where RFC 6901 says, and no schema makes them run away."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.schema.pointers import (
    BrokenReference,
    alternatives,
    follow,
    lookup,
    references,
    resolve,
    rewritten,
)

DOCUMENT = {
    "$defs": {"Order": {"type": "object"}, "a/b": 1, "m~n": 2, "two words": 3},
    "prefixItems": [{"type": "string"}, {"type": "integer"}],
}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("#", DOCUMENT),
        ("#/$defs/Order", {"type": "object"}),
        ("#/%24defs/Order", {"type": "object"}),
        ("#/$defs/a~1b", 1),
        ("#/$defs/m~0n", 2),
        ("#/$defs/two%20words", 3),
        ("#/prefixItems/1", {"type": "integer"}),
        ("#/prefixItems/2", None),
        ("#/prefixItems/-1", None),
        ("#/prefixItems/99999999999999999999", None),
        ("#/$defs/None/deeper", None),
        ("#anchor", None),
        ("other.json#/$defs/Order", None),
        (7, None),
    ],
)
def test_a_pointer_names_a_part_of_its_document(reference: Any, expected: Any) -> None:
    """Escapes, percent-encoding and places in arrays are RFC 6901's; else there is nothing."""
    assert lookup(reference, DOCUMENT) == expected


@pytest.mark.parametrize(
    ("definitions", "sentence"),
    [
        ({}, "'#/\\$defs/A', which is not there"),
        ({"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}, "in a circle"),
        ({"A": {"$ref": "b.json"}}, "'b.json', outside the document"),
    ],
)
def test_a_reference_that_leads_nowhere_is_told(
    definitions: dict[str, Any], sentence: str
) -> None:
    """The sentence has the reference; who can do without gets an empty schema."""
    document = {"$defs": definitions}
    with pytest.raises(BrokenReference, match=sentence):
        follow({"$ref": "#/$defs/A"}, document)
    assert resolve({"$ref": "#/$defs/A"}, document) == {}


def test_references_in_a_row_are_followed_to_the_end() -> None:
    """One definition may be another's name."""
    document = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"type": "null"}}}
    assert resolve({"$ref": "#/$defs/A"}, document) == {"type": "null"}


def test_alternatives_are_the_branches_in_order() -> None:
    """Branches of branches too, and each once."""
    document = {"$defs": {"Either": {"oneOf": [{"type": "null"}, {"const": 1}]}}}
    schema = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Either"}]}
    found = [{"type": "string"}, {"type": "null"}, {"const": 1}]
    assert alternatives(schema, document) == found
    assert alternatives({"type": "string"}, document) == [{"type": "string"}]


def test_a_choice_of_itself_ends() -> None:
    """Its work does not double with each level."""
    itself = {"$ref": "#/$defs/A"}
    document = {"$defs": {"A": {"anyOf": [itself, itself, {"type": "null"}, itself]}}}
    assert alternatives(itself, document) == [{"type": "null"}]


def test_references_are_found_in_schemas_and_not_in_data() -> None:
    """A property may be called ``default``; what a default holds is no schema."""
    one, two, data = {"$ref": "#/1"}, {"$ref": "#/2"}, {"$ref": "#/no"}
    schema = {"properties": {"default": one}, "items": [two], "default": data}
    assert sorted(references(schema)) == ["#/1", "#/2"]
    assert rewritten(schema, lambda reference: reference + "!") == {
        "properties": {"default": {"$ref": "#/1!"}},
        "items": [{"$ref": "#/2!"}],
        "default": data,
    }


def test_a_schema_nested_deeper_than_the_stack_is_walked() -> None:
    """A walk has no recursion to run out of."""
    schema: dict[str, Any] = {"$ref": "#/deep"}
    for _ in range(10_000):
        schema = {"items": schema}
    assert list(references(schema)) == ["#/deep"]
