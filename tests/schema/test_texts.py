"""Texts of a URL become what a schema says."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg.schema.texts import single, text_reader


@pytest.mark.parametrize(
    ("schema", "texts", "value"),
    [
        ({"type": "integer"}, ["007"], 7),
        ({"type": "boolean"}, ["TRUE"], True),
        ({"type": ["string", "integer"]}, ["007"], "007"),
        ({"type": ["string", "integer"]}, ["7"], 7),
        ({"type": "array", "items": {"type": "number"}}, ["1", "2.5"], [1, 2.5]),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, ["null"], None),
        ({"enum": ["a", 2]}, ["2"], 2),
        ({}, ["7"], "7"),
    ],
)
def test_a_text_is_the_value_that_its_schema_allows(
    schema: dict[str, Any], texts: list[str], value: Any
) -> None:
    """Where text fits too, only a value's own spelling is a value."""
    assert text_reader(schema, schema)("field", texts) == value


def test_a_text_that_fits_nothing_is_refused_by_name() -> None:
    """With all that would do."""
    read = text_reader({"type": ["integer", "null"]}, {})
    with pytest.raises(
        InvalidArgument, match="'n' must be null or a whole number"
    ) as e:
        read("n", ["x"])
    assert e.value.field == "n"


def test_one_text_comes_once() -> None:
    """Two of them could mean either."""
    with pytest.raises(InvalidArgument, match="more than once"):
        single("n", ["1", "2"])
