"""Validation of names, keys and times to live."""

from __future__ import annotations

import math
import re
from typing import Final

from kitmsg.errors import InvalidArgument

__all__ = ["check_bucket", "check_key", "check_pattern", "whole_seconds"]

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


def whole_seconds(ttl: float) -> int:
    """Return a time to live in whole seconds, rounded up.

    Raises:
        ValueError: It is not positive, or no number.
    """
    if not 0 < ttl < math.inf:
        raise ValueError(f"ttl must be positive seconds, not {ttl!r}")
    return math.ceil(ttl)
