"""What was checked a moment ago."""

from __future__ import annotations

import pytest

from kitmsg.auth.recent import Recent


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr("kitmsg.auth.recent.monotonic", lambda: now[0])
    return now


def test_a_value_holds_for_its_time(clock):
    """And then is forgotten."""
    recent: Recent[str, int] = Recent()
    recent.put("a", 1, 10)
    recent.put("b", 2, 0)
    clock[0] += 9
    assert (recent.get("a"), recent.get("b")) == (1, None)
    clock[0] += 1
    assert recent.get("a") is None
    assert len(recent) == 0


def test_it_is_bounded(clock):
    """The oldest goes first."""
    recent: Recent[int, int] = Recent(most=3)
    for number in range(5):
        recent.put(number, number, 10)
    recent.put(2, 7, 10)
    recent.put(9, 9, 10)
    assert [recent.get(number) for number in (0, 1, 3, 4, 2, 9)] == [
        *(None, None, None, 4, 7, 9)
    ]
    recent.clear()
    assert len(recent) == 0
