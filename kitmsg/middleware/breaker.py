"""Stop calling a peer that fails several times in a row, and try it again after a while.

The count is aiobreaker's (M. Nygard, "Release It!"), and so are its listeners; the extra
``breaker`` is needed when `breaker` is called and not before.  The states are
`kitmsg.circuit`'s, because aiobreaker 1.2 mixes naive UTC and local times, and lets all
calls through a half-open circuit.  The options are gobreaker's.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Sequence
from typing import Any, Final

from kitmsg.circuit import IsFailure, State, guard, is_peer_failure
from kitmsg.endpoints import Middleware
from kitmsg.errors import BusinessError, Code, code_of

__all__ = ["breaker"]

_PART: Final = "breaker"


def breaker(
    failures: int = 5,
    *,
    reset: float = 30.0,
    trials: int = 1,
    interval: float | None = None,
    is_failure: IsFailure = is_peer_failure,
    on: Collection[Code] | None = None,
    listeners: Sequence[Any] = (),
) -> Middleware:
    """Refuse calls for a while after `failures` failures in a row.

    The circuit is closed at first.  After the failures it is open: calls are refused at
    once.  After `reset` seconds it is half-open: `trials` calls go through, the others
    are still refused.  If those succeed the circuit closes, at one failure it opens again.

    Only errors that say something about the peer are failures.  Any other answer, a
    `BusinessError` or `InvalidArgument` too, proves that it works.

    Args:
        failures: Failures in a row that open the circuit; at least 1.
        reset: Time it stays open, in seconds; more than zero.
        trials: Calls that try a half-open circuit, all of which must succeed; at least 1.
        interval: Seconds after which a closed circuit counts from zero; None for never.
        is_failure: Says whether an error counts.
        on: Codes that count, instead of `is_failure`.
        listeners: ``aiobreaker.CircuitBreakerListener`` objects, told of each change.

    Raises:
        ValueError: A number is too small.
        ImportError: aiobreaker is not installed.
        Unavailable: From the wrapped endpoint, while the circuit is open; `retry_after`
            says when it will be half-open, None while other calls try the peer.
    """
    if failures < 1:
        raise ValueError(f"failures must be at least 1, not {failures!r}")
    if interval is not None and not interval > 0:
        raise ValueError(f"interval must be positive, not {interval!r}")
    library = _aiobreaker()

    def make() -> _InARow:
        return _InARow(library, failures, interval, listeners)

    judge = is_failure if on is None else _by_code(frozenset(on))
    return guard(_PART, make, reset=reset, trials=trials, is_failure=judge)


def _by_code(codes: frozenset[Code]) -> IsFailure:
    return lambda error: (
        not isinstance(error, BusinessError) and code_of(error) in codes
    )


class _InARow:
    """Opens after failures in a row; aiobreaker counts."""

    def __init__(
        self,
        library: Any,
        failures: int,
        interval: float | None,
        listeners: Sequence[Any],
    ) -> None:
        self._states = library.CircuitBreakerState
        self._circuit = library.CircuitBreaker(fail_max=failures, listeners=listeners)
        self._opened = library.CircuitBreakerError
        self._interval = interval
        self._since: float | None = None

    def count(self, error: Exception | None, now: float) -> str:
        """Count an outcome."""
        if self._interval and (
            self._since is None or now - self._since >= self._interval
        ):
            self._since = now
            self._circuit._state_storage.reset_counter()  # noqa: SLF001
        try:
            self._circuit.call(_raise, error)
        except self._opened:
            return f"after {self._circuit.fail_counter} failures in a row"
        except Exception as raised:
            if raised is not error:
                raise
        return ""

    def moved(self, state: State) -> None:
        """Keep aiobreaker's state, and so its listeners, in step."""
        self._since = None
        if self._circuit.current_state.name != state.name:
            self._circuit._state_storage.state = self._states[state.name]  # noqa: SLF001
            self._circuit.state = self._states[state.name]


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


def _aiobreaker() -> Any:
    try:
        return importlib.import_module("aiobreaker")
    except ImportError as exc:
        raise ImportError(
            "breaker() needs aiobreaker: pip install 'kitmsg[breaker]'"
        ) from exc
