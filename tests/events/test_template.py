"""Subjects of events: fields in their places, whatever they hold."""

from __future__ import annotations

from datetime import date
from enum import Enum
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from kitmsg.errors import InvalidArgument
from kitmsg.events.template import MAX_TOKEN, Template, token_of
from kitmsg.message import check_subject, matches


class Colour(Enum):
    RED = "dark.red"


@given(st.text(max_size=20), st.text(max_size=20))
def test_two_values_never_share_a_subject(one: str, other: str) -> None:
    assert (token_of(one) == token_of(other)) == (one == other)


@given(st.text(max_size=20))
def test_a_value_stays_in_the_place_that_its_template_gives_it(value: str) -> None:
    write = Template.parse("orders.{name}.placed").writer("event")
    subject = write(SimpleNamespace(name=value))
    assert check_subject(subject) == subject
    assert subject.split(".")[0::1][:2] == ["event", "orders"]
    assert len(subject.split(".")) == 4
    assert matches("event.orders.*.placed", subject)


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("A1", "A1"),
        ("", "%"),
        ("%", "%25"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        (">", "%3E"),
        ("a b", "a%20b"),
        ("a\nb", "a%0Ab"),
        ("é", "%C3%A9"),
        (7, "7"),
        (True, "true"),
        (Colour.RED, "dark%2Ered"),
        (date(2026, 11, 28), "2026-11-28"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_is_one_token(value: Any, token: str) -> None:
    assert token_of(value) == token


def test_a_value_that_is_too_long_is_refused_by_its_field() -> None:
    write = Template.parse("orders.{name}").writer("event")
    assert write(SimpleNamespace(name="x" * MAX_TOKEN))
    with pytest.raises(
        InvalidArgument, match="^name: a subject holds at most 256"
    ) as e:
        write(SimpleNamespace(name="x" * (MAX_TOKEN + 1)))
    assert e.value.field == "name"


def test_a_value_without_a_text_of_its_own_is_refused_by_its_field() -> None:
    write = Template.parse("orders.{name}").writer("event")
    with pytest.raises(InvalidArgument, match=r"name: 1\.5 has no form in a subject"):
        write(SimpleNamespace(name=1.5))


def test_a_filter_names_values_and_leaves_the_rest_open() -> None:
    template = Template.parse("orders.{region}.placed.{order_id}")
    assert template.name == "orders.placed"
    assert template.pattern("event") == "event.orders.*.placed.*"
    eu = template.pattern("event", {"region": "e.u"})
    assert eu == "event.orders.e%2Eu.placed.*"
    with pytest.raises(InvalidArgument, match="'colour' is no field of the subject"):
        template.pattern("event", {"colour": "eu"})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{a}.b", "begins with a field"),
        ("a.{b}.{b}", "has a field twice"),
        ("a..b", "'' is no token"),
        ("a.*", r"'\*' is no token"),
        ("a.>", "'>' is no token"),
        ("a.x{b}", r"'x\{b\}' is no token"),
        ("a b", "'a b' is no token"),
        ("$JS.a", r"'\$JS' is no token"),
        ("_kit.a", "'_kit' is no token"),
    ],
)
def test_a_template_that_is_none_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Template.parse(text)
