"""The circuit that breakers are made of: closed, open, half-open.

A `Rule` counts outcomes while the circuit is closed and says when it opens; everything
else is the same for every breaker and stands here (M. Nygard, "Release It!"; the
generations are gobreaker's: an outcome counts only in the state in which its call began).
The clock is passed in; `guard` takes the event loop's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from kitmsg.endpoints import Middleware
from kitmsg.errors import BusinessError, Code, Unavailable, code_of
from kitmsg.metrics.resilience import RESILIENCE

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["Circuit", "IsFailure", "Rule", "State", "guard", "is_peer_failure"]

_PEER_FAILS: Final = frozenset(
    {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN}
)

IsFailure: TypeAlias = Callable[[Exception], bool]
"""Says whether an error counts against the peer."""


def is_peer_failure(error: Exception) -> bool:
    """Return whether an error says that the peer does not work.

    Any other answer, a `BusinessError` or `InvalidArgument` too, proves that it works.
    """
    return not isinstance(error, BusinessError) and code_of(error) in _PEER_FAILS


class State(IntEnum):
    """State of a circuit; the number is the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Rule(Protocol):
    """Counts outcomes while a circuit is closed."""

    def count(self, error: Exception | None, now: float) -> str:
        """Count a failure, or a success (None); return why to open, "" for not."""
        ...

    def moved(self, state: State) -> None:
        """The circuit is in another state: counts start again."""
        ...


class Circuit:
    """One circuit.  No I/O; times are the caller's, in seconds.

    Args:
        part: Name of the breaker in errors, log and metrics.
        rule: Says when to open.
        reset: Seconds it stays open.
        trials: Calls that may try the peer at a time, and must succeed to close it.
    """

    def __init__(self, part: str, rule: Rule, *, reset: float, trials: int) -> None:
        self.state = State.CLOSED
        self._part = part
        self._rule = rule
        self._reset = reset
        self._trials = trials
        self._until = 0.0  # when it is half-open; counts while it is open
        self._trying = 0  # calls under way; counts while it is half-open
        self._passed = 0  # trials that succeeded; counts while it is half-open
        self._generation = 0  # one more at each change of state
        self._log = logging.getLogger(f"kitmsg.middleware.{part}")

    def enter(self, name: str, now: float) -> int:
        """Let a call of the endpoint `name` through; return what `left` wants to know.

        Raises:
            Unavailable: The circuit is open, or half-open and being tried.
        """
        if self.state is State.CLOSED:
            return self._generation
        if self.state is State.OPEN and now >= self._until:
            self._move(State.HALF_OPEN, name)
        if self.state is State.OPEN:
            self._refuse(name, f"circuit open: {name} keeps failing", self._until - now)
        if self._trying + self._passed >= self._trials:
            self._refuse(
                name, f"circuit half-open: another call is trying {name}", None
            )
        self._trying += 1
        return self._generation

    def left(
        self, generation: int, name: str, error: Exception | None, now: float
    ) -> None:
        """Take the outcome of a call: a failure, or None."""
        if generation != self._generation:
            return  # it began in another state, and says nothing about this one
        if self.state is State.CLOSED:
            why = self._rule.count(error, now)
            if why:
                self._open(name, why, now)
            return
        self._trying -= 1
        if error is not None:
            self._open(name, "the peer still fails", now)
            return
        self._passed += 1
        if self._passed >= self._trials:
            self._move(State.CLOSED, name)
            self._log.info("circuit closed: the peer works again")

    def gave_up(self, generation: int) -> None:
        """A call ended without an outcome: its caller left."""
        if generation == self._generation and self.state is State.HALF_OPEN:
            self._trying -= 1

    def _open(self, name: str, why: str, now: float) -> None:
        self._until = now + self._reset
        self._move(State.OPEN, name)
        RESILIENCE.opened(self._part, name)
        self._log.warning(
            "circuit opened%s", f" {why}" if why[:5] == "after" else f": {why}"
        )

    def _move(self, state: State, name: str) -> None:
        self.state = state
        self._generation += 1
        self._trying = self._passed = 0
        self._rule.moved(state)
        RESILIENCE.circuit(self._part, name, state)

    def _refuse(self, name: str, why: str, wait: float | None) -> None:
        RESILIENCE.refused(self._part, name)
        raise Unavailable(f"{self._part}: {why}", retry_after=wait).before(name)


def guard(
    part: str,
    make_rule: Callable[[], Rule],
    *,
    reset: float,
    trials: int = 1,
    is_failure: IsFailure = is_peer_failure,
) -> Middleware:
    """Put a circuit around each endpoint that is wrapped.

    Args:
        part: Name of the breaker in errors, log and metrics.
        make_rule: Makes the rule of a circuit.
        reset: Seconds a circuit stays open; more than zero.
        trials: Calls that may try the peer when half-open; at least 1.
        is_failure: Says whether an error counts against the peer.

    Raises:
        ValueError: `reset` or `trials` is too small.
        Unavailable: From the wrapped endpoint, while its circuit is open; `retry_after`
            says when it will be half-open, None while other calls try the peer.
    """
    if not reset > 0:
        raise ValueError(f"reset must be positive, not {reset!r}")
    if trials < 1:
        raise ValueError(f"trials must be at least 1, not {trials!r}")

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        circuit = Circuit(part, make_rule(), reset=reset, trials=trials)

        async def guarded(ctx: Context, request: Req) -> Resp:
            clock = asyncio.get_running_loop().time
            name = ctx.endpoint or "the peer"
            generation = circuit.enter(name, clock())
            try:
                response = await call(ctx, request)
            except Exception as error:
                found = error if is_failure(error) else None
                circuit.left(generation, name, found, clock())
                raise
            except BaseException:
                circuit.gave_up(generation)
                raise
            circuit.left(generation, name, None, clock())
            return response

        return guarded

    return wrap
