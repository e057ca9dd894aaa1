"""A service's instances on the bus, and the calls that are routed to them.

An instance takes part when it has a subject of its own: every service of kitmsg does, and
one in another language whose INFO lists an endpoint there (`kitmsg.wire.direct_subject`).
The others are behind the queue group, which counts as one more node where any instance
may have a call.  When what is known of the instances is stale, the queue group takes all.

Hot path: `_Routed.call` runs for every routed call.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from types import MethodType
from typing import Any, Final, TypeAlias, cast
from weakref import WeakMethod, WeakSet, finalize

from kitmsg.balance.balanced import Attempts, Balanced
from kitmsg.balance.balancer import Balancer
from kitmsg.balance.endpointer import Endpointer
from kitmsg.balance.routes import Route
from kitmsg.bus import Bus
from kitmsg.context import Context
from kitmsg.discovery.bus import DIRECTLY, BusSource
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import Instancer, Observer, State, WatchedInstancer
from kitmsg.endpoints import Endpoint
from kitmsg.errors import KitError, Unavailable
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.wire import direct_subject

__all__ = ["Fleet"]

_LOOK_SECONDS: Final = 0.1  # between two looks whether what is known is stale
_FIRST_SECONDS: Final = 1.0  # longest wait of a first call for who is there
_GROUP: Final = ""  # address of the node that is the queue group

MakeCall: TypeAlias = Callable[[str], Endpoint[Any, Any]]
"""Makes the call of an endpoint at a subject."""


class Fleet:
    """The instances of one service on a bus.

    Args:
        bus: The bus.
        service: Name of the service.
    """

    def __init__(self, bus: Bus, service: str) -> None:
        self.service = service
        # They come and go with notices, so nothing is kept over a loss of the bus.
        self._instancer = WatchedInstancer(BusSource(bus, service), grace=0.0)
        # Clients may be made for one call: who holds none, follows nothing.
        self._endpointers: WeakSet[Endpointer[Any]] = WeakSet()

    def routed(
        self, route: Route, subject: str, name: str, make: MakeCall
    ) -> Endpoint[Any, Any]:
        """Return the call of an endpoint that goes where `route` says.

        Args:
            route: Chooses the instance.
            subject: Of the endpoint, in the queue group.
            name: Dotted name of the endpoint.
            make: Makes the call at a subject.

        Raises:
            NoInstance: From the call: no instance that the route allows can be reached.
        """

        def at(instance: Instance) -> Endpoint[Any, Any]:
            if instance.address == _GROUP:
                return make(subject)
            return make(direct_subject(self.service, instance.address, subject))

        instancer = _Routable(self._instancer, route)
        endpointer = Endpointer(instancer, at)
        self._endpointers.add(endpointer)
        return _Routed(route, endpointer, name, make(subject)).call

    async def close(self) -> None:
        """Follow the instances no more."""
        for endpointer in list(self._endpointers):
            await endpointer.close()
        await self._instancer.close()


class _Routable:
    """An instancer of those that a route may call."""

    def __init__(self, inner: Instancer, route: Route) -> None:
        self._inner = inner
        self._route = route
        self.name = inner.name

    @property
    def state(self) -> State:
        return self._inner.state

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        """Tell an endpointer for as long as it is there."""
        follow = WeakMethod(cast("MethodType", changed))

        def tell(instances: tuple[Instance, ...]) -> None:
            told = follow()
            if told is not None:
                told(self._of(instances))

        unwatch = self._inner.watch(tell)
        endpointer = cast("MethodType", changed).__self__
        loop = get_running_loop()
        finalize(endpointer, _end_later, loop, unwatch).atexit = False
        return unwatch

    async def settled(self) -> State:
        return await self._inner.settled()

    async def close(self) -> None:
        """Leave the service's instancer to its owner."""

    def _of(self, instances: Iterable[Instance]) -> tuple[Instance, ...]:
        serves = self._route.serves
        known = list(instances)
        fit = [one for one in known if serves is None or serves(one)]
        own = [one for one in fit if DIRECTLY in one.tags]
        others = len(fit) - len(own)
        # The queue group has everybody, so it may stand in only for a call that any takes.
        if others and (self._route.takes_all or len(fit) == len(known)):
            whole = replace(fit[0], address=_GROUP, weight=float(others), metadata={})
            own.append(whole)
        return tuple(own)


def _end_later(loop: asyncio.AbstractEventLoop, unwatch: Callable[[], None]) -> None:
    """End a watch in its loop: what is collected may be so anywhere."""
    with contextlib.suppress(RuntimeError):  # the loop is closed, and the watch with it
        loop.call_soon_threadsafe(unwatch)


class _Routed:
    """The calls of one endpoint by one route."""

    def __init__(
        self,
        route: Route,
        endpointer: Endpointer[Any],
        name: str,
        group: Endpoint[Any, Any],
    ) -> None:
        self._route = route
        self._endpointer = endpointer
        self._name = name
        self._group = group
        self._balanced = Balanced(
            Balancer(endpointer, route.picker()),
            Attempts(),
            name=name,
            key=route.key,
            rescue=self._rescue,
        ).call
        self._is_stale = True
        self._look = float("-inf")  # when to look again whether it is
        self._loop: asyncio.AbstractEventLoop | None = None  # of the last call

    def call(self, ctx: Context, request: Any) -> Awaitable[Any]:
        """Call an instance by the route, or the queue group when that knows none."""
        loop = self._loop
        # `get_running_loop` asks the system for the process on Python 3.11.
        if loop is None or not loop.is_running():
            loop = self._loop = get_running_loop()
        if loop.time() >= self._look:
            return self._look_and_call(ctx, request)
        if self._is_stale:
            return self._fall_back(ctx, request)
        return self._balanced(ctx, request)

    async def _look_and_call(self, ctx: Context, request: Any) -> Any:
        await self._see(ctx, get_running_loop().time())
        return await (self._fall_back if self._is_stale else self._balanced)(
            ctx, request
        )

    async def _rescue(self, ctx: Context, request: Any, error: KitError) -> Any:
        """Leave a call to the queue group when the instances that are known have gone."""
        if not self._route.takes_all:
            raise self._nobody() from error
        return await self._fall_back(ctx, request)

    async def _see(self, ctx: Context, now: float) -> None:
        """Look whether what is known of the instances is good."""
        if not self._endpointer.is_started:
            left = ctx.remaining(now)
            wait = _FIRST_SECONDS if left is None else min(left / 2, _FIRST_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._endpointer.ready()
        state = self._endpointer.instancer.state
        self._is_stale = state.error is not None or state.age > 0
        self._look = now + _LOOK_SECONDS

    async def _fall_back(self, ctx: Context, request: Any) -> Any:
        RESILIENCE.fell_back(self._route.name, self._name)
        return await self._group(ctx, request)

    def _nobody(self) -> KitError:
        known = self._endpointer.instancer.state.instances
        versions = ", ".join(sorted({one.version for one in known}))
        there = f"; there are {versions}" if versions else "; nobody serves it"
        service = self._name.partition(".")[0]
        text = f"no instance of {service} for {self._route.spec}{there}"
        return Unavailable(text).before(self._name)
