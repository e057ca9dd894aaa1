"""Stop calling a peer when too large a share of recent calls fails.

The circuit of streadway/handy, which Go kit wraps as ``HandyBreaker``; the share is of
calls in a moving window, and says nothing before a minimum of them.
"""

from __future__ import annotations

from kitmsg.circuit import IsFailure, State, guard, is_peer_failure
from kitmsg.endpoints import Middleware
from kitmsg.rolling import Rolling

__all__ = ["ratio_breaker"]


def ratio_breaker(
    ratio: float = 0.5,
    *,
    minimum: int = 10,
    window: float = 5.0,
    reset: float = 1.0,
    trials: int = 1,
    is_failure: IsFailure = is_peer_failure,
) -> Middleware:
    """Refuse calls for a while when a share of at least `ratio` fails.

    Args:
        ratio: Share of failures that opens the circuit; over 0, at most 1.
        minimum: Calls in the window before the share is looked at; at least 1.
        window: Time the share is taken over, in seconds; more than zero.
        reset: Time the circuit stays open, in seconds; more than zero.
        trials: Calls that try a half-open circuit, all of which must succeed; at least 1.
        is_failure: Says whether an error counts against the peer.

    Raises:
        ValueError: A number is out of its range.
        Unavailable: From the wrapped endpoint, while the circuit is open; `retry_after`
            says when it will be half-open, None while other calls try the peer.
    """
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be over 0 and at most 1, not {ratio!r}")
    if minimum < 1:
        raise ValueError(f"minimum must be at least 1, not {minimum!r}")
    if not window > 0:
        raise ValueError(f"window must be positive, not {window!r}")

    def make() -> _Share:
        return _Share(ratio, minimum, window)

    return guard(
        "ratio_breaker", make, reset=reset, trials=trials, is_failure=is_failure
    )


class _Share:
    """Opens when the share of failures in the window reaches a limit."""

    def __init__(self, ratio: float, minimum: int, window: float) -> None:
        self._ratio = ratio
        self._minimum = minimum
        self._recent = Rolling(window)

    def count(self, error: Exception | None, now: float) -> str:
        """Count an outcome."""
        recent = self._recent
        if error is None:
            recent.succeeded(now)
            return ""
        recent.failed(now)
        if recent.total < self._minimum or recent.failures < self._ratio * recent.total:
            return ""
        return f"after {recent.failures} failures of {recent.total} calls"

    def moved(self, _state: State) -> None:
        """Count from zero in the next state."""
        self._recent.clear()
