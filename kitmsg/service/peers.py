"""Codecs of the services on a bus: MessagePack for kitmsg's own, JSON for all others.

A service says in its INFO what it is: an endpoint of kitmsg has ``kit.schema`` in its
metadata.  It is asked once, by the first call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.discovery.subject import read_info
from kitmsg.errors import KitError, NoResponders
from kitmsg.wire import SRV, Meta

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.bus import Bus
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint

__all__ = ["Call", "Peers"]

_ASK_SECONDS: Final = 1.0


class Peers:
    """Finds the codec of an endpoint.

    Args:
        bus: Where its service is asked.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        # By service (and instance): the subjects that take MessagePack.
        self._packed: dict[str, frozenset[str]] = {}

    async def codec(
        self, peer: str, subject: str, seconds: float
    ) -> tuple[Codec, bool]:
        """Return the codec to call `subject` in, and whether that is certain.

        Args:
            peer: Name of the service, or ``name.id`` for one instance.
            subject: Of the endpoint.
            seconds: Longest wait for its INFO.
        """
        packed = self._packed.get(peer)
        if packed is None:
            try:
                packed = await self._ask(peer, seconds)
            except NoResponders:  # no micro service: a bare subscriber, or nobody
                return JSON, False
            except (
                KitError,
                msgspec.DecodeError,
            ):  # it cannot say, or may not be asked
                return MSGPACK, False
            self._packed[peer] = packed
        return (MSGPACK if subject in packed else JSON), True

    async def _ask(self, peer: str, seconds: float) -> frozenset[str]:
        reply = await self._bus.request(f"{SRV}.INFO.{peer}", b"", seconds)
        return frozenset(
            endpoint.subject
            for endpoint in read_info(reply.data).endpoints
            if endpoint.metadata
            and Meta.SCHEMA in endpoint.metadata
            and endpoint.metadata.get(Meta.WIRE) != "gokit"
        )

    def endpoint(
        self,
        peer: str,
        subject: str,
        make: Callable[[Codec], Endpoint[Any, Any]],
        timeout: float | None = None,
    ) -> Call:
        """Return a call in the codec of its service.

        Args:
            peer: As in `codec`.
            subject: As in `codec`.
            make: Makes the call in a codec.
            timeout: Longest call, in seconds; asking for the codec is part of it.
        """
        return Call(self, peer, subject, make, timeout)


class Call:
    """A call that finds its codec, and from then on is the call in that.

    Attributes:
        current: The endpoint to call now: to read it for each call saves a step.
    """

    def __init__(
        self,
        peers: Peers,
        peer: str,
        subject: str,
        make: Callable[[Codec], Endpoint[Any, Any]],
        timeout: float | None,
    ) -> None:
        self._peers = peers
        self._peer = peer
        self._subject = subject
        self._make = make
        self._packed = make(MSGPACK)  # made at once: its options are checked
        self._timeout = timeout
        self.current: Endpoint[Any, Any] = self._find

    def __call__(self, ctx: Context, request: Any) -> Awaitable[Any]:
        """Do as `current` does."""
        return self.current(ctx, request)

    async def _find(self, ctx: Context, request: Any) -> Any:
        now = asyncio.get_running_loop().time()
        deadline = ctx.deadline
        if self._timeout is not None:
            deadline = min(now + self._timeout, deadline or float("inf"))
            ctx = ctx.evolve(deadline=deadline)
        left = _ASK_SECONDS if deadline is None else min(_ASK_SECONDS, deadline - now)
        codec, is_certain = MSGPACK, False
        if left > 0:
            codec, is_certain = await self._peers.codec(self._peer, self._subject, left)
        call = self._packed if codec is MSGPACK else self._make(codec)
        if is_certain:
            self.current = call
        result = await call(ctx, request)
        if codec is JSON:  # it was answered so
            self.current = call
        return result
