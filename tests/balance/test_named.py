"""Pickers as text, as the command line has them."""

from __future__ import annotations

import re

import pytest

from kitmsg.balance.chance import AtRandom
from kitmsg.balance.named import parse_picker
from kitmsg.balance.outlier import OutlierEjection
from kitmsg.balance.p2c import P2c
from kitmsg.balance.picker import PickerAround
from kitmsg.balance.ring import ConsistentHash
from kitmsg.balance.roundrobin import RoundRobin
from kitmsg.balance.slowstart import SlowStart
from kitmsg.balance.subset import Subset
from kitmsg.balance.weighted import Weighted
from kitmsg.balance.zone import ZoneFirst
from kitmsg.context import Context


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("p2c", [P2c]),
        ("roundrobin", [RoundRobin]),
        ("random", [AtRandom]),
        ("weighted", [Weighted]),
        ("ring:id", [ConsistentHash]),
        ("zone:eu-1", [ZoneFirst, P2c]),
        ("zone:eu-1,roundrobin", [ZoneFirst, RoundRobin]),
        ("outlier,zone:eu-1,p2c", [OutlierEjection, ZoneFirst, P2c]),
        ("subset:20, slowstart:2.5", [Subset, SlowStart, P2c]),
    ],
)
def test_a_text_is_a_picker(text: str, kinds: list[type]) -> None:
    """The outermost first; what only narrows the set has p2c inside."""
    picker, found = parse_picker(text).picker, []
    while True:
        found.append(type(picker))
        if not isinstance(picker, PickerAround):
            break
        picker = picker.inner
    assert found == kinds


def test_a_ring_goes_by_a_field() -> None:
    """Of a request that is an object, or a map."""
    key = parse_picker("outlier,ring:id").key
    assert key is not None
    assert key(Context(), {"id": 7}) == "7"
    assert key(Context(), {}) == ""
    assert parse_picker("p2c").key is None


@pytest.mark.parametrize(
    "text", ["", "p3c", "ring", "ring:", "zone", "zone:", "p2c,p2c", "outlier:3", ","]
)
def test_what_is_no_picker_is_told_with_those_there_are(text: str) -> None:
    """In one sentence."""
    with pytest.raises(ValueError, match=re.escape("write p2c, roundrobin, random")):
        parse_picker(text)


@pytest.mark.parametrize("text", ["subset:x", "subset:0", "slowstart:0", "subset:1.5"])
def test_a_number_that_is_none_is_told(text: str) -> None:
    """With the part that it stands in."""
    with pytest.raises(ValueError, match=f"'{text}' in '{text}' has no such number"):
        parse_picker(text)
