"""Failed attempts at a delivery: when the next one is, and `Reject`, which wants none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from kitmsg.errors import Code, KitError

__all__ = ["RETRIES", "Reject", "check_retries"]

RETRIES: Final = (1.0, 5.0, 30.0, 300.0)
"""Seconds before the second attempt, the third, and so on."""


class Reject(KitError):
    """Raised by a handler: this delivery is no use, now or later; make it a dead letter.

    Args:
        reason: Kept with the dead letter.
    """

    code = Code.FAILED_PRECONDITION


def check_retries(given: Any, what: str) -> tuple[float, ...]:
    """Return the seconds before each further attempt.

    Raises:
        TypeError: They are no list of numbers.
        ValueError: One is negative.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(
            f"{what}(retries={given!r}): a list of seconds, such as (1, 5, 30)"
        )
    for each in given:
        if isinstance(each, bool) or not isinstance(each, (int, float)):
            raise TypeError(f"{what}(retries=...): {each!r} is no number of seconds")
        if each < 0:
            raise ValueError(f"{what}(retries=...): {each!r} is negative")
    return tuple(float(each) for each in given)
