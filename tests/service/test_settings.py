"""Attributes that set a service: a mistake in one is an error where the class is defined."""
# the services here are props

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import BusinessError, Event, Kit, Service, Supervision, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg.middleware import log, retry, timeout

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Middleware


class Gone(BusinessError):
    """A prop."""


def mine() -> Middleware:
    """Return a prop."""
    return timeout(1)


def plain(endpoint: Endpoint[Any, Any], /) -> Endpoint[Any, Any]:
    """Return it."""
    return endpoint


def quick(self: Any) -> None:
    """Start, without async."""


async def good(self: Any) -> None:
    """Start."""


@functools.wraps(good)
def wrapped(self: Any) -> Any:
    """Start, in a wrapper."""
    return good(self)


@pytest.mark.parametrize(
    ("attribute", "value", "sentence"),
    [
        (
            "middleware",
            timeout(3),
            r"Wrong.middleware takes a list .*: \[limited|wrap\]",
        ),
        ("middleware", [timeout], r"has timeout, which makes .*: write timeout\(...\)"),
        ("middleware", [plain, mine], r"has mine, which makes .*: write mine\(...\)"),
        ("middleware", [log], r"write log\(...\)"),
        ("middleware", 3, r"takes a list of middleware, not 3"),
        ("middleware", [3], r"takes middleware, not 3"),
        ("concurrency", "many", r"Wrong.concurrency takes a whole number, not 'many'"),
        ("concurrency", 1.5, r"takes a whole number, not 1.5"),
        ("concurrency", True, r"takes a whole number, not True"),
        ("concurrency", 0, r"Wrong.concurrency must be at least 1, not 0"),
        ("mailbox", -1, r"Wrong.mailbox must be at least 0, not -1"),
        ("max_bytes", None, r"Wrong.max_bytes takes a whole number"),
        ("name", 3, r"Wrong.name takes text, not 3"),
        ("version", 1, r"Wrong.version takes text such as '1.4.0', not 1"),
        ("queue", None, r"Wrong.queue takes text, not None"),
        ("drain_timeout", "2s", r"Wrong.drain_timeout takes seconds as a number"),
        ("drain_timeout", -1.0, r"must be seconds from 0, not -1.0"),
        ("metadata", "x", r"Wrong.metadata takes a dict of text, not 'x'"),
        ("off", "trace", r"Wrong.off takes a list of text, not 'trace'"),
        ("supervision", "restart", r"takes kitmsg.Supervision\(...\), not 'restart'"),
        ("start", quick, r"Wrong.start is awaited .*; write async def start\(self\)"),
        ("stop", quick, r"Wrong.stop is awaited .*; write async def stop\(self\)"),
        ("start", 3, r"Wrong.start is called when the service starts; define a method"),
        ("concurency", 3, r"Wrong.concurency is no setting .*; did you mean 'concurr"),
        ("max_byte", 3, r"did you mean 'max_bytes'"),
        ("midleware", [plain], r"did you mean 'middleware'"),
        ("drain_timout", 2.5, r"did you mean 'drain_timeout'"),
        ("verison", "1.0.0", r"did you mean 'version'"),
        ("supervison", Supervision(), r"did you mean 'supervision'"),
    ],
)
def test_a_setting_that_cannot_be(attribute: str, value: Any, sentence: str) -> None:
    """One sentence, with the class, the attribute and what to write."""
    with pytest.raises((TypeError, ValueError), match=sentence):
        type("Wrong", (Service,), {attribute: value})


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("middleware", (plain, timeout(2), log(), retry())),
        ("start", good),
        ("start", wrapped),
        ("queues", ["a", "b"]),
        ("names", ("a", "b")),
        ("_concurency", 3),
        ("concurrency_", 3),
        ("colour", 3),
        ("metadata", {"a": "b"}),
        ("off", {"trace"}),
        ("drain_timeout", 3),
        ("concurrency", property(lambda _: 3)),
    ],
)
def test_what_only_looks_like_a_mistake(attribute: str, value: Any) -> None:
    """Attributes of one's own, and all that a setting may be."""
    cls: Any = type("Right", (Service,), {attribute: value})
    assert cls.__declarations__ == {}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": "2s"}, r"timeout= takes seconds as a number, not '2s'"),
        ({"timeout": True}, r"timeout= takes seconds as a number, not True"),
        (
            {"raises": Gone},
            r"raises= takes a list of exception classes: raises=\[Gone\]",
        ),
        ({"raises": 3}, r"raises= takes a list of exception classes, not 3"),
        ({"middleware": timeout(3)}, r"middleware= takes a list of middleware: \["),
        (
            {"middleware": [timeout]},
            r"middleware= has timeout, .* write timeout\(...\)",
        ),
        ({"idempotent": "yes"}, r"idempotent= takes True or False, not 'yes'"),
        ({"name": 3}, r"name= takes text, not 3"),
        ({"subject": 3}, r"subject= takes text, not 3"),
        ({"wire": None}, r"wire= takes 'kit' or 'gokit', not None"),
        ({"unknown_fields": True}, r"unknown_fields= takes 'forbid' or 'ignore'"),
    ],
)
def test_an_option_that_cannot_be(options: dict[str, Any], sentence: str) -> None:
    """One sentence too, before the method is even seen."""
    with pytest.raises(TypeError, match=sentence):
        endpoint(**options)


def test_an_option_with_a_value_that_it_cannot_have() -> None:
    """Lists what it can be."""
    with pytest.raises(ValueError, match="unknown_fields='drop': use 'forbid' or"):
        endpoint(unknown_fields="drop")  # type: ignore[call-overload]


async def test_a_service_without_endpoints_is_a_warning(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """It is served, and the log says what is missing."""

    class Empty(Service):
        async def hello(self) -> str:
            return ""

    await kit.serve(Empty())
    assert "Empty has no endpoint" in caplog.text
    assert "write @endpoint before its methods" in caplog.text


async def test_one_that_only_publishes_has_work(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody needs to call it."""

    class Ticked(Event, subject="clock.ticked"):
        """A second is over."""

    class Clock(Service):
        """Tells the time."""

        publishes = (Ticked,)

    await kit.serve(Clock())
    assert "has no endpoint" not in caplog.text


async def test_two_classes_of_one_name_are_refused(kit: Kit) -> None:
    """In one process; two instances of a class share its load."""

    class Orders(Service):
        @endpoint
        async def get(self) -> str:
            return ""

    class Other(Service):
        name = "orders"

        @endpoint
        async def put(self) -> str:
            return ""

    await kit.serve(Orders())
    await kit.serve(Orders())
    with pytest.raises(InvalidArgument, match=r"Other and .*Orders .* name 'orders'"):
        await kit.serve(Other())
    await kit.drain()
    await kit.serve(Other())
