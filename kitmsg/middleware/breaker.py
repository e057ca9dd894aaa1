"""Stop calling a peer that keeps failing, and try it again after a while.

The circuit is aiobreaker's (M. Nygard, "Release It!"); the extra ``breaker`` is needed
when `breaker` is called and not before.  Two things are done here and not there: time is
the event loop's, because aiobreaker 1.2 mixes naive UTC and local times; and a half-open
circuit lets one call through, where aiobreaker lets all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from kitmsg.endpoints import Middleware
from kitmsg.errors import BusinessError, Code, Unavailable, code_of

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["breaker"]

_log = logging.getLogger("kitmsg.middleware.breaker")

_PEER_FAILS: Final = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN}
)


def breaker(
    failures: int = 5, *, reset: float = 30.0, on: Collection[Code] = _PEER_FAILS
) -> Middleware:
    """Refuse calls for a while after `failures` failures in a row.

    The circuit is closed at first.  After the failures it is open: calls are refused at
    once.  After `reset` seconds it is half-open: one call goes through, the others
    are still refused.  If that one succeeds the circuit closes, else it opens again.

    Only errors that say something about the peer are failures.  Any other answer, a
    `BusinessError` or `InvalidArgument` too, proves that it works.

    Args:
        failures: Failures in a row that open the circuit; at least 1.
        reset: Time it stays open, in seconds; more than zero.
        on: Codes that count as failures.

    Raises:
        ValueError: `failures` or `reset` is too small.
        ImportError: aiobreaker is not installed.
        Unavailable: From the wrapped endpoint, while the circuit is open; `retry_after`
            says when it will be half-open, None while one call tries the peer.
    """
    if failures < 1:
        raise ValueError(f"failures must be at least 1, not {failures!r}")
    if not reset > 0:
        raise ValueError(f"reset must be positive, not {reset!r}")
    codes = frozenset(on)
    opened = _circuit_class()[1]

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        gate = _Gate(failures, reset, codes)

        async def guarded(ctx: Context, request: Req) -> Resp:
            is_trial = gate.enter(ctx)
            try:
                response: Resp = await gate.circuit.call_async(call, ctx, request)
            except opened as exc:
                # The call that opened the circuit; its own error says more.
                raise exc.__cause__ from exc.__cause__.__cause__
            else:
                return response
            finally:
                if is_trial:
                    gate.is_tried = False

        return guarded

    return wrap


class _Gate:
    """A circuit, and whether a call is trying the peer."""

    def __init__(self, failures: int, reset: float, codes: frozenset[Code]) -> None:
        self.circuit = _circuit_class()[0](
            fail_max=failures, exclude=[lambda error: not _is_failure(error, codes)]
        )
        self.is_tried = False
        self._reset = reset

    def enter(self, ctx: Context) -> bool:
        """Let a call pass; return whether it is the one that tries the peer.

        Raises:
            Unavailable: The circuit is open, or half-open and tried by another call.
        """
        if self.circuit.is_closed:
            return False
        left = self.circuit.opened_at + self._reset - asyncio.get_running_loop().time()
        name = ctx.endpoint or "the peer"
        if left > 0:
            shut = Unavailable(f"circuit open: {name} keeps failing", retry_after=left)
            raise shut.before(ctx.endpoint)
        if self.is_tried:
            tried = Unavailable(f"circuit half-open: another call is trying {name}")
            raise tried.before(ctx.endpoint)
        self.is_tried = True
        self.circuit.half_open()
        return True


def _is_failure(error: Exception, codes: frozenset[Code]) -> bool:
    return not isinstance(error, BusinessError) and code_of(error) in codes


@cache
def _circuit_class() -> tuple[Any, Any]:
    """Return aiobreaker's circuit, on the loop's clock, and the error when it opens."""
    try:
        from aiobreaker import CircuitBreaker, CircuitBreakerError, CircuitBreakerState
    except ImportError as exc:
        raise ImportError(
            "breaker() needs aiobreaker: pip install 'kitmsg[breaker]'"
        ) from exc

    class Circuit(CircuitBreaker):  # type: ignore[misc]  # it has no types
        """A circuit whose time is the event loop's.

        Attributes:
            opened_at: When it was opened, on the loop's clock, in seconds.
        """

        opened_at = 0.0
        opens_at = None  # a date in aiobreaker; `_Gate` knows better

        @property
        def is_closed(self) -> bool:
            """Whether calls go through unconditionally."""
            return bool(self.current_state is CircuitBreakerState.CLOSED)

        def open(self) -> None:
            """Open; a circuit that is open already stays so no longer for it."""
            if self.current_state is CircuitBreakerState.OPEN:
                return
            self.opened_at = asyncio.get_running_loop().time()
            self._state_storage.state = CircuitBreakerState.OPEN
            self.state = CircuitBreakerState.OPEN
            _log.warning("circuit opened after %d failures in a row", self.fail_counter)

        def close(self) -> None:
            """Close, and say so."""
            super().close()
            _log.info("circuit closed: the peer works again")

    return Circuit, CircuitBreakerError
