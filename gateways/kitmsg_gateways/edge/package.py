"""The public functions of a gateway's package, which are alike for all doors."""

from __future__ import annotations

from collections.abc import Callable, Sequence  # hints can be read
from socket import socket  # as above
from typing import Any, Generic, Protocol, TypeVar

from kitmsg.bus import Bus  # as above
from kitmsg.errors import FailedPrecondition
from kitmsg.service import Kit
from kitmsg_gateways.edge.listener import bind
from kitmsg_gateways.edge.options import EdgeOptions

__all__ = ["Package"]

O = TypeVar("O", bound=EdgeOptions)  # noqa: E741  # options


class Server(Protocol):
    """A gateway's server, as `Gateway` is."""

    @property
    def url(self) -> str: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def reload(self) -> None: ...


S = TypeVar("S", bound=Server)


class Package(Generic[O, S]):
    """Starts the gateways of one kind.

    Args:
        name: Of the package.
        options: Makes the options that hold by default.
        load: Returns what makes a server of a bus, options and sockets; imports the
            libraries that it needs.
        needs: What to say when they are not installed.
    """

    def __init__(
        self,
        name: str,
        options: Callable[[], O],
        load: Callable[[], Callable[[Bus, O, Sequence[socket]], S]],
        needs: str,
    ) -> None:
        self._name = name
        self._options = options
        self._load = load
        self._needs = needs

    def load(self) -> Callable[[Bus, O, Sequence[socket]], S]:
        """Return the class of the server.

        Raises:
            FailedPrecondition: A library is not installed; the message says which.
        """
        try:
            return self._load()
        except ImportError as exc:
            raise FailedPrecondition(self._needs) from exc

    def attribute(self, name: str) -> Any:
        """Return what the package has when it is asked for: ``GatewayServer``.

        Options need not load the libraries.

        Raises:
            AttributeError: There is no such name.
        """
        if name == "GatewayServer":
            return self.load()
        raise AttributeError(f"module {self._name!r} has no attribute {name!r}")

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
        make = self.load()
        bus = kit_or_bus.bus if isinstance(kit_or_bus, Kit) else kit_or_bus
        server = make(bus, (options or self._options()).at(host, port), sockets)
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
            KitError: Something cannot be used; the message says what.
        """
        self.load()
        checked: Any = options
        if hasattr(options, "jwt_key"):
            from kitmsg_gateways.edge.auth import Auth

            Auth(checked, "")
        if options.tls_cert:
            from kitmsg_gateways.edge.tls import Tls

            Tls(options)

    def listen(self, options: O) -> list[socket]:
        """Return listening sockets for several processes to share; see `serve`.

        Raises:
            FailedPrecondition: It would serve standard input, which is this process's.
            OSError: The address cannot be had.
        """
        if getattr(options, "stdio", False):
            raise FailedPrecondition(
                "stdio: it is served by one process; leave out --health and --workers"
            )
        return bind(options.host, options.port, reuse_port=options.reuse_port)
