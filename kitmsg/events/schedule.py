"""The decorators ``@every`` and ``@cron``, and the times that they mean.

A schedule is a function of the clock alone, so that every instance, and the next one after
a restart, knows the same times without asking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from kitmsg.endpoints import Middleware
from kitmsg.events.retries import RETRIES, check_retries

__all__ = ["Cron", "Every", "ScheduleOptions", "Times", "cron", "every", "schedule_of"]

_MARK: Final = "__kit_schedule__"
_LEAST_SECONDS: Final = 1.0
_FIELDS: Final = 5

M = TypeVar("M", bound=Callable[..., Any])


class Times(Protocol):
    """Times of a schedule, in seconds since 1970."""

    def last(self, now: float) -> float:
        """Return the latest time that is not after `now`."""
        ...

    def following(self, now: float) -> float:
        """Return the first time after `now`."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """Times that are a period apart: multiples of it since 1970, in UTC.

    Attributes:
        seconds: The period.
    """

    seconds: float

    def last(self, now: float) -> float:
        """Return the latest time that is not after `now`."""
        return math.floor(now / self.seconds) * self.seconds

    def following(self, now: float) -> float:
        """Return the first time after `now`."""
        return (math.floor(now / self.seconds) + 1) * self.seconds

    def __str__(self) -> str:
        return f"every {self.seconds:g} s"


@dataclass(frozen=True, slots=True)
class Cron:
    """Times of a cron expression, in a time zone.

    Changes of the clock are Debian cron's: a time that is skipped comes at the next
    minute that exists, one that is there twice comes once.

    Attributes:
        expression: Minute, hour, day, month, day of the week.
        zone: The time zone.
    """

    expression: str
    zone: tzinfo

    def last(self, now: float) -> float:
        """Return the latest time that is not after `now`."""
        # The library's first one is before its start, to the minute.
        after = datetime.fromtimestamp(math.floor(now / 60) * 60 + 60, self.zone)
        return self._times(after, is_reverse=True)

    def following(self, now: float) -> float:
        """Return the first time after `now`."""
        return self._times(datetime.fromtimestamp(now, self.zone), is_reverse=False)

    def _times(self, start: datetime, *, is_reverse: bool) -> float:
        found: datetime = next(CronSim(self.expression, start, reverse=is_reverse))
        return found.timestamp()

    def __str__(self) -> str:
        return f"{self.expression} ({self.zone})"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """Options of ``@every`` and ``@cron``.

    Attributes:
        times: When it is due.
        retries: Seconds before each further attempt of one that failed.
        timeout: Longest attempt, in seconds.
        middleware: Around the method, inside the service's.
    """

    times: Times
    retries: tuple[float, ...] = RETRIES
    timeout: float = 300.0
    middleware: tuple[Middleware, ...] = ()


def every(
    seconds: float = 0.0,
    *,
    minutes: float = 0.0,
    hours: float = 0.0,
    days: float = 0.0,
    retries: Sequence[float] = RETRIES,
    timeout: float = 300.0,
    middleware: Sequence[Middleware] = (),
) -> Callable[[M], M]:
    """Run a method of a `Service` again and again: once in the fleet at each time.

    The times are multiples of the period since 1970, in UTC, so ``@every(hours=1)`` is at
    each full hour.  One instance runs it; never two at once.  After times at which no
    instance was there it runs once, as soon as one is.  A run that fails is tried again as
    a failed event is, and becomes a dead letter after the last attempt.

    Args:
        seconds: The period; added to what `minutes`, `hours` and `days` make.
        minutes: See `seconds`.
        hours: See `seconds`.
        days: See `seconds`.
        retries: Seconds before each further attempt.
        timeout: Longest attempt, in seconds.
        middleware: Around the method, inside the service's.

    Raises:
        ValueError: The period is under a second.
    """
    period = seconds + 60 * minutes + 3600 * hours + 86_400 * days
    if not _LEAST_SECONDS <= period < math.inf:
        raise ValueError(f"@every: the period is {period:g} s; give a second or more")
    return _marked("@every", Every(period), retries, timeout, middleware)


def cron(
    expression: str,
    *,
    tz: str | tzinfo = "UTC",
    retries: Sequence[float] = RETRIES,
    timeout: float = 300.0,
    middleware: Sequence[Middleware] = (),
) -> Callable[[M], M]:
    """Run a method of a `Service` at the times of a cron expression, as `every` does.

    Args:
        expression: Minute, hour, day, month and day of the week: ``0 3 * * *``.
        tz: The time zone, such as ``Europe/Paris``.  A time that a change of the clock
            skips comes at the next that exists, one that is there twice comes once.
        retries: Seconds before each further attempt.
        timeout: Longest attempt, in seconds.
        middleware: Around the method, inside the service's.

    Raises:
        ValueError: `expression` or `tz` is none.
    """
    if len(expression.split()) != _FIELDS:
        raise ValueError(
            f"@cron({expression!r}): minute, hour, day, month and day of the week, such as"
            " '0 3 * * *'"
        )
    try:
        zone = ZoneInfo(tz) if isinstance(tz, str) else tz
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(
            f"@cron(tz={tz!r}) is no time zone; write one such as 'Europe/Paris'"
        ) from None
    try:
        next(CronSim(expression, datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error) or "it is never due"
        raise ValueError(f"@cron({expression!r}): {why}") from None
    return _marked("@cron", Cron(expression, zone), retries, timeout, middleware)


def schedule_of(member: Any) -> ScheduleOptions | None:
    """Return the schedule of a member that has one; None for any other."""
    found = getattr(member, _MARK, None)
    return found if isinstance(found, ScheduleOptions) else None


def _marked(
    what: str,
    times: Times,
    retries: Sequence[float],
    timeout: float,
    middleware: Sequence[Middleware],
) -> Callable[[M], M]:
    if timeout <= 0:
        raise ValueError(f"{what}(timeout={timeout!r}): positive seconds")
    options = ScheduleOptions(
        times=times,
        retries=check_retries(retries, what),
        timeout=timeout,
        middleware=tuple(middleware),
    )

    def mark(method: M) -> M:
        if not callable(method):
            raise TypeError(f"{what} goes on a method, not on {method!r}")
        setattr(method, _MARK, options)
        return method

    return mark
