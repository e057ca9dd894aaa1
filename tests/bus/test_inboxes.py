"""Where an answer may go: to inboxes, and nowhere else."""

from __future__ import annotations

import logging

import pytest

from kitmsg.bus.inboxes import Inboxes
from kitmsg.errors import InvalidArgument


@pytest.mark.parametrize(
    "subject", ["_INBOX.a.1", "_INBOX_orders.kit_x.1-y", "eu.replies.a", "_R.a"]
)
def test_inboxes_are_taken(subject: str) -> None:
    """Those of any client, and those below a prefix that was named."""
    inboxes = Inboxes("eu.replies", "_R")
    assert inboxes.takes(subject)
    assert inboxes.refused == 0


@pytest.mark.parametrize(
    "subject",
    ["", "$JS.API.STREAM.DELETE.X", "_INBOX", "_INBOXES.a", "_R.a", "a._INBOX.b", ">"],
)
def test_anything_else_is_refused_and_counted(subject: str) -> None:
    """Whatever it looks like."""
    inboxes = Inboxes()
    assert not inboxes.takes(subject)
    assert inboxes.refused == 1


def test_a_flood_of_refusals_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Refusals cannot fill the log either, and what to do stands in it."""
    inboxes = Inboxes()
    with caplog.at_level(logging.WARNING):
        for n in range(1000):
            inboxes.takes(f"victim.{n}")
    assert inboxes.refused == 1000
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "--nats-peer-inbox" in caplog.text


def test_a_prefix_is_a_subject() -> None:
    """A mistake is found when the connection is made."""
    with pytest.raises(InvalidArgument, match="subject"):
        Inboxes("a b")
