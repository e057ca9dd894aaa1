"""`GatewayServer`: the port, the methods that come and go, start and stop."""

from __future__ import annotations

import asyncio
import difflib
import functools
import logging
from typing import TYPE_CHECKING, Final

from kitmsg.discovery.catalog import Catalog
from kitmsg.errors import FailedPrecondition, KitError, Unavailable, Unimplemented
from kitmsg.idl.numbers import misfit
from kitmsg_gateways import metrics
from kitmsg_gateways.thrift.call import Calls
from kitmsg_gateways.thrift.connection import Connection
from kitmsg_gateways.thrift.methods import Table
from kitmsg_gateways.thrift.metrics import Metrics
from kitmsg_gateways.thrift.options import GatewayOptions
from kitmsg_gateways.thrift.protocol import Limits
from kitmsg_gateways.thrift.protocol.framing import Inbox
from kitmsg_gateways.thrift.tls import server_context

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg_gateways.thrift.methods import Source

__all__ = ["GatewayServer", "make_source"]

_log = logging.getLogger("kitmsg_gateways.thrift")

_REMEMBERED_SECONDS: Final = 10.0
_SHOWN: Final = 100
_SWEEPS: Final = 4  # in the shortest time that is watched for


class GatewayServer:
    """One Thrift gateway on a bus, which it does not close.

    Args:
        bus: Where the services are.
        options: Limits, times and switches.
        source: What is served of it; by default as `options` say.

    Attributes:
        table: What is served now.
        calls: Answers them.
        metrics: Counters of calls and connections.

    Raises:
        ValueError: An option does not fit.
        FailedPrecondition: A file that an option names cannot be used.
    """

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions | None = None,
        source: Source | None = None,
    ) -> None:
        self.options = chosen = options or GatewayOptions()
        self.metrics = Metrics()
        self.table = Table()
        self.calls = Calls(bus, chosen, self.metrics)
        self.limits = Limits(
            chosen.max_message_bytes, chosen.max_items, chosen.max_depth
        )
        self._source = source or make_source(chosen, self.limits)
        self._catalog = Catalog(
            bus, interval=chosen.discovery_interval, on_change=self._update
        )
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._former: dict[bytes, tuple[CatalogEndpoint, float]] = {}
        self._servers: list[asyncio.Server] = []
        self._undo: list[Callable[[], object]] = []

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            FailedPrecondition: It is not started.
        """
        if not self._servers or not self._servers[0].sockets:
            raise FailedPrecondition("the gateway is not started")
        return int(self._servers[0].sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is, such as ``thrift://127.0.0.1:8083``; ``thrifts`` with TLS."""
        host = self.options.host
        scheme = "thrifts" if self.options.tls_cert else "thrift"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    async def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Find the services, then accept connections.

        Args:
            sockets: Listen on these, which may be shared with other processes, instead
                of the address in the options.

        Raises:
            OSError: The address cannot be had.
            FailedPrecondition: A file for TLS cannot be read, or a service on the bus does
                not fit the .thrift that was given.
        """
        options = self.options
        servers = await self._bind(sockets)
        try:
            if options.metrics_port:
                undo = metrics.serve(self.metrics, options.host, options.metrics_port)
                self._undo.append(undo)
            await self._catalog.start()
            self._update()
            self._check()
            self._look_for(options.service)
            self._undo.append(asyncio.create_task(self._sweep()).cancel)
            self._servers = servers
            for server in servers:
                await server.start_serving()
        except BaseException:
            self._servers = []
            for server in servers:
                server.close()
            await self._put_away()
            raise
        count = len({id(served) for served in self.table.methods.values()})
        _log.info("Thrift gateway, %d methods, ready at %s", count, self.url)

    async def stop(self) -> None:
        """Accept no more, finish what is in flight in `drain_timeout`, close.

        What is not finished then is cancelled, and with it the services' turns.
        """
        servers, self._servers = self._servers, []
        if not servers:
            return
        for server in servers:
            server.close()
        for connection in list(self._connections):
            connection.drain()
        try:
            async with asyncio.timeout(self.options.drain_timeout):
                await self._empty.wait()
        except TimeoutError:
            _log.warning("%d calls did not finish in time", self.metrics.in_flight)
            for connection in list(self._connections):
                connection.abort("stopped")
            await self._empty.wait()
        await self._put_away()

    async def _bind(self, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
        options = self.options
        context = server_context(options)
        create = functools.partial(
            asyncio.get_running_loop().create_server,
            lambda: Connection(self),
            ssl=context,
            ssl_handshake_timeout=options.handshake_timeout if context else None,
            start_serving=False,
        )
        if sockets:
            return [await create(sock=sock) for sock in sockets]
        port, reuse = options.port, options.reuse_port or None
        return [await create(options.host, port, reuse_port=reuse)]

    def exposition(self) -> str:
        """Return the counters as Prometheus reads them; "" where that is not installed."""
        try:
            return metrics.exposition(self.metrics).decode()
        except FailedPrecondition:
            return ""

    async def _put_away(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        await self._catalog.stop()

    def inbox(self) -> Inbox:
        """Return what reads the bytes of a new connection."""
        protocol, transport = self.options.protocol, self.options.transport
        return Inbox(
            self.limits,
            "" if protocol == "auto" else protocol,
            None if transport == "auto" else transport == "framed",
        )

    def joined(self, connection: Connection) -> bool:
        """Note a new connection; tell whether there is room for it."""
        self._connections.add(connection)
        self._empty.clear()
        self.metrics.connections = len(self._connections)
        return (
            bool(self._servers)
            and len(self._connections) <= self.options.max_connections
        )

    def left(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self._connections.discard(connection)
        self.metrics.connections = len(self._connections)
        if not self._connections:
            self._empty.set()

    def missing(self, name: bytes) -> KitError:
        """Return the error of a call to what is not served."""
        table, shown = self.table, name[:_SHOWN].decode(errors="replace")
        if name in table.waiting:
            return Unavailable(table.waiting[name])
        if name in table.unclear:
            return Unimplemented(f"{shown!r} is not clear: {table.unclear[name]}")
        former = self._former.get(name)
        if former is not None and (why := self._why_gone(*former)):
            return Unavailable(why)
        return Unimplemented(f"there is no method {shown!r} here")

    def _why_gone(self, endpoint: CatalogEndpoint, when: float) -> str:
        """Return why an endpoint is not served that was; "" if it is gone for good."""
        service = endpoint.service
        if service in self._catalog.services:
            there = ((e.service, e.name) for e in self._catalog.endpoints)
            return misfit(service) if (service, endpoint.name) in there else ""
        now = asyncio.get_running_loop().time()
        is_recent = now - when <= _REMEMBERED_SECONDS
        return f"the last instance of {service!r} has just left the bus" * is_recent

    async def _sweep(self) -> None:
        """Close connections whose clients are too slow."""
        options = self.options
        times = (options.idle_timeout, options.message_timeout, options.write_timeout)
        pause = min(1.0, min(times) / _SWEEPS)
        while True:
            await asyncio.sleep(pause)
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections):
                connection.check(now)

    def _check(self) -> None:
        """Refuse to start where what was asked for cannot be served.

        Raises:
            FailedPrecondition: The sentences of the table.
        """
        if self.options.thrift and self.table.refused:
            raise FailedPrecondition("\n".join(self.table.refused))

    def _look_for(self, service: str) -> None:
        """Say so if the service that was chosen is not there: its name may be wrong."""
        there = sorted(self._catalog.services)
        if service and service not in there:
            near = difflib.get_close_matches(service, there, n=1)
            _log.warning(
                "there is no service %r on the bus yet, so that nothing can be called"
                " without a service's name in front; %s",
                *(service, _hint(near, there)),
            )

    def _update(self) -> None:
        """Serve what is on the bus now."""
        before, self.table = self.table, self._source.table(self._catalog)
        self.table.keep_plain(before)
        now = asyncio.get_running_loop().time()
        for name, served in before.methods.items():
            if name not in self.table.methods:
                self._former[name] = served.endpoint, now
        self._former = {
            name: (endpoint, when)
            for name, (endpoint, when) in self._former.items()
            if now - when <= _REMEMBERED_SECONDS and name not in self.table.methods
        }
        for sentence in self.table.refused:
            if sentence not in before.refused:
                _log.warning("%s", sentence)


def _hint(near: list[str], there: list[str]) -> str:
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(there)}" if there else "there is none at all"


def make_source(options: GatewayOptions, limits: Limits) -> Source:
    """Return what is served: the user's .thrift, or what the schemas say.

    Raises:
        FailedPrecondition: A file that an option names cannot be used.
        ValueError: An option does not fit.
    """
    if options.thrift:
        from kitmsg_gateways.thrift.sources import UserSource

        return UserSource(options, limits)
    from kitmsg_gateways.thrift.sources import GeneratedSource

    return GeneratedSource(options, limits)
