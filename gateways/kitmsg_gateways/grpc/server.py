"""`GatewayServer`: the port, the methods that come and go, start and stop.

One generic handler answers every path, so that services appear and leave without a
restart.
"""

from __future__ import annotations

import dataclasses
import errno
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import grpc
import grpc.aio

from kitmsg.bus import Bus
from kitmsg.errors import FailedPrecondition, KitError, Unimplemented
from kitmsg.idl.numbers import warn_apart
from kitmsg_gateways.edge.calls import load_middleware
from kitmsg_gateways.edge.catalogue import Source, unavailable
from kitmsg_gateways.edge.events import EventDoor
from kitmsg_gateways.edge.lifecycle import Gateway
from kitmsg_gateways.grpc.call import Calls
from kitmsg_gateways.grpc.events import SERVICE as EVENTS, Events, events_file
from kitmsg_gateways.grpc.health import SERVICE as HEALTH, Health
from kitmsg_gateways.grpc.metadata import Forwarding
from kitmsg_gateways.grpc.methods import Handler, Table
from kitmsg_gateways.grpc.options import GatewayOptions
from kitmsg_gateways.grpc.reading import WINDOW_BYTES
from kitmsg_gateways.grpc.reflection import Reflection
from kitmsg_gateways.grpc.sources import GeneratedSource, UserSource
from kitmsg_gateways.grpc.tls import GrpcTls, check_free, listen

if TYPE_CHECKING:
    import contextlib

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint

__all__ = ["GatewayServer", "choose_source"]

# A level, not an algorithm: gRPC's core then takes one that the client accepts, where
# there are two the first at "low" and the last at "high".
# Source: CompressionAlgorithmSet::CompressionAlgorithmForLevel in the core.
_COMPRESSION_LEVELS: Final = {"none": 0, "gzip": 1, "deflate": 3}


class GatewayServer(Gateway[GatewayOptions, Table], grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio is untyped
    """One gRPC gateway on a bus; arguments and errors as `Gateway`.

    Args:
        source: What is served of the bus; by default as the options say.

    Attributes:
        events: The events that are open; None for none.
    """

    kind: ClassVar[str] = "grpc"
    title: ClassVar[str] = "gRPC"

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions | None = None,
        source: Source[Table] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        options = options or GatewayOptions()
        for sock in sockets:
            port = sock.getsockname()[1]
            options = dataclasses.replace(options, port=port, reuse_port=True)
            sock.close()  # the parent's keeps the port
        self._source = source or choose_source(options)
        self.events: EventDoor | None = None
        if options.events:
            around = load_middleware(options.middleware)
            self.events = EventDoor(bus, options, middleware=around, kind=self.kind)
        super().__init__(bus, options, Table(), sockets)
        self._calls = Calls(self.callers, options, self.metrics, self.gate, self.budget)
        self._checks = Health(lambda: not self.health.problem(), self._is_served)
        self._own = self._checks.handlers(self._calls.guarded)
        self._reflection = Reflection([HEALTH])
        if self.events is not None:
            self._own |= Events(self.events, options).handlers(self._calls)
            self._reflection = Reflection([HEALTH, EVENTS], [events_file()])
        if options.reflection:
            self._own |= self._reflection.handlers(self._calls.guarded)
        self._handlers: dict[str, Handler] = dict(self._own)
        self._known: set[str] = set()
        self._port = 0  # until it is bound
        self._server: grpc.aio.Server | None = None

    @classmethod
    def check(cls, options: GatewayOptions) -> None:  # noqa: D102
        Forwarding(options)
        choose_source(options)
        super().check(options)
        if not options.proto:
            warn_apart(options.workers, options.lock)

    @classmethod
    def make_tls(cls, options: GatewayOptions) -> GrpcTls:  # noqa: D102
        return GrpcTls(options)

    listen = staticmethod(listen)

    @property
    def port(self) -> int:  # noqa: D102
        if not self._port:
            raise FailedPrecondition("the gateway is not started")
        return self._port

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Return what answers a call; called by gRPC for each."""
        path: str = handler_call_details.method
        handler = self._handlers.get(path)
        return handler or self._calls.refusal(lambda: self._missing(path))

    async def _bind(self, stack: contextlib.AsyncExitStack) -> None:
        options = self.options
        server = self._server = grpc.aio.server(options=_channel_options(options))
        server.add_generic_rpc_handlers((self,))
        check_free(options)  # gRPC's core would write a line of its own to stderr
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"{host}:{options.port}"
        try:
            if isinstance(self._tls, GrpcTls):
                secret = self._tls.credentials()
                self._port = server.add_secure_port(address, secret)
            else:
                self._port = server.add_insecure_port(address)
        except RuntimeError as exc:
            check_free(options)  # it may be taken since
            raise OSError(errno.EADDRNOTAVAIL, "the address cannot be used") from exc
        stack.push_async_callback(server.stop, None)
        stack.callback(self.bus.watch(lambda _: self._checks.changed()))

    async def _open(self) -> None:
        assert self._server is not None  # noqa: S101  # `_bind` made it
        await self._server.start()

    async def _drain(self) -> None:
        assert self._server is not None  # noqa: S101  # `_bind` made it
        self._checks.end()
        if self.events is not None:
            self.events.close()
        await self._server.stop(self.options.drain_timeout)
        self._port = 0

    def _build(self, found: Catalog) -> Table:
        if self.events is not None:
            shown = {event.name for event in found.events}
            every = {event.name for event in self.catalogue.found.events}
            self.events.learn(found.events, every - shown)
        return self._source.table(found)

    def _served(self) -> int:
        return len(self.table.methods)

    def _check(self) -> None:
        if self.options.proto and self.table.refused:
            raise FailedPrecondition("\n".join(self.table.refused))

    def _changed(self, before: Table) -> None:
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
        self._checks.changed()
        self._warn(self.table.refused, before.refused)

    def _missing(self, path: str) -> KitError:
        """Return the error of a call to what is not served."""

        def find(table: Table) -> CatalogEndpoint | None:
            method = table.methods.get(path)
            return method.endpoint if method else None

        why = self.table.waiting.get(path) or self.catalogue.why_gone(find)
        if why:
            return unavailable(why)
        name = path[1:].rpartition("/")[0]
        hint = "reflection lists what there is"
        if name in self.table.services:
            there = [
                known.rpartition("/")[2]
                for known in self.table.methods
                if known.startswith(f"/{name}/")
            ]
            hint = f"{name} has {', '.join(there)}"
        return Unimplemented(f"there is no method {path[:200]!r} here; {hint}")

    def _is_served(self, service: str) -> bool | None:
        services = self.table.services
        if service == EVENTS and self.events is not None:
            return True
        if services.get(service) or service in services.values():
            return True
        return False if service in self._known else None


def choose_source(options: GatewayOptions) -> Source[Table]:
    """Return what is served: the user's .proto, or what the schemas say."""
    return UserSource(options) if options.proto else GeneratedSource(options)


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
        ("grpc.max_allowed_incoming_connections", options.max_connections),
        # Nothing unread but this much of each call: see `reading`.
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.so_reuseport", int(options.reuse_port)),
        ("grpc.default_compression_level", _COMPRESSION_LEVELS[options.compression]),
    ]
