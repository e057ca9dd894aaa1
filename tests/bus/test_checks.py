"""The quick check of subjects agrees with the thorough one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from kitmsg.bus.checks import check_publish, check_queue
from kitmsg.errors import InvalidArgument
from kitmsg.message import check_subject


def accepts(subject: str) -> bool:
    try:
        check_publish(subject, "", 0, 0)
    except InvalidArgument:
        return False
    return True


@given(st.text(st.sampled_from("ab.$-_* >\r\n\t\0\x7fé²\u2028"), max_size=8))
def test_agrees_with_check_subject(subject: str) -> None:
    """What passes here would pass there, for subject and reply alike."""
    try:
        check_subject(subject)
    except InvalidArgument:
        assert not accepts(subject)
    else:
        assert accepts(subject)


@given(st.text(max_size=20).filter(accepts))
def test_nothing_can_be_injected(subject: str) -> None:
    """No accepted subject splits a command line."""
    assert len(f"PUB {subject} 0".encode().split()) == 3


def test_a_bad_reply_is_refused() -> None:
    """The reply subject is looked at as well; "" is none."""
    check_publish("a", "", 0, 0)
    with pytest.raises(InvalidArgument, match="'b c'"):
        check_publish("a", "b c", 0, 0)


def test_a_queue_group_is_one_word() -> None:
    """White space would split the command; anything else is the server's business."""
    check_queue("")
    check_queue("q.1")
    for queue in ("a b", "a\r\n", "\ud800"):
        with pytest.raises(InvalidArgument):
            check_queue(queue)
