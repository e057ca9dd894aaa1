"""The public functions of a gateway's package, which are alike for all doors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence  # hints can be read
from socket import socket  # as above
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kitmsg.bus import Bus  # as above
from kitmsg.errors import InvalidArgument
from kitmsg.service import Kit
from kitmsg_gateways.edge.calls import load_middleware
from kitmsg_gateways.edge.extra import Extra
from kitmsg_gateways.edge.options import EdgeOptions

if TYPE_CHECKING:
    from kitmsg_gateways.edge.lifecycle import Gateway

__all__ = ["Package"]

O = TypeVar("O", bound=EdgeOptions)  # noqa: E741  # options
S = TypeVar("S", bound="Gateway[Any, Any]")


class Package(Generic[O, S]):
    """Starts the gateways of one kind, whose libraries are loaded when one is made.

    Args:
        name: Of the package.
        options: Makes the options that hold by default.
        extra: The libraries that the server imports.
    """

    def __init__(self, name: str, options: Callable[[], O], extra: Extra) -> None:
        self._name = name
        self._options = options
        self._extra = extra

    def load(self) -> type[S]:
        """Return the class of the server.

        Raises:
            FailedPrecondition: A library is not installed; the message says which.
        """
        self._extra.load()
        try:
            server: type[S] = self._module("server").GatewayServer
        except ImportError as exc:
            raise self._extra.missing(exc) from exc
        return server

    def attribute(self, name: str) -> Any:
        """Return a name of the package that is loaded when it is asked for.

        Raises:
            AttributeError: There is no such name.
        """
        if name == "GatewayServer":
            return self.load()
        if name == "Upstream":
            return self._module("upstream").Upstream
        raise AttributeError(f"module {self._name!r} has no attribute {name!r}")

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{self._name}.{name}")

    async def serve(
        self,
        kit_or_bus: Kit | Bus,
        options: O | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
        sockets: Sequence[socket] = (),
    ) -> S:
        """Start a gateway on a bus; returns when it accepts calls.

        The bus stays its maker's: stopping the gateway does not close it.

        Args:
            kit_or_bus: The bus, or a kit on it.
            options: Limits, times and switches.
            host: Address to listen on, instead of the one in `options`.
            port: Port to listen on, instead of the one in `options`; 0 for a free one.
            sockets: What `listen` returned, shared with other processes.

        Raises:
            FailedPrecondition: A library is not installed, or a file cannot be used.
            ValueError: An option does not fit.
            OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
        """
        make: Any = self.load()
        bus = kit_or_bus.bus if isinstance(kit_or_bus, Kit) else kit_or_bus
        chosen = (options or self._options()).at(host, port)
        server: S = make(bus, chosen, sockets=sockets)
        if isinstance(kit_or_bus, Kit):
            server.metrics.beside = kit_or_bus.collect_all
        await server.start()
        return server

    async def run(
        self,
        options: O | None = None,
        *,
        servers: str | None = None,
        on_ready: Callable[[S], None] | None = None,
    ) -> None:
        """Connect to the bus and serve it until SIGTERM or SIGINT, then stop gracefully.

        Args:
            options: Limits, times and switches.
            servers: NATS URL; by default ``NATS_URL``, else the local bus.
            on_ready: Called once, when calls are accepted.

        Raises:
            KitError: The bus cannot be reached, or see `serve`.
            OSError: The address cannot be had.
        """
        from kitmsg_gateways.edge import process

        self.load()
        await process.run(lambda kit: self.serve(kit, options), servers, on_ready)

    def check(self, options: O) -> None:
        """Check what can be checked without a bus: files, and that libraries are there.

        Raises:
            FailedPrecondition: A library is not installed, or a file cannot be used.
            InvalidArgument: An option does not fit the others or a file.
        """
        load_middleware(options.middleware)
        try:
            self.load().check(options)
        except ValueError as exc:
            raise InvalidArgument(str(exc)) from exc

    def listen(self, options: O) -> list[socket]:
        """Return listening sockets for several processes to share; see `serve`.

        Raises:
            FailedPrecondition: A library is not installed, or it would serve standard
                input, which is this process's.
            OSError: The address cannot be had; ``errno.EADDRINUSE`` when it is taken.
        """
        return self.load().listen(options)
