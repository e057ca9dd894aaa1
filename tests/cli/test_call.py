"""``kitmsg call`` sends what was meant, prints the answer, and exits by kind of error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.cli.call import parse_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Ran

OWN = ("not_found", "unavailable", "invalid_argument", "unauthenticated", "aborted")

SCHEMA = {
    "$ref": "#/$defs/R",
    "$defs": {
        "R": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "count": {"type": "integer"},
                "price": {"type": "number"},
                "sure": {"type": "boolean"},
                "tags": {"type": "array"},
                "sizes": {
                    "anyOf": [
                        {"type": "array", "items": {"type": "integer"}},
                        {"type": "null"},
                    ]
                },
                "names": {"type": "array", "items": {"$ref": "#/$defs/Name"}},
                "nick": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "colour": {"$ref": "#/$defs/Colour"},
            },
        },
        "Colour": {"enum": ["1", "red"]},
        "Name": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("name=5", "5"),
        ("name=true", "true"),
        ('name="5"', "5"),
        ("name=a=b", "a=b"),
        ("name=", ""),
        ("count=5", 5),
        ("count=x", "x"),
        ("price=1.5", 1.5),
        ("price=2", 2),
        ("sure=true", True),
        ('tags=["a"]', ["a"]),
        ("tags=a", ["a"]),
        ("sizes=5", [5]),
        ("sizes=null", None),
        ("names=5", ["5"]),
        ("nick=null", None),
        ("nick=5", "5"),
        ("colour=1", "1"),
        ("other=5", 5),
        ("other=x", "x"),
    ],
)
def test_reads_values_as_the_schema_wants_them(pair: str, value: Any) -> None:
    """Text stays text where text is wanted; the rest is JSON when it is JSON."""
    assert list(parse_pairs([pair], SCHEMA).values()) == [value]


def test_a_key_that_comes_again_makes_a_list() -> None:
    """Each value is read as an item of the list; without a schema as any value."""
    words = ["names=5", "sizes=1", "names=Ann", "sizes=2", "other=1", "other=x"]
    assert parse_pairs(words, SCHEMA) == {
        "names": ["5", "Ann"],
        "sizes": [1, 2],
        "other": [1, "x"],
    }


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["shop.price", "name=tea"], "2.5\n"),
        (["shop.price", "name=5"], "5.0\n"),
        (["shop.price", "name=tea", "count=4"], "10.0\n"),
        (["shop.shout", "text=hi"], "HI\n"),
        (["shop.shout", "text=hi", "--json"], '"HI"\n'),
        (["shop.shout", "--data", '{"text": "no"}', "text=yes"], "YES\n"),
        (
            ["shop.label", "name=a", "tags=b", "tags=c"],
            '{"name":"a","tags":["b","c"]}\n',
        ),
        (["shop.go", "s=hi"], '{"v":"HI"}\n'),
        (["plain.ping", "x=1"], 'pong {"x":1}\n'),
    ],
)
def test_prints_the_answer(
    cli: Callable[..., Ran], shop: str, words: list[str], out: str
) -> None:
    """A number or a text is printed plainly, JSON when asked for."""
    ran = cli("call", *words, nats_url=shop)
    assert (ran.code, ran.out, ran.err) == (0, out, "")


@pytest.mark.parametrize(
    "route", ["direct", "sticky:text", "version:>=0", "split:>=0=1"]
)
def test_calls_by_a_route(cli: Callable[..., Ran], shop: str, route: str) -> None:
    """Those that clients have."""
    words = ("call", "shop.shout", "text=hi", "--route", route)
    ran = cli(*words, nats_url=shop)
    assert (ran.code, ran.out, ran.err) == (0, "HI\n", "")


def test_a_version_that_nobody_has_is_unavailable(
    cli: Callable[..., Ran], shop: str
) -> None:
    """With those that are there."""
    ran = cli("call", "shop.shout", "text=hi", "--route", "version:99", nats_url=shop)
    assert ran.code
    assert "no instance of shop for version:99; there are" in ran.err


def test_what_is_no_route_is_said_before_the_call(cli: Callable[..., Ran]) -> None:
    """With those that are."""
    ran = cli("call", "shop.shout", "--route", "fast")
    assert ran.code == 2
    assert "'fast' is no route; write direct, sticky:FIELD" in ran.err


def test_everyone_is_a_line_for_each_instance(
    cli: Callable[..., Ran], shop: str
) -> None:
    """Its id and its answer, or its error and the exit code 1."""
    words = ("call", "shop.shout", "text=hi", "--everyone")
    ran = cli(*words, nats_url=shop)
    assert ran.code == 0
    assert ran.out.endswith("  HI\n")
    said = json.loads(cli(*words, "--json", nats_url=shop).out)
    assert said == {"instance": said["instance"], "version": "1.2.3", "value": "HI"}
    ran = cli("call", "shop.shout", "--everyone", nats_url=shop)
    assert ran.code == 1
    assert "  invalid_argument: " in ran.out


def test_an_object_is_json(cli: Callable[..., Ran], shop: str) -> None:
    """An answer with fields is JSON, and a request may be, too."""
    ran = cli("call", "shop.label", "name=null", 'tags=["a"]', nats_url=shop)
    assert json.loads(ran.out) == {"name": None, "tags": ["a"]}


def test_bytes_and_times_travel_as_json_says_them(
    cli: Callable[..., Ran], shop: str
) -> None:
    """What JSON has no type for goes and comes as text: base64, RFC 3339."""
    words = ("call", "shop.echo", "data=aGk=", "day=2030-01-02")
    assert json.loads(cli(*words, nats_url=shop).out) == {
        "data": "aGk=",
        "day": "2030-01-02",
    }


def test_reads_the_request_from_standard_input(
    cli: Callable[..., Ran], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With - the request comes from standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO('{"text": "hi"}'))
    assert cli("call", "shop.shout", "-", nats_url=shop).out == "HI\n"


def test_prints_what_is_streamed(cli: Callable[..., Ran], shop: str) -> None:
    """A line for each item, as they come; then the error, if one ended it."""
    ran = cli("call", "shop.count", "upto=3", nats_url=shop)
    assert (ran.code, ran.out) == (0, "0\n1\n2\n")
    ran = cli("call", "shop.count", "upto=2", "fails=true", nats_url=shop)
    assert (ran.code, ran.out) == (1, "0\n1\n")
    assert "tea is sold out" in ran.err


def test_streams_standard_input(
    cli: Callable[..., Ran], shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of JSON for each item; one that is none is a mistake of the user."""
    monkeypatch.setattr("sys.stdin", io.StringIO("1\n\n2\n39\n"))
    assert cli("call", "shop.add", nats_url=shop).out == "42\n"
    monkeypatch.setattr("sys.stdin", io.StringIO("1\nx\n"))
    ran = cli("call", "shop.add", nats_url=shop)
    assert (ran.code, ran.out) == (2, "")
    assert "line 2 of the input is not JSON" in ran.err


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        (b'"x"\n', 5, "item 1 does not fit"),
        (b"\xff\n", 2, "standard input cannot be read"),
    ],
)
def test_an_answer_does_not_wait_for_the_end_of_the_input(
    shop: str, line: bytes, code: int, sentence: str
) -> None:
    """Whoever pipes in something endless gets answer and prompt back at once."""
    command = [sys.executable, "-m", "kitmsg.cli", "call", "shop.add"]
    with subprocess.Popen(
        command,
        env={**os.environ, "NATS_URL": shop},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(line)
        process.stdin.flush()
        try:
            assert process.wait(timeout=20) == code
            assert sentence in process.stderr.read().decode()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["shop.buy", "name=tea"], 1, "tea is sold out"),
        (["shop.prise", "name=tea"], 3, "did you mean 'shop.price'"),
        (["nobody.home"], 3, "no responders for 'nobody.home'"),
        (["shop.wait", "--timeout", "0.2"], 4, "shop.wait"),
        (["shop.price"], 5, "name"),
        (["shop.price", "name=tea", "count=many"], 5, "count"),
        (["shop.go", "s="], 1, "empty string"),
        *([["shop.fail", f"code={code}"], 1, "of its own"] for code in OWN),
        (["not a name"], 5, "'not a name'"),
    ],
)
def test_exits_by_kind_of_error(
    cli: Callable[..., Ran], shop: str, words: list[str], code: int, sentence: str
) -> None:
    """Each kind of error has its exit code, and one sentence on standard error."""
    ran = cli("call", *words, nats_url=shop)
    assert (ran.code, ran.out) == (code, "")
    assert sentence in ran.err
    assert ran.err.count("\n") == 1
