"""Parameters that an HTTP caller gives in a header."""

from __future__ import annotations

from typing import Annotated

import pytest

from kitmsg.schema import header, signature
from kitmsg.schema.places import HEADER_KEY, is_free_header


def test_the_schema_names_the_header() -> None:
    """And keeps the type as it is, optionals and lists too."""

    def find(
        tenant: Annotated[str, header("X-Tenant")],
        limit: Annotated[int | None, header("X-Limit")] = None,
        tags: Annotated[list[str], header("X-Tags")] = [],  # noqa: B006
    ) -> None: ...

    schema = signature(find).request_schema()
    (request,) = schema["$defs"].values()
    found = request["properties"]
    assert found["tenant"] == {HEADER_KEY: "X-Tenant", "type": "string"}
    assert found["limit"][HEADER_KEY] == "X-Limit"
    assert found["tags"][HEADER_KEY] == "X-Tags"
    assert request["required"] == ["tenant"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a b",
        "a:b",
        "é",
        "x\r\ny",
        "Host",
        "content-type",
        "Authorization",
        "Kit-Caller",
        "cookie",
        "If-None-Match",
    ],
)
def test_a_header_with_a_meaning_of_its_own_is_refused(name: str) -> None:
    """And what is no name of a header, with a sentence."""
    with pytest.raises(ValueError, match=r"header"):
        header(name)
    assert not is_free_header(name)
