"""The servers of an upstream: one is picked for each call, past those out of reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from kitmsg.balance.balanced import Attempts, Balanced, CannotConnect
from kitmsg.balance.balancer import Balancer
from kitmsg.balance.endpointer import Endpointer
from kitmsg.balance.p2c import p2c
from kitmsg.context import Context
from kitmsg.discovery.fixed import fixed
from kitmsg.discovery.instancer import Instancer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.balance import Picker
    from kitmsg.endpoints import Endpoint
    from kitmsg_gateways.upstream.instancer import Addresses

__all__ = ["CannotConnect", "Pool"]

T = TypeVar("T")

_Sending: TypeAlias = "tuple[Callable[[str], Awaitable[Any]], str]"


class Pool:
    """Picks an address of an instancer for each call.

    Args:
        name: Name of the service, for messages.
        source: An instancer, an address, or a list of addresses.
        pick: Picks one; by latency and open calls by default (`kitmsg.balance.p2c`).
        gone: Called with each address that the instancer no longer names, after the last
            call there, so that its connection can be closed.
    """

    def __init__(
        self,
        name: str,
        source: Addresses,
        *,
        pick: Picker | None = None,
        gone: Callable[[str], Awaitable[None] | None] | None = None,
    ) -> None:
        self._name = name
        self._source = source if isinstance(source, Instancer) else fixed(source)
        self._servers: Endpointer[str] = Endpointer(
            self._source, lambda instance: instance.address, close=self._leave
        )
        self._balancer = Balancer(self._servers, p2c() if pick is None else pick)
        self._calls: dict[str, Endpoint[Any, Any]] = {}
        self._gone = gone
        self._is_closing = False

    def _leave(self, address: str) -> Awaitable[None] | None:
        if self._gone is None or self._is_closing:
            return None
        return self._gone(address)

    async def through(
        self,
        send: Callable[[str], Awaitable[T]],
        endpoint: str = "",
        ctx: Context | None = None,
        key: str = "",
    ) -> T:
        """Return the result of `send` with an address, the next one if it cannot connect.

        Each address is tried once at most.

        Args:
            send: Makes the call.
            endpoint: Dotted name of the endpoint that makes it, for `KitError.refused`.
            ctx: Of the call; its deadline bounds the wait for the first addresses.
            key: Of the call, for pickers that go by one.

        Raises:
            NoInstance: None can be reached, so the work never began.
        """
        call = self._calls.get(endpoint)
        if call is None:
            # The request of a call is what sends it, and its key.
            call = self._calls[endpoint] = Balanced(
                self._balancer,
                Attempts(most=0),
                name=endpoint or self._name,
                endpoint=_sender,
                key=_key,
            ).call
        return cast("T", await call(ctx or Context(), (send, key)))

    async def close(self) -> None:
        """Stop watching, until the next call; connections are their maker's to close."""
        self._is_closing = True
        try:
            await self._servers.close()
            await self._source.close()
        finally:
            self._is_closing = False


def _sender(address: str) -> Endpoint[Any, Any]:
    def call(_ctx: Context, sending: _Sending) -> Awaitable[Any]:
        return sending[0](address)

    return call


def _key(_ctx: Context, sending: _Sending) -> str:
    return sending[1]
