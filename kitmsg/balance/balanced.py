"""An endpoint over the instances of a service: another attempt, another instance.

Go kit's `lb.Retry`.  Attempts are counted in all, one deadline stands over them, waits
have jitter, and the error raised is the last one, with the history of all.

Hot path: `call` runs for every call and is flat on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeAlias

from kitmsg.balance.balancer import Balancer
from kitmsg.balance.endpointer import Endpointer
from kitmsg.balance.node import Node
from kitmsg.balance.p2c import p2c
from kitmsg.balance.picker import Picker
from kitmsg.circuit import is_peer_failure
from kitmsg.context import Context
from kitmsg.endpoints import Endpoint
from kitmsg.errors import (
    BusinessError,
    Code,
    DeadlineExceeded,
    KitError,
    NoResponders,
    Unavailable,
    code_of,
)
from kitmsg.middleware.hedge import TAKEN
from kitmsg.middleware.retry import full_jitter, tell_attempts, tell_retry
from kitmsg.middleware.timeout import timeout
from kitmsg.schema.calls import StreamRequest

__all__ = ["Again", "Attempts", "Balanced", "CannotConnect", "NoInstance", "balanced"]

_log = logging.getLogger("kitmsg.balance")

_PASSING: Final = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_REFUSALS: Final = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
_MAX_DOUBLINGS: Final = 30

Again: TypeAlias = Callable[[int, Exception], bool | Exception]
"""Takes the number of an attempt, from 1, and its error; returns whether to go on.

An exception that it returns is raised instead, at once.
"""


class NoInstance(Unavailable):
    """A service has no instance that can be reached."""


class CannotConnect(Exception):
    """Nothing of a call was sent, so another instance may have it.

    Raised by the endpoints of instances; callers see `Unavailable`.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """Policy of a call's attempts: their number and their time.

    Attributes:
        most: Attempts in all; 0 for one at each instance.
        timeout: Seconds for all of them together; None for the context's deadline alone.
        idempotent: Doing the work twice is as good as once, so that an attempt that failed
            half-way or timed out is repeated too.  Without it, only what certainly never
            began is repeated.
        again: Asked after each attempt that would be repeated.
        base: Ceiling of the first wait when no other instance is left, in seconds; the
            next ones double.
        cap: Ceiling of every wait, in seconds.

    Raises:
        ValueError: A number is out of range.
    """

    most: int = 3
    timeout: float | None = None
    idempotent: bool = False
    again: Again | None = None
    base: float = 0.05
    cap: float = 1.0

    def __post_init__(self) -> None:
        if self.most < 0:
            raise ValueError(f"most must not be negative: {self.most!r}")
        if not (self.base >= 0 and self.cap >= 0):
            raise ValueError(
                f"base and cap must not be negative: {self.base!r}, {self.cap!r}"
            )


def balanced(
    endpointer: Endpointer[Any],
    pick: Picker | None = None,
    attempts: Attempts | None = None,
    *,
    name: str = "",
    endpoint: Callable[[Any], Endpoint[Any, Any]] | None = None,
    key: Callable[[Context, Any], str] | None = None,
) -> Endpoint[Any, Any]:
    """Return the endpoint that calls an instance for each call, another when one fails.

    Args:
        endpointer: Has the instances' endpoints, or their connections.
        pick: Picks one; `p2c` by default.
        attempts: How often, how long; three times by default.
        name: Dotted name of the endpoint, or the service's, for messages; the endpointer's
            by default.
        endpoint: Returns the endpoint of a connection, where nodes have connections.
        key: Returns the key of a request, for `consistent_hash`.

    Raises:
        NoInstance: There is none, or none can be reached.
        Exception: The last attempt's; its notes tell every attempt, its ``__cause__`` is the
            one before.
    """
    policy = attempts or Attempts()
    made = Balanced(
        Balancer(endpointer, p2c() if pick is None else pick),
        policy,
        name=name or endpointer.name,
        endpoint=endpoint,
        key=key,
    )
    return made.call if policy.timeout is None else _limited(made, policy.timeout)


def _limited(made: Balanced, seconds: float) -> Endpoint[Any, Any]:
    """Return the calls of `made`, with a time limit that tells of the attempts before."""
    limit = timeout(seconds)

    async def call(ctx: Context, request: Any) -> Any:
        past: list[Exception] = []

        def attempts(narrowed: Context, request: Any) -> Awaitable[Any]:
            return made.call(narrowed, request, past)

        try:
            return await limit(attempts)(ctx, request)
        except DeadlineExceeded as exc:
            if past and past[-1] is not exc:
                exc.__cause__ = past[-1]
                tell_attempts([*past, exc])
            raise

    return call


Rescue: TypeAlias = Callable[[Context, Any, KitError], Awaitable[Any]]
"""Takes a call that no instance could be sent; returns its result, or raises."""


class Balanced:
    """The calls of one endpoint over a balancer; see `balanced`.

    `rescue` takes the calls that no instance could be sent.
    """

    def __init__(
        self,
        balancer: Balancer[Any],
        policy: Attempts,
        *,
        name: str,
        endpoint: Callable[[Any], Endpoint[Any, Any]] | None = None,
        key: Callable[[Context, Any], str] | None = None,
        rescue: Rescue | None = None,
    ) -> None:
        self._rescue = rescue
        self._balancer = balancer
        self._pick = balancer.pick
        self._policy = policy
        self._name = name  # dotted, for `KitError.refused`
        self._service = name.partition(".")[0]
        self._endpoint = endpoint
        self._key = key
        self._done = balancer.picker.done if balancer.tells else None
        # The loop of the last call; a bus in memory may outlive it.
        self._loop: AbstractEventLoop | None = None

    async def call(  # noqa: PLR0912, PLR0915
        self, ctx: Context, request: Any, past: list[Exception] | None = None
    ) -> Any:
        """Call an instance; another one as `Attempts` says.

        `past` takes the errors of attempts, for a limit around the call.
        """
        loop = self._loop
        # `get_running_loop` asks the system for the process on Python 3.11.
        if loop is None or not loop.is_running():
            loop = self._loop = get_running_loop()
        time = loop.time
        taken = TAKEN.get()  # nodes of all attempts of a hedged call
        key = "" if self._key is None else self._key(ctx, request)
        past = [] if past is None else past
        tried: Any = taken or ()
        try:
            while True:
                start = time()
                node = self._pick(start, key, tried)
                if node is None:
                    tried = await self._wait(ctx, past, tried)
                    continue
                if taken is not None:
                    taken.append(node)
                node.begin(start)
                try:
                    send = node.value
                    if self._endpoint is not None:
                        send = self._endpoint(send)
                    result = await send(ctx, request)
                except Exception as exc:  # noqa: BLE001  raised, or another attempt is due
                    self._failed(node, start, time(), exc)
                    past.append(exc)
                    self._go_on_or_raise(request, past)
                    tried = taken or [*tried, node]
                except BaseException:
                    node.end(start, time(), failed=None)
                    raise
                else:
                    now = time()
                    node.end(start, now, failed=False)
                    if self._done is not None:
                        self._done(node, now, False)
                    if self._balancer.avoided:
                        self._balancer.reached(node)
                    return result
        except (NoInstance, NoResponders) as exc:
            if self._rescue is None or exc.refused != self._name:
                raise
            return await self._rescue(ctx, request, exc)

    def _failed(
        self, node: Node[Any], start: float, now: float, error: Exception
    ) -> None:
        is_unsent = isinstance(error, CannotConnect | NoResponders)
        # To refuse a call quickly is no merit.
        is_refusal = is_unsent or bool(getattr(error, "refused", ""))
        failed = is_refusal or is_peer_failure(error)
        node.end(start, now, failed=failed)
        if self._done is not None:
            self._done(node, now, failed)
        if is_unsent:
            self._balancer.unreachable(node, now)
            _log.warning("%s: cannot reach %s: %s", self._service, node.address, error)

    def _go_on_or_raise(self, request: Any, past: list[Exception]) -> None:
        """Raise the last error, unless another attempt is due."""
        policy, error = self._policy, past[-1]
        most = policy.most or len(self._balancer.endpointer.nodes)
        if len(past) < most and self._is_repeatable(error, request):
            verdict = True if policy.again is None else policy.again(len(past), error)
            if isinstance(verdict, Exception):
                raise verdict from error
            if verdict:
                tell_retry(past)
                return
        self._raise(past)

    def _is_repeatable(self, error: Exception, request: Any) -> bool:
        if isinstance(request, StreamRequest) and request.has_begun:
            return False  # items that went cannot be had again
        if isinstance(error, CannotConnect):
            return True
        code = code_of(error)
        if self._policy.idempotent and code in _PASSING:
            return not isinstance(error, BusinessError)
        return code in _REFUSALS and bool(getattr(error, "refused", ""))

    def _raise(self, past: list[Exception]) -> NoReturn:
        last = past[-1]
        if isinstance(last, CannotConnect):
            past[-1] = self._nobody()
            past[-1].__cause__ = last
        tell_attempts(past)
        raise past[-1]

    def _nobody(self) -> KitError:
        text = f"{self._service} has no instance that can be reached"
        error = NoInstance(text).before(self._name)
        # Not in its text, which callers see: it may name the machines of the system.
        error.__cause__ = self._balancer.endpointer.instancer.state.error
        return error

    async def _wait(
        self, ctx: Context, past: list[Exception], tried: Collection[Node[Any]]
    ) -> Collection[Node[Any]]:
        """Return the nodes to leave out when there may be another one to pick.

        Raises:
            NoInstance: There is none, and no attempt or no time is left.
        """
        endpointer = self._balancer.endpointer
        now = get_running_loop().time()
        left = ctx.remaining(now)
        if not endpointer.is_started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await endpointer.ready()
            return tried
        if not past and tried and endpointer.nodes:
            raise self._nobody()  # a hedge is for another instance
        if not endpointer.nodes:
            past.append(self._nobody())
            self._go_on_or_raise(None, past)
        policy = self._policy
        ceiling = policy.base * 2.0 ** min(len(past) - 1, _MAX_DOUBLINGS)
        wait = full_jitter(min(policy.cap, ceiling))
        if left is not None and wait >= left:
            self._raise(past)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await endpointer.moved()
        return ()
