"""The place in a log that a follower begins at: a sequence, a time, or so long ago."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

from kitmsg.errors import InvalidArgument
from kitmsg.jetstream.checks import LAST_TIME

__all__ = ["Since", "read_since"]

Since = int | float | None
"""A sequence (whole), a time in unix seconds, or None for what comes from now on."""

_SEQUENCE: Final = re.compile(r"#?(\d{1,18})", re.ASCII)
_AGO: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)", re.ASCII)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def read_since(text: str, now: float) -> Since:
    """Return where a client wants to begin.

    Args:
        text: ``120`` or ``#120`` for a sequence, ``1h`` for so long ago, or a time as in
            RFC 3339; "" for from now on.
        now: Unix seconds.

    Raises:
        InvalidArgument: It is none of them.
    """
    if not text:
        return None
    if sequence := _SEQUENCE.fullmatch(text):
        return int(sequence[1])
    if ago := _AGO.fullmatch(text):
        return max(0.0, now - float(ago[1]) * _UNITS[ago[2]])
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidArgument(
            f"since={text[:40]!r}: write a sequence such as 120, a time ago such as 1h, or"
            " a time such as 2026-11-28T12:00:00Z",
            field="since",
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    try:
        seconds = found.timestamp()
    except (OverflowError, ValueError):
        seconds = math.inf
    if not 0 <= seconds <= LAST_TIME:
        raise InvalidArgument(
            f"since={text[:40]!r}: write a time from 1970 to 2262-04-11", field="since"
        )
    return seconds
