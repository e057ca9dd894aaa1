"""Gateways as supervised workers: several processes that take from the same sockets.

The parent opens the sockets and keeps them while workers come and go, so no connection is
lost when one is replaced.  A gateway can have workers if its module has ``listen``, see
`kitmsg.worker.plugins`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.worker.control import GatewayOrders, Orders
from kitmsg.worker.parent import run_parent
from kitmsg.worker.plugins import GATEWAYS, listen
from kitmsg.worker.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.metrics.families import Family
    from kitmsg.service import Kit
    from kitmsg.worker.settings import Settings

__all__ = ["GatewayRuntime", "address_error", "run_gateways"]


def run_gateways(kind: str, options: Any, settings: Settings) -> int:
    """Run `settings.workers` gateways on one port until a signal; returns the exit code.

    Args:
        kind: Name of the plugin, such as ``http``.
        options: Its `GatewayOptions`.
        settings: How the workers connect and log, and how many there are.

    Raises:
        FailedPrecondition: The address cannot be had, or this kind has no workers.
    """
    try:
        sockets = listen(GATEWAYS.load(kind), kind, options)
    except OSError as exc:
        raise address_error(options, exc) from exc

    def close() -> None:
        # Or connections would wait in the socket for workers that take no more.
        for sock in sockets:
            sock.close()

    orders = GatewayOrders(
        kind=kind,
        options=dataclasses.asdict(options),
        sockets=tuple(sock.fileno() for sock in sockets),
    )
    try:
        serves = None
        if settings.register and sockets:
            serves = sockets[0].getsockname()[:2]
        return run_parent(
            (kind,), settings, gateway=orders, serves=serves, on_stop=close
        )
    finally:
        close()


def address_error(options: Any, error: OSError) -> FailedPrecondition:
    """Return the error that says why a gateway cannot listen.

    Args:
        options: With ``host`` and ``port``.
        error: The system's.
    """
    taken = error.errno == errno.EADDRINUSE
    why = "is taken" if taken else f"cannot be used: {error.strerror}"
    return FailedPrecondition(
        f"port {options.port} on {options.host} {why}; choose another --port"
    )


class GatewayRuntime(Runtime):
    """One gateway on one bus.

    Args:
        orders: Of the parent.
    """

    def __init__(self, orders: Orders) -> None:
        settings = dataclasses.replace(orders.settings, outbox="")  # of services
        super().__init__((), settings, place=(orders.index, orders.restarts))
        if orders.gateway is None:
            raise InvalidArgument("these orders are for no gateway")
        self._orders = orders.gateway
        self._server: Any = None
        self._drain_timeout = float(orders.gateway.options.get("drain_timeout", 0.0))

    @property
    def _traced_as(self) -> str:
        return f"kitmsg-gateway-{self._orders.kind}"

    @property
    def max_drain(self) -> float:
        """The longest time the drain may take, in seconds."""
        return self._drain_timeout

    @property
    def _name(self) -> str:
        return self._orders.kind

    def own(self) -> Iterable[Family]:
        """Yield the gateway's counters, and those of users."""
        read = getattr(self._server, "collect", None)
        if read is not None:
            yield from read()
        yield from super().own()

    def exposition(self) -> str:
        """Return the counters of a gateway that only has a page, which are not pushed."""
        read = getattr(self._server, "exposition", None)
        if read is None or hasattr(self._server, "collect"):
            return ""
        return str(read())

    async def _start(self, kit: Kit) -> bool:
        orders = self._orders
        gateway = GATEWAYS.load(orders.kind)
        options = msgspec.convert(orders.options, type=gateway.GatewayOptions)
        sockets = [socket.socket(fileno=number) for number in orders.sockets]
        self._server = await gateway.serve(kit, options, sockets=sockets)
        return True

    async def _end(self, kit: Kit) -> None:
        self.is_draining = True
        try:
            if self._server is not None:
                await asyncio.shield(self._server.stop())
        finally:
            await super()._end(kit)
