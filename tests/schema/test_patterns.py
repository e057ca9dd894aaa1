"""Patterns that could stop an event loop are refused where they are declared."""

from __future__ import annotations

import asyncio
import contextlib
from time import process_time
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from kitmsg import Service, endpoint
from kitmsg.schema.patterns import why_slow

Letters = Annotated[str, Meta(pattern="^(a+)+$")]


class Inner(msgspec.Struct):
    """Has one inside."""

    name: Letters


class Slow:
    """Methods that would be stopped."""

    async def parameter(self, name: Letters) -> None:
        """Take one."""

    async def nested(self, items: list[Inner]) -> None:
        """Take some."""

    async def result(self) -> Inner:
        """Give one: a client reads it."""
        return Inner("a")


GOOD = [
    "",
    "^a",
    "[a-z]+",
    r"^\d+-\d+$",
    "^[a-z]+(-[a-z]+)*$",
    "^([a-z]|[0-9]|_)+$",
    r"^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$",
    r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$",
    r"^(\d{1,3}\.){3}\d{1,3}$",
    r"^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,}$",
    r"^https?://[^\s/$.?#].[^\s]*$",
    r"^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$",
    r"^(?=.*\d)[a-z\d]{8,}$",
    r"^(?!.*\.\.)[a-z.]+$",
    r"^(.)\1$",
    r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?Z?$",
]
EXPONENTIAL = [
    "^(a+)+$",
    "(a*)*b",
    r"^(\w+\s?)*$",
    "^(a|aa)+$",
    "^(a|a)*$",
    "^(x+x+)+y$",
    "^(a?){30}a{30}$",
    "^(?=(a+)+$)b",
    "^(?i:a|AA?)+$",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
]
POLYNOMIAL = [
    (r"\d+-\d+", 1000),
    ("^x*x*$", 1000),
    (".*a.*b.*c", 31),
    ("^(a+){10}$", 3),
]


@pytest.mark.parametrize("pattern", GOOD)
def test_usual_patterns_are_taken(pattern: str) -> None:
    """Those that take time in proportion to the text."""
    assert why_slow(pattern) == ""


@pytest.mark.parametrize("pattern", EXPONENTIAL)
def test_an_exponential_pattern_is_refused(pattern: str) -> None:
    """However short its text: 30 characters are enough."""
    assert "exponential" in why_slow(pattern, 30)


@pytest.mark.parametrize(("pattern", "most"), POLYNOMIAL)
def test_a_polynomial_one_needs_a_short_text(pattern: str, most: int) -> None:
    """The sentence says how short, and what else would do."""
    assert why_slow(pattern, most) == ""
    for length in (None, most + 1):
        problem = why_slow(pattern, length)
        assert f"give max_length, {most} at most" in problem
        assert "begin it with '^'" in problem


@pytest.mark.parametrize(
    "text",
    [
        "a" * 100_000 + "!",
        "1" * 100_000,
        "a-" * 50_000,
        "a.b" * 30_000 + "@",
        "1." * 99,
    ],
)
@pytest.mark.parametrize("pattern", GOOD)
def test_what_is_taken_is_quick(pattern: str, text: str) -> None:
    """On 100,000 characters that nearly match."""
    type_: Any = Annotated[str, Meta(pattern=pattern)]
    data = msgspec.json.encode(text)
    began = process_time()
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.json.decode(data, type=type_)
    assert process_time() - began < 1.0


def test_a_class_with_such_a_pattern_is_refused() -> None:
    """The parameter and the pattern are named, and what to do."""
    for method in (Slow.parameter, Slow.nested, Slow.result):
        with pytest.raises(TypeError, match=r"\^\(a\+\)\+\$.* exponential time"):
            type("Shop", (Service,), {"x": endpoint(method), "__module__": __name__})


async def test_nothing_that_is_taken_stops_the_loop(kit: Any) -> None:
    """A hostile text for a quadratic pattern with a limit is refused at once."""

    class Codes(Service):
        """Checks codes."""

        @endpoint
        async def check(
            self, code: Annotated[str, Meta(pattern=r"\d+-\d+", max_length=1000)]
        ) -> str:
            """Return it."""
            return code

    await kit.serve(Codes())
    began = process_time()
    reply = await kit.bus.request(
        "codes.check", msgspec.json.encode({"code": "1" * 900_000}), 5.0
    )
    assert reply.headers["Kit-Code"] == "invalid_argument"
    assert process_time() - began < 1.0
    await asyncio.sleep(0)
