"""What a docstring says of its parameters is what their schemas say."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from kitmsg import Context  # noqa: TC001  an annotation is read
from kitmsg.schema import signature


class Part(msgspec.Struct):
    """A part."""

    name: str


async def described(  # noqa: D417
    ctx: Context,
    count: int,
    part: Part,
    note: Annotated[str | None, msgspec.Meta(description="Said by the type.")] = None,
    other: int = 1,
) -> int:
    """Return a number.

    Args:
        ctx: Of the call.
        count: How many there are: at least one,
            at most five.
        part (Part): The part.
        note: Said by the docstring.

    Returns:
        other: Not a parameter.
    """
    return count


def test_args_are_the_descriptions_of_fields():
    """Over several lines too; a type's own word wins, and other sections do not count."""
    request, _ = signature(described)._schemas
    properties = request["$defs"]["DescribedRequest"]["properties"]
    found = {name: schema.get("description") for name, schema in properties.items()}
    assert found == {
        "count": "How many there are: at least one, at most five.",
        "part": "The part.",
        "note": "Said by the type.",
        "other": None,
    }


def test_a_described_field_is_checked_and_filled_as_before():
    """Words change nothing of what is taken."""
    reader = signature(described)
    values = msgspec.convert({"count": 2, "part": {"name": "x"}}, reader.request)
    assert (values.count, values.part, values.other) == (2, Part("x"), 1)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"count": "x", "part": {"name": "x"}}, reader.request)
