"""`GatewayServer`: the port, the methods that come and go, start and stop.

One generic handler answers every path, so that services appear and leave without a
restart.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio

from kitmsg.discovery.catalog import Catalog
from kitmsg.errors import FailedPrecondition, KitError, Unavailable, Unimplemented
from kitmsg.idl.numbers import misfit
from kitmsg_gateways import metrics
from kitmsg_gateways.grpc.call import Calls
from kitmsg_gateways.grpc.health import SERVICE as HEALTH, Health
from kitmsg_gateways.grpc.methods import Table
from kitmsg_gateways.grpc.metrics import Metrics
from kitmsg_gateways.grpc.options import GatewayOptions
from kitmsg_gateways.grpc.reflection import Reflection
from kitmsg_gateways.grpc.tls import credentials

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg_gateways.grpc.methods import Handler, Source

__all__ = ["GatewayServer", "choose_source"]

_log = logging.getLogger("kitmsg_gateways.grpc")

_COMPRESSIONS: Final = {
    "none": None,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
_REMEMBERED_SECONDS: Final = 10.0


class GatewayServer(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio is untyped
    """One gRPC gateway on a bus, which it does not close.

    Args:
        bus: Where the services are.
        options: Limits, times and switches.
        source: What is served of it; by default as `options` say.

    Attributes:
        table: What is served now.
        metrics: Counters of calls.

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
        self.options = options or GatewayOptions()
        self.metrics = Metrics()
        self.table = Table()
        self._bus = bus
        self._source = source or choose_source(self.options)
        self._calls = Calls(bus, self.options, self.metrics)
        self._catalog = Catalog(
            bus, interval=self.options.discovery_interval, on_change=self._update
        )
        self._health = Health(self._is_well, self._is_served)
        self._reflection = Reflection([HEALTH])
        self._own = self._health.handlers()
        if self.options.reflection:
            self._own |= self._reflection.handlers()
        self._handlers: dict[str, Handler] = dict(self._own)
        self._former: dict[str, tuple[CatalogEndpoint, float]] = {}
        self._known: set[str] = set()
        self._port = 0
        self._server: grpc.aio.Server | None = None
        self._undo: list[Callable[[], None]] = []

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            FailedPrecondition: It is not started.
        """
        if self._server is None:
            raise FailedPrecondition("the gateway is not started")
        return self._port

    @property
    def address(self) -> str:
        """What a gRPC client dials, such as ``127.0.0.1:50051``."""
        return _joined(self.options.host, self.port)

    @property
    def url(self) -> str:
        """Where it is, such as ``grpc://127.0.0.1:50051``; ``grpcs`` with TLS."""
        return f"{'grpcs' if self.options.tls_cert else 'grpc'}://{self.address}"

    def exposition(self) -> str:
        """Return the counters as Prometheus reads them; "" where that is not installed."""
        try:
            return metrics.exposition(self.metrics).decode()
        except FailedPrecondition:
            return ""

    async def start(self) -> None:
        """Find the services, then accept calls.

        Raises:
            OSError: The address cannot be had.
            FailedPrecondition: A file for TLS cannot be read, or a service on the bus does
                not fit the .proto that was given.
        """
        server = self._bind()
        try:
            if self.options.metrics_port:
                page = metrics.serve(
                    self.metrics, self.options.host, self.options.metrics_port
                )
                self._undo.append(page)
            await self._catalog.start()
            self._update()
            self._check()
            self._undo.append(self._bus.watch(lambda _: self._health.changed()))
            await server.start()
        except BaseException:
            await self._put_away()
            await server.stop(None)
            raise
        self._server = server
        count = len(self.table.methods)
        _log.info("gRPC gateway, %d methods, ready at %s", count, self.url)

    async def stop(self) -> None:
        """Accept no more, finish what is in flight in `drain_timeout`, close.

        What is not finished then is cancelled, and with it the services' turns.
        """
        server, self._server = self._server, None
        if server is None:
            return
        self._health.end()
        await server.stop(self.options.drain_timeout)
        await self._put_away()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Return what answers a call; called by gRPC for each."""
        path: str = handler_call_details.method
        handler = self._handlers.get(path)
        return handler or self._calls.refusal(lambda: self._missing(path))

    def _bind(self) -> grpc.aio.Server:
        options = self.options
        server = grpc.aio.server(
            options=_channel_options(options),
            compression=_COMPRESSIONS[options.compression],
        )
        server.add_generic_rpc_handlers((self,))
        secret = credentials(options)
        _check_free(options)  # gRPC's core would write a line of its own to stderr
        address = _joined(options.host, options.port)
        try:
            if secret is None:
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, secret)
        except RuntimeError as exc:
            _check_free(options)  # it may be taken since
            raise OSError(errno.EADDRNOTAVAIL, "the address cannot be used") from exc
        return server

    async def _put_away(self) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        await self._catalog.stop()

    def _check(self) -> None:
        """Refuse to start where what was asked for cannot be served.

        Raises:
            FailedPrecondition: The sentences of the table.
        """
        if self.options.proto and self.table.refused:
            raise FailedPrecondition("\n".join(self.table.refused))

    def _update(self) -> None:
        """Serve what is on the bus now."""
        before, self.table = self.table, self._source.table(self._catalog)
        now = asyncio.get_running_loop().time()
        self._remember(before, now)
        methods = before.methods
        handlers = dict(self._own)
        for path, method in self.table.methods.items():
            same = methods.get(path) is method
            handlers[path] = (
                self._handlers[path] if same else self._calls.handler(method)
            )
        self._handlers = handlers
        self._known.update(self.table.services, self.table.services.values())
        self._reflection.show(self.table.services, self.table.files)
        self._health.changed()
        for sentence in self.table.refused:
            if sentence not in before.refused:
                _log.warning("%s", sentence)

    def _remember(self, before: Table, now: float) -> None:
        """Keep in mind what has just left, so that this moment is no "unknown"."""
        for path, method in before.methods.items():
            if path not in self.table.methods:
                self._former[path] = method.endpoint, now
        self._former = {
            path: (endpoint, when)
            for path, (endpoint, when) in self._former.items()
            if now - when <= _REMEMBERED_SECONDS and path not in self.table.methods
        }

    def _missing(self, path: str) -> KitError:
        """Return the error of a call to what is not served."""
        waiting = self.table.waiting.get(path)
        if waiting is not None:
            return Unavailable(waiting, retry_after=1.0)
        former = self._former.get(path)
        if former is not None and (why := self._why_gone(*former)):
            return Unavailable(why, retry_after=1.0)
        name = path[1:].rpartition("/")[0]
        if name in self.table.services:
            there = [
                known.rpartition("/")[2]
                for known in self.table.methods
                if known.startswith(f"/{name}/")
            ]
            hint = f"{name} has {', '.join(there)}"
        else:
            hint = "reflection lists what there is"
        return Unimplemented(f"there is no method {path[:200]!r} here; {hint}")

    def _why_gone(self, endpoint: CatalogEndpoint, when: float) -> str:
        """Return why an endpoint is not served that was; "" if it is gone for good."""
        service = endpoint.service
        if service in self._catalog.services:
            there = ((e.service, e.name) for e in self._catalog.endpoints)
            return misfit(service) if (service, endpoint.name) in there else ""
        now = asyncio.get_running_loop().time()
        is_recent = now - when <= _REMEMBERED_SECONDS
        return f"the last instance of {service!r} has just left the bus" * is_recent

    def _is_well(self) -> bool:
        return self._bus.is_connected and self._catalog.is_ready

    def _is_served(self, service: str) -> bool | None:
        services = self.table.services
        if services.get(service) or service in services.values():
            return True
        return False if service in self._known else None


def choose_source(options: GatewayOptions) -> Source:
    """Return what is served: the user's .proto, or what the schemas say."""
    if options.proto:
        from kitmsg_gateways.grpc.sources import UserSource

        return UserSource(options)
    from kitmsg_gateways.grpc.sources import GeneratedSource

    return GeneratedSource(options)


def _channel_options(options: GatewayOptions) -> list[tuple[str, int]]:
    """Return the options of gRPC's core.  Source: grpc/impl/channel_arg_names.h."""
    milliseconds = {
        "grpc.keepalive_time_ms": options.keepalive_interval,
        "grpc.keepalive_timeout_ms": options.keepalive_timeout,
        "grpc.http2.min_ping_interval_without_data_ms": options.min_ping_interval,
        "grpc.server_handshake_timeout_ms": options.handshake_timeout,
        "grpc.max_connection_idle_ms": options.max_idle,
    }
    return [
        *((name, int(seconds * 1000)) for name, seconds in milliseconds.items()),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.max_metadata_size", options.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", options.max_metadata_bytes),
        ("grpc.max_concurrent_streams", options.max_connection_streams),
        ("grpc.so_reuseport", int(options.reuse_port)),
    ]


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check_free(options: GatewayOptions) -> None:
    """Refuse an address that cannot be had; gRPC does not tell why.

    A name may stand for several: one of them is enough, if none is somebody else's.

    Raises:
        OSError: It cannot; ``errno.EADDRINUSE`` when it is taken.
    """
    found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    problems: list[OSError] = []
    for family, kind, proto, _, where in found:
        try:
            with socket.socket(family, kind, proto) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if options.reuse_port:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                probe.bind(where)
        except OSError as exc:
            problems.append(exc)
    taken = [exc for exc in problems if exc.errno == errno.EADDRINUSE]
    if taken or len(problems) == len(found):
        raise (taken or problems)[0]
