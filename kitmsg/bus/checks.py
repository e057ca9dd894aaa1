"""Checks before a message is sent: subject and size, with the same errors on every bus.

On the hot path: a plain subject costs one regular expression.
"""

from __future__ import annotations

import re
from typing import Final

from kitmsg.errors import InvalidArgument
from kitmsg.message import check_subject

__all__ = ["DEFAULT_MAX_PAYLOAD", "check_pattern", "check_publish", "check_queue"]

DEFAULT_MAX_PAYLOAD: Final = 1 << 20
"""Longest header block and payload together, in bytes; a NATS server's default."""

# The common form of a subject, which needs no closer look.
_plain = re.compile(r"[\w$-]+(?:\.[\w$-]+)*", re.ASCII).fullmatch
_BAD_QUEUE = re.compile(r"[\s\x00-\x1f\x7f]")


def check_publish(subject: str, reply: str, size: int, max_payload: int) -> None:
    """Refuse a message that must not reach the wire.

    Args:
        subject: Where it goes.
        reply: Where its answer goes; "" for nowhere.
        size: Header block and payload together, in bytes.
        max_payload: The limit for `size`, in bytes.

    Raises:
        InvalidArgument: A subject is malformed or the message is too long.
    """
    if not _plain(subject):
        _check(subject)
    if reply and not _plain(reply):
        _check(reply)
    if size > max_payload:
        raise InvalidArgument(
            f"message to {subject!r} is {size} bytes; max_payload is {max_payload}"
        )


def check_pattern(subject: str) -> None:
    """Refuse a subject that cannot be subscribed to.

    Raises:
        InvalidArgument: `subject` is malformed.
    """
    _check(subject, wildcards=True)


def check_queue(queue: str) -> None:
    """Refuse a queue group that cannot be joined; "" is none and is fine.

    Raises:
        InvalidArgument: `queue` is malformed.
    """
    if _BAD_QUEUE.search(queue):
        raise InvalidArgument(f"{queue!r} is not a queue group: no white space")
    _check_utf8(queue)


def _check(subject: str, *, wildcards: bool = False) -> None:
    check_subject(subject, wildcards=wildcards)
    _check_utf8(subject)


def _check_utf8(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{text!r} cannot be written as UTF-8") from None
