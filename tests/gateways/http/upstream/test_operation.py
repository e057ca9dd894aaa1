"""Request objects as HTTP requests: each value in its place, or a refusal that names it."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http.upstream.operation import Field, Operation, operation, plain


def target(fields: dict[str, Field], **request: Any) -> str:
    """Return path and query of a GET."""
    made = Operation(method="GET", path="/a", fields=fields)
    return made.build(request).target


@pytest.mark.parametrize(
    ("style", "query"),
    [
        ("repeat", "q=1&q=b%20c"),
        ("comma", "q=1%2Cb%20c"),
        ("space", "q=1%20b%20c"),
        ("pipe", "q=1%7Cb%20c"),
        ("json", "q=%5B1%2C%22b%20c%22%5D"),
    ],
)
def test_a_list_is_written_in_its_style(style: Any, query: str) -> None:
    """As OpenAPI names them; a separator in an item is refused."""
    fields = {"q": Field("query", "q", style)}
    if style == "space":
        with pytest.raises(InvalidArgument, match="cannot have ' ' in an item"):
            target(fields, q=[1, "b c"])
        return
    assert target(fields, q=[1, "b c"]) == f"/a?{query}"


def test_an_item_cannot_hold_what_separates_items() -> None:
    """It would read as two, in a query and in a header; a path keeps them apart."""
    with pytest.raises(InvalidArgument, match="cannot have ',' in an item"):
        target({"q": Field("query", "q", "comma")}, q=["a,b"])
    with pytest.raises(InvalidArgument, match="cannot have ',' in an item"):
        target({"q": Field("header", "X-Q")}, q=["a,b"])
    made = operation("GET /a/{q}").build({"q": ["a,b", "c"]})
    assert made.target == "/a/a%2Cb,c"


def test_null_is_left_out_unless_something_else_is_the_default() -> None:
    """Then it is written as null."""
    assert target({"q": Field("query", "q")}, q=None) == "/a"
    assert target({"q": Field("query", "q", default=None)}, q=None) == "/a"
    assert target({"q": Field("query", "q", default=5)}, q=None) == "/a?q=null"
    assert target({"q": Field("header", "X-Q")}, q=None) == "/a"


def test_an_empty_list_is_left_out_if_that_is_what_it_means() -> None:
    """Where it would mean the default, it is refused."""
    assert target({"q": Field("query", "q")}, q=[]) == "/a"
    assert target({"q": Field("query", "q", default=[])}, q=[]) == "/a"
    for default in (None, [1], ...):
        with pytest.raises(InvalidArgument, match="empty list"):
            target({"q": Field("query", "q", default=default)}, q=[])


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            [5, "a", "", "+7", "007"],
            ["5", "-7"],
        ),
        ({"type": ["string", "null"]}, ["a", None], ["null"]),
        ({"type": ["boolean", "string"]}, [True, "yes", "1"], ["true"]),
        ({"enum": ["1", 2]}, ["1", 2], [1, "2", "x"]),
        ({"type": "string"}, ["null", "5", "true"], []),
        ({"type": "number"}, [1, 1.5, -2e300], []),
    ],
)
def test_text_that_means_something_else_is_refused(
    schema: dict[str, Any], good: list[Any], bad: list[Any]
) -> None:
    """A query has no kinds of values; the reader there goes by the schema."""
    whole = {"type": "object", "properties": {"q": schema}}
    made = operation("GET /a", whole)
    for value in good:
        made.build({"q": value})
    for value in bad:
        with pytest.raises(InvalidArgument) as caught:
            made.build({"q": value})
        assert caught.value.field == "q"


@pytest.mark.parametrize(
    "route", ["", "GET", "GET a", "get /a", "OPTIONS /a", "GET /a b", "GET /ä"]
)
def test_a_route_that_is_none_is_refused(route: str) -> None:
    """With how one looks."""
    with pytest.raises(ValueError, match="is not a route such as"):
        operation(route)


def test_what_has_no_form_in_json_is_refused() -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidArgument, match="no form in JSON"):
        plain({"a": object()})
    with pytest.raises(InvalidArgument, match="must be base64"):
        Operation(
            method="PUT",
            path="/a",
            fields={"body": Field("body", "body")},
            body="body",
            content_type="image/png",
        ).build({"body": "?"})
    with pytest.raises(InvalidArgument, match="must be text or bytes"):
        Operation(
            method="PUT",
            path="/a",
            fields={"body": Field("body", "body")},
            body="body",
            content_type="text/plain",
        ).build({"body": 5})
