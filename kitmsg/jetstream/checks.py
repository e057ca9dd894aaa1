"""Validation of names, keys, times and times to live."""

from __future__ import annotations

import math
import re
from typing import Final

from kitmsg.errors import InvalidArgument

__all__ = [
    "LAST_TIME",
    "check_bucket",
    "check_key",
    "check_pattern",
    "held_time",
    "whole_seconds",
]

LAST_TIME: Final = 9_223_372_036.0
"""Last unix second that NATS can hold, 2262-04-11: it counts nanoseconds in 64 bits."""


_BUCKET: Final = re.compile(r"[A-Za-z0-9_-]+")
_KEY: Final = re.compile(r"[-/_=A-Za-z0-9]+(?:\.[-/_=A-Za-z0-9]+)*")
_TOKEN: Final = re.compile(r"[-/_=A-Za-z0-9]+|\*")


def check_bucket(name: str, noun: str = "bucket") -> str:
    """Return `name` if a bucket can have it, and so can a stream and a consumer.

    Args:
        name: Of one.
        noun: For the error: what it is the name of.

    Raises:
        InvalidArgument: It is not letters, digits, ``-`` and ``_``.
    """
    if not _BUCKET.fullmatch(name):
        raise InvalidArgument(
            f"{name!r} is no name of a {noun}: letters, digits, '-' and '_'"
        )
    return name


def check_key(key: str) -> str:
    """Return `key` if a bucket can have it (NATS ADR-8, "Key-Value").

    Raises:
        InvalidArgument: It is malformed.
    """
    if not _KEY.fullmatch(key):
        raise InvalidArgument(
            f"{key!r} is no key: dotted tokens of letters, digits and '-/_='"
        )
    return key


def check_pattern(pattern: str) -> str:
    """Return `pattern` if it is a key, or one with ``*`` and a final ``>``.

    Raises:
        InvalidArgument: It is malformed.
    """
    *tokens, last = pattern.split(".")
    if last != ">":
        tokens.append(last)
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise InvalidArgument(
            f"{pattern!r} is no pattern of keys: a key, or '*' and a final '>' in one"
        )
    return pattern


def held_time(time: float) -> float:
    """Return a time as NATS can hold it: one before 1970 as the beginning of 1970.

    Beyond its range, nats-server takes a far time for a past one, and the other way round.

    Args:
        time: In unix seconds.

    Raises:
        InvalidArgument: It is no number, or after `LAST_TIME`.
    """
    if not time <= LAST_TIME:
        raise InvalidArgument(
            f"{time!r} is no time that NATS can hold: unix seconds up to 2262-04-11"
        )
    return max(time, 0.0)


def whole_seconds(ttl: float) -> int:
    """Return a time to live in whole seconds, rounded up.

    Raises:
        ValueError: It is not positive, or no number.
    """
    if not 0 < ttl < math.inf:
        raise ValueError(f"ttl must be positive seconds, not {ttl!r}")
    return math.ceil(ttl)
