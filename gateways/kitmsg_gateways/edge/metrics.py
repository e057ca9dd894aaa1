"""Metrics of every gateway, in one family: ``kitmsg_gateway_...{gateway="http"}``.

Plain integers while calls run; they become families when somebody asks.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kitmsg.metrics.calls import OTHER, Calls
from kitmsg.metrics.families import counter, gauge, labelled, shown
from kitmsg.metrics.prometheus import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg.metrics.families import Collect, Family
    from kitmsg_gateways.edge.admission import Connections
    from kitmsg_gateways.edge.budget import Budget

__all__ = ["OTHER", "Metrics"]


class Metrics(Calls):
    """The counters of one gateway.

    Args:
        gateway: Its kind: ``http``, ``grpc`` ...

    Attributes:
        connections: Counts connections; None where the protocol's library has them.
        budget: Counts the bytes that are held; None without.
        closed: Connections that the gateway closed, by reason.
        served: Tells how many endpoints are served.
        beside: Makes the families of the kit that the gateway is on.
        process: Label of the samples on the gateway's own page, where several processes
            answer at one address; "" for none.
    """

    def __init__(self, gateway: str) -> None:
        super().__init__("gateway", gateway=gateway)
        self.connections: Connections | None = None
        self.budget: Budget | None = None
        self.closed: Counter[str] = Counter()
        self.served: Callable[[], int] = lambda: 0
        self.beside: Collect = tuple
        self.process = ""
        self._gateway = gateway
        self.registry.register(self._edge)

    def exposition(self) -> str:
        """Return its page in Prometheus' text format, without `process`."""
        return render(shown(self._all)())

    def page(self) -> list[Family]:
        """Return all of it and of the process, as the gateway's own page shows it."""
        labels = {"process": self.process} if self.process else {}
        return list(labelled(shown(self._all)(), **labels))

    def _all(self) -> Iterator[Family]:
        yield from self.beside()
        yield from self.collect()

    def _edge(self) -> Iterator[Family]:
        gateway = self._gateway
        family = gauge("kitmsg_gateway_endpoints", "Endpoints that are served.")
        family.add(self.served(), gateway=gateway)
        yield family
        if self.budget is not None:
            family = gauge("kitmsg_gateway_held_bytes", "Bytes held for clients.")
            family.add(self.budget.held, gateway=gateway)
            yield family
            family = counter(
                "kitmsg_gateway_held_bytes_refused_total",
                "Requests for which there was no room.",
            )
            family.add(self.budget.refused, gateway=gateway)
            yield family
        connections = self.connections
        if connections is None:
            return
        family = gauge("kitmsg_gateway_connections", "Connections that are open.")
        family.add(connections.open, gateway=gateway)
        yield family
        family = counter(
            "kitmsg_gateway_connections_refused_total",
            "Connections that did not become one.",
        )
        family.add(connections.refused, gateway=gateway, reason="limit")
        family.add(connections.broken, gateway=gateway, reason="handshake")
        yield family
        family = counter(
            "kitmsg_gateway_connections_closed_total",
            "Connections that the gateway closed.",
        )
        for reason, count in sorted(self.closed.items()):
            family.add(count, gateway=gateway, reason=reason)
        yield family
