"""Send a failing peer only as many calls as it can answer, plus a few to try it.

Client-side throttling of Google's SRE book ("Handling Overload"), with go-zero's two
refinements: the more of the window fails, the less is let through; and after a quiet
second one call always is.  What succeeded since the last failure counts against the rest of
the window, so that a peer that is back has all its calls after two seconds.  There is no
closed and open: calls are refused at random, by the share that fails.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Final

from kitmsg.circuit import IsFailure
from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import (
    BusinessError,
    Code,
    Disconnected,
    NoResponders,
    Unavailable,
    code_of,
)
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.rolling import Rolling

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["Throttle", "adaptive_breaker", "is_overload", "throttled_error"]

_PART: Final = "adaptive_breaker"
_WINDOW: Final = 10.0
_BUCKETS: Final = 40
_PROTECTED: Final = 5  # calls in the window that never count
_STRICTEST: Final = 1.1  # accepts are multiplied by no less, however much fails
_RECOVERED: Final = (
    8  # buckets with nothing but successes after which all are let through
)
_PROBE_AFTER: Final = 1.0  # seconds without a call that was let through
_MOST_KEYS: Final = 4096
_OVERLOAD: Final = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED}
)
_NOT_THE_PEER: Final = (Disconnected, NoResponders)


def is_overload(error: Exception) -> bool:
    """Return whether an error says that the peer cannot keep up.

    A lost bus says nothing about the peer; where nobody listens, the bus answers at once
    and nobody is spared; and an answer, ``internal`` too, says that the peer works.
    """
    return code_of(error) in _OVERLOAD and not isinstance(
        error, (BusinessError, *_NOT_THE_PEER)
    )


class Throttle:
    """The share of calls to let through to one peer.  No clock, no I/O.

    Hot path: while nothing fails, a success is one addition to `good`, which a caller may
    do itself.

    Args:
        k: Calls that are sent for each that is accepted, at most; 1.5 keeps half as many
            again, so that a peer that is well again is seen soon.
        random: Gives numbers from 0 to 1.

    Attributes:
        is_quiet: Whether nothing failed in the window: all calls are let through.
        good: Successes since it is quiet; counts only then.
    """

    __slots__ = ("_k", "_passed_at", "_random", "_recent", "_since", "good", "is_quiet")

    def __init__(
        self, k: float = 1.5, random: Callable[[], float] = random.random
    ) -> None:
        # Invariant: empty while `is_quiet`; `good` and `_since` stand for it then.
        self._recent = Rolling(_WINDOW, _BUCKETS)
        self._k = k
        self._random = random
        self._passed_at = 0.0  # when a call was let through that might not have been
        self._since = 0.0  # when it became quiet
        self.is_quiet = False  # until the first look at the clock
        self.good = 0

    def wait(self, now: float) -> float:
        """Return 0 to let a call through, else seconds until one surely is."""
        if self.is_quiet:
            return 0.0
        recent = self._recent
        recent.move(now)
        if not recent.failures:
            self._rest(now)
            return 0.0
        working, failing = recent.streaks()
        k = self._k - (self._k - _STRICTEST) * failing / _BUCKETS
        total = recent.total
        drop = (total - _PROTECTED - k * recent.successes) / (total + 1)
        if drop > 0:
            left = self._passed_at + _PROBE_AFTER - now
            unproved = max(0, _RECOVERED - working) / _RECOVERED
            if left > 0 and self._random() < drop * unproved:
                return left
        self._passed_at = now
        return 0.0

    def succeeded(self, now: float) -> None:
        """Count a call that was answered."""
        if self.is_quiet:
            self.good += 1
        else:
            self._recent.succeeded(now)

    def failed(self, now: float) -> None:
        """Count a call that was not."""
        if self.is_quiet:
            self.is_quiet = False
            self._recent.spread(self.good, self._since, now)
        self._recent.failed(now)

    def refused(self, now: float) -> None:
        """Count a call that was not let through."""
        self._recent.refused(now)

    def _rest(self, now: float) -> None:
        self.is_quiet = True
        self.good = self._recent.successes
        self._since = now - _WINDOW if self.good else now
        self._recent.clear()


class Unthrottled(Throttle):
    """Lets every call through, and counts none."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self.is_quiet = True  # for ever

    def failed(self, now: float) -> None:
        """Count nothing."""


def adaptive_breaker(
    k: float = 1.5,
    *,
    is_failure: IsFailure = is_overload,
    key: Callable[[Context, Any], Hashable] | None = None,
    random: Callable[[], float] = random.random,
) -> Middleware:
    """Refuse the share of calls that a failing peer could not answer anyway.

    Nothing is refused while at least ``1 / k`` of the calls of the last ten seconds were
    answered, nor the first few.  With a peer that answers nothing, one call a second
    tries it.

    Args:
        k: Calls sent for each that is answered, at most; over 1.
        is_failure: Says whether an error means that the peer is down or overloaded.
        key: Tells apart peers behind one endpoint, such as instances; None for one.
        random: Gives numbers from 0 to 1.

    Raises:
        ValueError: `k` is not over 1.
        Unavailable: From the wrapped endpoint, for a call that is refused; `retry_after`
            says when one is surely let through.
    """
    if not k > 1:
        raise ValueError(f"k must be over 1, not {k!r}")

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        throttles: dict[Hashable, Throttle] = {}

        def find(ctx: Context, request: Req) -> Throttle:
            who = ctx.endpoint if key is None else (ctx.endpoint, key(ctx, request))
            found = throttles.get(who)
            if found is None:
                while len(throttles) >= _MOST_KEYS:
                    del throttles[next(iter(throttles))]
                found = throttles[who] = Throttle(k, random)
            return found

        async def throttled(ctx: Context, request: Req) -> Resp:
            clock = asyncio.get_running_loop().time
            throttle = find(ctx, request)
            now = clock()
            wait = throttle.wait(now)
            if wait:
                throttle.refused(now)
                raise throttled_error(ctx.endpoint, wait)
            try:
                response = await call(ctx, request)
            except Exception as error:
                if is_failure(error):
                    throttle.failed(clock())
                elif not isinstance(error, _NOT_THE_PEER):
                    throttle.succeeded(clock())
                raise
            throttle.succeeded(clock())
            return response

        return throttled

    return wrap


def throttled_error(name: str, wait: float) -> Unavailable:
    """Count and return the refusal of a call.

    Args:
        name: Dotted name of the endpoint.
        wait: Seconds until a call is surely let through.
    """
    RESILIENCE.refused(_PART, name)
    text = f"{_PART}: most calls of {name or 'the peer'} fail, so this one is not sent"
    return Unavailable(text, retry_after=wait).before(name)
