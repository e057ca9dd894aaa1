"""Lines to try fit the schema they are made from."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.cli.samples import make_sample, sample_request

BASE = "http://h"


def schema(**properties: Any) -> dict[str, Any]:
    """Return the schema of a request with these required fields."""
    return {"type": "object", "properties": properties, "required": [*properties]}


def test_a_route_takes_its_fields_from_the_request() -> None:
    """Path parameters go into the path, the rest into the query."""
    sample = make_sample(
        "shop.price",
        {"request": schema(name={"type": "string"}, count={"type": "integer"})},
        "GET /price/{name}",
        BASE,
    )
    assert sample.curl == "curl 'http://h/price/Ann?count=1'"
    assert sample.call == "kitmsg call shop.price name=Ann count=1"


def test_without_a_route_it_posts() -> None:
    """An endpoint without a route is reached by its name."""
    sample = make_sample("a.b", {"request": schema(x={"type": "boolean"})}, "", BASE)
    assert sample.curl == """curl --json '{"x": true}' http://h/a/b"""


def test_a_nested_request_is_json() -> None:
    """What key=value cannot say is said in JSON."""
    nested = schema(order=schema(sku={"type": "string"}), tags={"type": "array"})
    sample = make_sample("a.b", {"request": nested}, "", BASE)
    assert sample.call == (
        """kitmsg call a.b --data '{"order": {"sku": "hello"}, "tags": []}'"""
    )


def test_streams_are_piped() -> None:
    """What comes out is not buffered; what goes in comes from standard input."""
    out = {"request": schema(n={"type": "integer"}), "stream": "out"}
    sample = make_sample("a.b", out, "GET /b", BASE)
    assert sample.curl == "curl -N 'http://h/b?n=1'"
    assert sample.call == "kitmsg call a.b n=1"
    both = {**out, "stream": "both", "items": {"type": "string"}}
    sample = make_sample("a.b", both, "", BASE)
    assert sample.call == """echo '"hello"' | kitmsg call a.b n=1"""
    assert sample.curl == (
        """echo '"hello"' | curl -N -H 'Content-Type: application/x-ndjson'"""
        """ --data-binary @- 'http://h/a/b?n=1'"""
    )


def test_an_upload_goes_where_it_is_declared() -> None:
    """With its fields in the path; a declared GET is for WebSockets, so not that one."""
    taken = {
        "request": schema(name={"type": "string"}, n={"type": "integer"}),
        "stream": "in",
        "items": {"type": "integer"},
    }
    sample = make_sample("a.b", taken, "PUT /upload/{name}", BASE)
    assert sample.curl == (
        """echo 1 | curl -N -X PUT -H 'Content-Type: application/x-ndjson'"""
        """ --data-binary @- 'http://h/upload/Ann?n=1'"""
    )
    sample = make_sample("a.b", taken, "GET /upload/{name}", BASE)
    assert sample.curl.endswith("'http://h/a/b?name=Ann&n=1'")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "string", "format": "date"}, "2030-01-01"),
        ({"enum": ["red", "blue"]}, "red"),
        ({"type": "integer", "minimum": 10}, 10),
        ({"type": "string", "minLength": 8}, "hello..."),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, 1.5),
        ({"type": "array", "items": {"type": "integer"}}, [1]),
    ],
)
def test_values_fit(field: dict[str, Any], value: Any) -> None:
    """A sample value has the type, the format and the bounds of its field."""
    assert sample_request(schema(x=field)) == {"x": value}


def test_a_type_within_itself_ends() -> None:
    """A recursive type does not make a sample without end."""
    tree = schema(kids={"type": "array", "items": {"$ref": "#/$defs/T"}})
    request = sample_request({"$ref": "#/$defs/T", "$defs": {"T": tree}})
    assert "kids" in request


def test_a_schema_that_is_a_choice_of_itself_has_a_sample() -> None:
    """References lead anywhere in the document, and in no circle."""
    itself = {"$ref": "#/definitions/Tree"}
    tree = {"anyOf": [{"type": "null"}, itself, {"type": "integer"}]}
    request = {**schema(root=itself), "definitions": {"Tree": tree}}
    assert sample_request(request) == {"root": 1}
