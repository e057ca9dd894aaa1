"""What travels with a request."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.context import Context, current, enter
from kitmsg.message import Message, encode_headers


def turn(headers: dict[str, str], **options: object) -> Context:
    """Return the context of a turn whose request had `headers`."""
    message = Message("a.b", header_block=encode_headers(headers))
    return Context(endpoint="a.b", message=message, **options)  # type: ignore[arg-type]


def test_remaining_is_never_negative() -> None:
    """What is left, in seconds; None without a deadline."""
    assert Context().remaining(5) is None
    assert Context(deadline=7).remaining(5) == 2
    assert Context(deadline=7).remaining(9) == 0


def test_evolve_copies() -> None:
    """A copy with a few other values; the original stays."""
    given = turn({"Kit-Request-Id": "r-1"}, deadline=3.0, principal="ann")
    given.propagates = False
    copy = given.evolve(principal="bob")
    assert (given.principal, copy.principal) == ("ann", "bob")
    assert (copy.deadline, copy.endpoint, copy.message) == (3.0, "a.b", given.message)
    assert copy.request_id == "r-1"
    assert not copy.propagates


def test_evolve_refuses_what_it_does_not_know() -> None:
    """A misspelt name is an error, not a silent attribute."""
    with pytest.raises(AttributeError):
        Context().evolve(principle="ann")


def test_request_id_is_made_once() -> None:
    """A request that brought none gets one and keeps it."""
    ctx = turn({})
    assert ctx.request_id == ctx.request_id
    assert len(ctx.request_id) == 16
    assert ctx.request_id != turn({}).request_id


def test_child_inherits() -> None:
    """A nested call has this deadline, this caller, and the same trace."""
    fields = {
        "traceparent": "00-1",
        "tracestate": "a=1",
        "baggage": "b=2",
        "Kit-Request-Id": "r-1",
    }
    ctx = turn({**fields, "Authorization": "secret", "Other": "x"}, deadline=9.0)
    child = ctx.child("c.d")
    assert (child.endpoint, child.caller, child.deadline) == ("c.d", "a.b", 9.0)
    assert child.metadata == fields
    assert child.message is None


@pytest.mark.parametrize("name", ["Traceparent", "TRACEPARENT", "traceparent"])
def test_trace_headers_go_on_in_any_case(name: str) -> None:
    """Header names have no case: some clients capitalise them."""
    assert turn({name: "00-1"}).child("c.d").metadata["traceparent"] == "00-1"


@pytest.mark.parametrize("headers", [{}, {"traceparent": "00-1"}])
def test_all_nested_calls_share_a_request_id(headers: dict[str, str]) -> None:
    """One is made up where the request brought none, and stays the turn's own."""
    ctx = turn(headers)
    first, second = ctx.child("c.d"), ctx.child("e.f")
    expected = {**headers, "Kit-Request-Id": ctx.request_id}
    assert first.metadata == second.metadata == expected


def test_nothing_goes_on_when_propagation_is_off() -> None:
    """Neither trace nor request id."""
    ctx = turn({"traceparent": "00-1", "Kit-Request-Id": "r-1"})
    ctx.propagates = False
    assert ctx.child("c.d").metadata == {}


def test_metadata_set_by_hand_goes_along_outside_a_turn() -> None:
    """Inside one, metadata of the turn's own context is not forwarded."""
    given = {"Tenant": "blue"}
    assert Context(metadata=given).child("c.d").metadata == given
    assert "Tenant" not in turn({}, metadata=given).child("c.d").metadata


async def test_current_is_per_task() -> None:
    """Each task has its own; outside any turn it is empty."""
    assert current().endpoint == ""

    async def one(name: str) -> str:
        enter(Context(endpoint=name))
        await asyncio.sleep(0)
        return current().endpoint

    assert tuple(await asyncio.gather(one("a.a"), one("b.b"))) == ("a.a", "b.b")
    assert current().endpoint == ""


async def test_current_is_seen_in_threads() -> None:
    """`asyncio.to_thread` carries it along."""
    enter(Context(endpoint="a.a"))
    assert await asyncio.to_thread(lambda: current().endpoint) == "a.a"


def test_a_copy_has_the_request_id_of_its_original() -> None:
    """An id made up by the one is the other's too, and goes along from both."""
    ctx = Context(message=Message("greeter.hello"))
    copy = ctx.evolve(deadline=1.0).evolve(deadline=2.0)
    assert copy.request_id == ctx.request_id
    assert copy.propagated() == {"Kit-Request-Id": ctx.request_id}
