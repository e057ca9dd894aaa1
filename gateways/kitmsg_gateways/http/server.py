"""`GatewayServer`: HTTP connections on the edge's lifecycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from kitmsg.discovery.claims import KEPT_SECONDS
from kitmsg_gateways.edge.auth import Auth, Gate
from kitmsg_gateways.edge.calls import load_middleware
from kitmsg_gateways.edge.events import EventDoor
from kitmsg_gateways.edge.lifecycle import SocketGateway
from kitmsg_gateways.edge.proxies import Proxies
from kitmsg_gateways.http.api import Api
from kitmsg_gateways.http.body import body_limit
from kitmsg_gateways.http.connection import Connection, Server
from kitmsg_gateways.http.events.serve import PREFIX
from kitmsg_gateways.http.filters import filters
from kitmsg_gateways.http.methods import Mounter, Table
from kitmsg_gateways.http.options import GatewayOptions
from kitmsg_gateways.http.owners import Owners
from kitmsg_gateways.http.pages import RESERVED

if TYPE_CHECKING:
    import asyncio
    import contextlib
    import socket
    from collections.abc import Sequence

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import Catalog
    from kitmsg_gateways.edge.admission import Place

__all__ = ["GatewayServer"]

_CLOSE_SECONDS: Final = 1.0  # for the last answers to be written
_CANCEL_SECONDS: Final = 0.01


class GatewayServer(SocketGateway[GatewayOptions, Table]):
    """One HTTP gateway on a bus; arguments and errors as `Gateway`.

    Attributes:
        api: Answers requests.
        events: The events that are open; None for none.
        web: The connections that are open.
    """

    kind: ClassVar[str] = "http"
    title: ClassVar[str] = "HTTP"
    protocols: ClassVar[tuple[str, ...]] = ("http/1.1",)
    refusal: ClassVar[bytes] = (
        b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 1\r\n"
        b"Content-Length: 0\r\n\r\n"
    )

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        options = options or GatewayOptions()
        self._proxies = Proxies(options.trusted_proxies, options.proxy_header)
        kept_seconds = KEPT_SECONDS if options.subject_policy.strict else 0.0
        owners = Owners(kept_seconds=kept_seconds, public=options.public_owners)
        self.events: EventDoor | None = None
        if options.events:
            around = load_middleware(options.middleware)
            self.events = EventDoor(bus, options, middleware=around, kind=self.kind)
        self._mounter = Mounter(RESERVED, owners, (PREFIX,) if self.events else ())
        super().__init__(bus, options, Table(), sockets)
        self.api = Api(
            self,
            filters(options, self.gate, self._proxies),
            self._proxies.trusts,
            self.events,
        )
        self.metrics.registry.register(self.api.collect)
        self.web: Server

    @classmethod
    def check(cls, options: GatewayOptions) -> None:  # noqa: D102
        super().check(options)
        proxies = Proxies(options.trusted_proxies, options.proxy_header)
        gate = Gate(Auth(options, ""), options)
        filters(options, gate, proxies)

    @classmethod
    def realm(cls, options: GatewayOptions) -> str:  # noqa: D102
        return options.title

    def _build(self, found: Catalog) -> Table:
        if self.events is not None:
            shown = {event.name for event in found.events}
            every = {event.name for event in self.catalogue.found.events}
            self.events.learn(found.events, every - shown)
        return self._mounter.build(found)

    def _served(self) -> int:
        return len(self.table.endpoints)

    def _is_exempt(self, address: str) -> bool:
        return self._proxies.trusts(address)

    def _protocol(self, place: Place) -> asyncio.BaseProtocol:
        return Connection(self.web, place)

    async def _bind(self, stack: contextlib.AsyncExitStack) -> None:
        limit = body_limit(self.bus, self.options)
        self.web = Server(
            self.api.handle, self.options, limit, self.metrics, self.budget
        )
        await super()._bind(stack)

    async def _drain(self) -> None:
        await self._stop_listening()
        self.api.live.drain()
        if self.events is not None:
            self.events.close()
        is_done = await self.admission.drained(self.options.drain_timeout)
        if not is_done:
            count = self.metrics.in_flight
            self._log.warning("%d requests did not finish in time", count)
        self.web.pre_shutdown()
        await self.web.shutdown(_CLOSE_SECONDS if is_done else _CANCEL_SECONDS)
