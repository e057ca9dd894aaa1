"""`GatewayServer`: the parts of one gateway put together; start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition, InvalidArgument, Unimplemented
from kitmsg_gateways.http.api import Api
from kitmsg_gateways.http.body import body_limit
from kitmsg_gateways.http.chain import Chain
from kitmsg_gateways.http.connection import Server
from kitmsg_gateways.http.listener import Connections, Listener, bind, raise_file_limit
from kitmsg_gateways.http.methods import Mounts
from kitmsg_gateways.http.metrics import Metrics
from kitmsg_gateways.http.options import GatewayOptions
from kitmsg_gateways.http.pages import RESERVED, Pages

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from kitmsg.bus import Bus
    from kitmsg_gateways.http.methods import Table

__all__ = ["GatewayServer"]

_log = logging.getLogger("kitmsg_gateways.http")

_CLOSE_SECONDS: Final = 1.0  # for the last answers to be written
_CANCEL_SECONDS: Final = 0.01


class GatewayServer:
    """One HTTP gateway on a bus, which it does not close.

    Args:
        bus: Where the services are.
        options: Limits, times and switches.
        sockets: Sockets that other processes take connections from too, instead of its
            own; they are closed at the end.

    Raises:
        KitError: An option does not fit, or a file cannot be used.
    """

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self.options = options or GatewayOptions()
        self._shared = list(sockets)
        if self.options.workers > 1 and not sockets:
            raise InvalidArgument(
                "workers: this is one process; kitmsg gateway http --workers starts more"
            )
        self._edge = Chain(self.options)
        self.connections = Connections(
            raise_file_limit(self.options.max_connections),
            self.options.max_connections_per_address,
            self._edge.proxies.trusts,
        )
        self.metrics = Metrics(
            lambda: self._api.in_flight,
            lambda: len(self.table.endpoints),
            self.connections,
        )
        if sockets:  # or who reads /metrics would take several counters for one
            self.metrics.process = str(os.getpid())
        self._mounts = Mounts(bus, RESERVED, self.options.discovery_interval)
        pages = Pages(bus, self._mounts, self.metrics, self.options)
        self._api = Api(
            bus, self._mounts, pages, self.metrics, self.options, self._edge.filters
        )
        self._limit = body_limit(bus, self.options)
        self._web: Server | None = None
        self._listener: Listener | None = None

    @property
    def table(self) -> Table:
        """What is mounted now."""
        return self._mounts.table

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            FailedPrecondition: It is not started.
        """
        if self._listener is None or not self._listener.sockets:
            raise FailedPrecondition("the gateway is not started")
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is, such as ``http://127.0.0.1:8080``."""
        host = self.options.host or "localhost"
        scheme = "http" if self._edge.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_draining(self) -> bool:
        """Whether it is stopping: what is in flight is finished, nothing begun."""
        return self._api.is_draining

    async def start(self) -> None:
        """Find and mount the services, then accept requests.

        Raises:
            OSError: The address cannot be had.
        """
        options = self.options
        web_server = self._web = Server(
            self._api.handle, options, self._limit, self.metrics
        )
        tls = self._edge.tls
        self._listener = Listener(
            self._shared
            or bind(options.host, options.port, reuse_port=options.reuse_port),
            web_server.connection,
            self.connections,
            tls=tls.context if tls else None,
            handshake_timeout=options.header_timeout,
            is_shared=bool(self._shared),
        )
        try:
            await self._edge.start()
            await self._mounts.start()
            self._listener.start()
        except BaseException:
            await self._listener.stop()
            await self._mounts.stop()
            await self._edge.stop()
            raise
        count = len(self.table.endpoints)
        _log.info("HTTP gateway, %d endpoints, ready at %s", count, self.url)

    async def stop(self) -> None:
        """Accept no more, finish what is in flight in `drain_timeout`, close.

        What is not finished then is cancelled, and with it the services' turns.
        """
        listener, handler = self._listener, self._web
        if listener is None or handler is None:
            return
        self._listener = self._web = None
        await listener.stop()
        self._api.drain()
        close_seconds = _CLOSE_SECONDS
        try:
            async with asyncio.timeout(self.options.drain_timeout):
                await self._api.idle.wait()
        except TimeoutError:
            _log.warning("%d requests did not finish in time", self._api.in_flight)
            close_seconds = _CANCEL_SECONDS
        handler.pre_shutdown()
        await handler.shutdown(close_seconds)
        await self._mounts.stop()
        await self._edge.stop()

    def reload(self) -> None:
        """Read certificates, keys and passwords again, now; connections stay."""
        self._edge.reload()

    def exposition(self) -> str:
        """Return the counters in Prometheus' text format; "" if they cannot be written."""
        try:
            return self.metrics.exposition(is_page=False).decode()
        except Unimplemented:
            return ""
