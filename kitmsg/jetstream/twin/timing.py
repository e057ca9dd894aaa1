"""Rules of schedules, and durations, as nats-server reads them (NATS ADR-51, ADR-43)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from kitmsg.jetstream.twin.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["due", "seconds_of"]

_UNITS: Final = {
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "ns": 1e-9,
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|us|µs|ns|s)")
_NAMED: Final = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}
_FIELDS: Final = 6


def seconds_of(text: str) -> float:
    """Return a time to live, whole seconds or a duration of Go, in seconds.

    Raises:
        Refusal: It is neither, or less than a second.
    """
    if text.isdigit():
        seconds = float(text)
    elif _PART.sub("", text) or not text:
        raise Refusal(10165)
    else:
        seconds = sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text))
    if seconds < 1:
        raise Refusal(10165)
    return seconds


def due(headers: Mapping[str, str], now: float, *, rule: str, zone: str) -> float:
    """Return when a schedule is due next, in unix seconds.

    Args:
        headers: The message's.
        now: Unix seconds.
        rule: Name of the header that has the rule.
        zone: Name of the header that has the time zone.

    Raises:
        Refusal: The rule is malformed.
    """
    text = headers.get(rule, "")
    if text.startswith("@at "):
        try:
            return datetime.fromisoformat(text[4:]).timestamp()
        except ValueError:
            raise Refusal(10189) from None
    if text.startswith("@every "):
        try:
            return float(int(now) + int(seconds_of(text[7:])))  # on whole seconds
        except Refusal:
            raise Refusal(10189) from None
    text = _NAMED.get(text, text)
    try:
        where = ZoneInfo(headers.get(zone) or "UTC")
        if len(text.split()) != _FIELDS:
            raise Refusal(10189)
        # The next one behind now, in whole seconds, as cron counts.
        start = datetime.fromtimestamp(now, UTC).astimezone(where)
        return next(CronSim(text, start)).timestamp()
    except (CronSimError, StopIteration, ZoneInfoNotFoundError, ValueError):
        raise Refusal(10189) from None
