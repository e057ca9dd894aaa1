"""What a client likes best of what there is."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from kitmsg_gateways.http.content import choose

LINES, EVENTS, OCTETS = (
    "application/x-ndjson",
    "text/event-stream",
    "application/octet-stream",
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", LINES),
        ("*/*", LINES),
        (BROWSER, LINES),
        (EVENTS, EVENTS),
        ("Text/Event-Stream; charset=utf-8", EVENTS),
        (f"{LINES};q=0.5, {EVENTS}", EVENTS),
        (f"{LINES};q=0.5, {EVENTS};q=0.5", LINES),
        ("text/*", EVENTS),
        ("text/*;q=0.9, */*;q=0.1", EVENTS),
        (f"*/*, {LINES};q=0", EVENTS),
        (f"{EVENTS};q=0", None),
        ("application/json", None),
        ("nonsense", None),
        ("application/json, ;;;, */*;q=x", LINES),
    ],
)
def test_choice(accept, chosen):
    """The closest name decides, then the weight, then our own order."""
    assert choose(accept, (LINES, EVENTS)) == chosen


@given(st.text(alphabet='abq=;,/*. 01"\\', max_size=60))
def test_whatever_a_client_says_it_is_an_offer_or_none(accept):
    """Nothing that can be sent in the header breaks it."""
    assert choose(accept, (LINES, EVENTS, OCTETS)) in (LINES, EVENTS, OCTETS, None)
