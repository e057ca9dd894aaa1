"""Path, query and body become one request object."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st
from multidict import CIMultiDict

from kitmsg.codec import JSON, MSGPACK
from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http.bind import Parameters

SCHEMA = {
    "$ref": "#/$defs/Request",
    "$defs": {
        "Request": {
            "type": "object",
            "additionalProperties": False,
            "required": ["text"],
            "properties": {
                "text": {"type": "string"},
                "count": {"type": "integer", "format": "int64"},
                "ratio": {"type": "number"},
                "flag": {"type": "boolean"},
                "maybe": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "words": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "numbers": {"type": "array", "items": {"$ref": "#/$defs/Count"}},
                "colour": {"$ref": "#/$defs/Colour"},
                "level": {"enum": [1, 2]},
                "filter": {"type": "object"},
                "anything": {},
                "several": {"type": ["integer", "null"]},
                "open": {
                    "anyOf": [
                        {"$ref": "#/$defs/Colour"},
                        {"type": "integer"},
                        {"type": "string"},
                    ]
                },
                "price": {
                    "anyOf": [
                        {"type": "number"},
                        {"type": "string", "format": "decimal"},
                    ]
                },
                "yes": {"anyOf": [{"type": "boolean"}, {"type": "string"}]},
            },
        },
        "Colour": {"enum": ["red", "blue"]},
        "Count": {"type": "integer"},
    },
}
PARAMETERS = Parameters(SCHEMA)


def build(
    query: str = "", path: dict[str, str] | None = None, body: object = None
) -> Any:
    """Return the request as objects."""
    data = b"" if body is None else json.dumps(body).encode()
    return json.loads(PARAMETERS.build(path or {}, query, data, JSON))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("text=5", {"text": "5"}),
        ("text=", {"text": ""}),
        ("text=a+b%26c", {"text": "a b&c"}),
        ("count=5", {"count": 5}),
        ("count=-5", {"count": -5}),
        ("count=9223372036854775807", {"count": 9223372036854775807}),
        ("ratio=1.5", {"ratio": 1.5}),
        ("ratio=2", {"ratio": 2}),
        ("ratio=1e-3", {"ratio": 0.001}),
        ("flag=true", {"flag": True}),
        ("flag=False", {"flag": False}),
        ("flag=1", {"flag": True}),
        ("flag=0", {"flag": False}),
        ("maybe=2.5", {"maybe": 2.5}),
        ("maybe=null", {"maybe": None}),
        ("words=x", {"words": "x"}),
        ("either=x", {"either": "x"}),
        ("either=5", {"either": 5}),
        ("either=-5", {"either": -5}),
        ("either=0", {"either": 0}),
        ("either=007", {"either": "007"}),
        ("either=%2B49", {"either": "+49"}),
        ("either=-0", {"either": "-0"}),
        ("either=1.10", {"either": "1.10"}),
        ("either=12345678901234567890123", {"either": "12345678901234567890123"}),
        ("tags=a&tags=b", {"tags": ["a", "b"]}),
        ("tags=a", {"tags": ["a"]}),
        ("tags=a,b", {"tags": ["a,b"]}),
        ("numbers=1&numbers=2", {"numbers": [1, 2]}),
        ("colour=red", {"colour": "red"}),
        ("level=2", {"level": 2}),
        ('filter={"a":[1]}', {"filter": {"a": [1]}}),
        ("anything=5", {"anything": "5"}),
        ("several=7", {"several": 7}),
        ("open=red", {"open": "red"}),
        ("open=5", {"open": 5}),
        ("open=green", {"open": "green"}),
        ("open=true", {"open": "true"}),
        ("price=1.10", {"price": "1.10"}),
        ("price=1.5", {"price": 1.5}),
        ("yes=1", {"yes": "1"}),
        ("yes=true", {"yes": True}),
    ],
)
def test_text_becomes_what_the_schema_says(query, expected):
    """Each JSON Schema type has its spelling in a query."""
    assert build(query) == expected


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ("count=x", "count", "a whole number, not 'x'"),
        ("count=1.5", "count", "a whole number"),
        ("count=", "count", "a whole number"),
        ("count=1_000", "count", "a whole number"),
        ("count=%D9%A3", "count", "a whole number"),
        ("count=" + "9" * 400, "count", "a whole number"),
        ("ratio=nan", "ratio", "a number"),
        ("ratio=inf", "ratio", "a number"),
        ("ratio=1e999", "ratio", "a number"),
        ("flag=yes", "flag", "true or false"),
        ("maybe=x", "maybe", "null or a number"),
        ("colour=green", "colour", "one of red, blue, not 'green'"),
        ("level=3", "level", "one of 1, 2"),
        ("filter=[1]", "filter", "a JSON object"),
        ("filter={", "filter", "a JSON object"),
        ("numbers=1&numbers=x", "numbers[1]", "a whole number"),
        ("text=a&text=b", "text", "more than once"),
        ("txet=a", "txet", "did you mean 'text'"),
        ("zzz=a", "zzz", "it takes text, count"),
    ],
)
def test_text_that_does_not_fit_is_refused_by_name(query, field, words):
    """The message says what was expected, the error names the parameter."""
    with pytest.raises(InvalidArgument, match=words.replace("[", r"\[")) as caught:
        build(query)
    assert caught.value.field == field
    assert repr(field) in str(caught.value)


def test_path_and_body_are_merged():
    """A body keeps its bytes, numbers of any size included."""
    body = b'{"count":123456789012345678901234567890,"ratio":1.50}'
    merged = PARAMETERS.build({"text": "7"}, "flag=true", body, JSON)
    assert b"123456789012345678901234567890" in merged
    assert b"1.50" in merged
    assert json.loads(merged)["text"] == "7"


def test_a_msgpack_body_stays_msgpack():
    """Merged in its own codec."""
    body = msgspec.msgpack.encode({"count": 1})
    merged = PARAMETERS.build({"text": "7"}, "", body, MSGPACK)
    assert msgspec.msgpack.decode(merged) == {"text": "7", "count": 1}


@pytest.mark.parametrize(
    ("path", "query", "body"),
    [
        ({"text": "a"}, "text=b", None),
        ({"text": "a"}, "", {"text": "a"}),
        ({}, "text=a", {"text": "a"}),
    ],
)
def test_a_field_from_two_places_is_refused(path, query, body):
    """Even if both say the same."""
    with pytest.raises(InvalidArgument, match="'text' is in the") as caught:
        build(query, path, body)
    assert caught.value.field == "text"


@pytest.mark.parametrize("body", [b"[1]", b"{", b'"x"', b"\xff", b"[" * 5000, b"{}x"])
def test_a_body_that_is_no_object_is_refused(body):
    """Whatever it is, it is the caller's mistake."""
    with pytest.raises(InvalidArgument):
        PARAMETERS.build({"text": "a"}, "", body, JSON)


def test_a_query_that_is_not_utf8_or_endless_is_refused():
    """Nothing is guessed, and work is bounded."""
    with pytest.raises(InvalidArgument, match="not UTF-8"):
        build("text=%ff")
    with pytest.raises(InvalidArgument, match="more than 256"):
        build("&".join(f"a{n}=1" for n in range(300)))


@pytest.mark.parametrize(
    "schema", [None, {}, {"$ref": "#/$defs/None"}, {"$ref": "#"}, {"$ref": 5}]
)
def test_without_a_schema_parameters_stay_text(schema):
    """An unknown name is then the service's to judge."""
    built = Parameters(schema).build({"a": "1"}, "b=2", b"", JSON)
    assert json.loads(built) == {"a": "1", "b": "2"}


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    query=st.text(alphabet="count=&%5é+;[]f", max_size=30), body=st.binary(max_size=20)
)
def test_any_query_and_body_is_built_or_refused(query, body):
    """Never anything but JSON or an `InvalidArgument`."""
    try:
        built = PARAMETERS.build({"text": "x"}, query, body, JSON)
    except InvalidArgument:
        return
    assert json.loads(built)["text"] == "x"


def test_a_schema_that_refers_to_itself_ends():
    """A recursive alternative is cut off, not followed for ever."""
    schema = {
        "type": "object",
        "properties": {"x": {"$ref": "#/$defs/X"}},
        "$defs": {"X": {"anyOf": [{"$ref": "#/$defs/X"}, {"type": "integer"}]}},
    }
    assert json.loads(Parameters(schema).build({"x": "5"}, "", b"", JSON)) == {"x": 5}


HEADED = Parameters(
    {
        "type": "object",
        "additionalProperties": False,
        "required": ["tenant"],
        "properties": {
            "tenant": {"type": "string", "x-header": "X-Tenant"},
            "limit": {"type": "integer", "x-header": "X-Limit"},
            "tags": {
                "type": "array",
                "items": {"type": "integer"},
                "x-header": "X-Tags",
            },
            "forged": {"type": "string", "x-header": "Authorization"},
            "text": {"type": "string"},
        },
    }
)


def build_with(
    headers: list[tuple[str, str]], query: str = "", body: bytes = b""
) -> Any:
    """Return the request as objects, from headers too."""
    return json.loads(HEADED.build({}, query, body, JSON, CIMultiDict(headers)))


def test_a_parameter_comes_from_a_header():
    """With its type, without case; a list from one header or several."""
    assert build_with([("x-tenant", "a")]) == {"tenant": "a"}
    several = [("X-Tenant", "a"), ("X-Limit", "5"), ("X-Tags", "1, 2"), ("X-Tags", "3")]
    assert build_with(several, "text=x") == {
        "tenant": "a",
        "limit": 5,
        "tags": [1, 2, 3],
        "text": "x",
    }


@pytest.mark.parametrize(
    ("headers", "query", "body", "field", "words"),
    [
        ([], "", b"", "X-Tenant", "header X-Tenant is missing"),
        ([("X-Tenant", "a")] * 2, "", b"", "X-Tenant", "more than once"),
        ([("X-Tenant", "\udc80")], "", b"", "X-Tenant", "printable ASCII"),
        ([("X-Tenant", "a"), ("X-Limit", "x")], "", b"", "X-Limit", "header 'X-Limit'"),
        ([("X-Tenant", "a")], "limit=5", b"", "limit", "from the header X-Limit"),
        ([("X-Tenant", "a")], "", b'{"limit":5}', "limit", "and from nowhere else"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(headers, query, body, field, words):
    """Nobody can slip its value in elsewhere."""
    with pytest.raises(InvalidArgument, match=words) as caught:
        build_with(headers, query, body)
    assert caught.value.field == field


def test_a_header_with_a_meaning_of_its_own_is_no_parameter():
    """Whatever a service's schema says."""
    given = [("X-Tenant", "a"), ("Authorization", "Bearer secret")]
    assert build_with(given) == {"tenant": "a"}
