"""Upstreams as supervised workers: servers elsewhere, served on the bus.

A worker that is replaced, as at SIGHUP, reads anew what the server offers.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from kitmsg.errors import InvalidArgument
from kitmsg.worker.control import GatewayOrders, Orders
from kitmsg.worker.parent import run_parent
from kitmsg.worker.plugins import UPSTREAMS
from kitmsg.worker.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.service import Kit
    from kitmsg.worker.settings import Settings

__all__ = ["UpstreamRuntime", "run_upstream"]


def run_upstream(
    kind: str, name: str, addresses: Sequence[str], options: Any, settings: Settings
) -> int:
    """Serve an upstream until a signal; returns the exit code.

    Args:
        kind: Name of the plugin, such as ``http``.
        name: Name on the bus.
        addresses: Where the server is.
        options: Its `UpstreamOptions`.
        settings: How the workers connect and log, and how many there are.

    Raises:
        FailedPrecondition: The health port is taken.
    """
    orders = GatewayOrders(
        kind=kind,
        options=dataclasses.asdict(options),
        upstream=name,
        addresses=tuple(addresses),
    )
    return run_parent((name,), settings, gateway=orders)


class UpstreamRuntime(Runtime):
    """One upstream on one bus.

    Args:
        orders: Of the parent.
    """

    def __init__(self, orders: Orders) -> None:
        place = orders.index, orders.restarts
        settings = dataclasses.replace(orders.settings, outbox="")  # of services
        super().__init__((), settings, place=place)
        if orders.gateway is None:
            raise InvalidArgument("these orders are for no upstream")
        self._orders = orders.gateway

    @property
    def _name(self) -> str:
        return self._orders.upstream

    @property
    def _traced_as(self) -> str:
        return self._orders.upstream

    async def _start(self, kit: Kit) -> bool:
        orders = self._orders
        kind = UPSTREAMS.load(orders.kind)
        options = msgspec.convert(orders.options, type=kind.UpstreamOptions)
        try:
            made = await kind.open_upstream(orders.upstream, orders.addresses, options)
        except ValueError as exc:  # as wrong as it is now it will be at the next start
            raise InvalidArgument(str(exc)) from exc
        self.add(made)
        return await super()._start(kit)
