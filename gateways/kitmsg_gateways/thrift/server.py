"""`GatewayServer`: Thrift connections on the edge's lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from kitmsg.bus import Bus
from kitmsg.errors import FailedPrecondition, KitError, Unimplemented
from kitmsg.idl.numbers import warn_apart
from kitmsg_gateways.edge.catalogue import Source, unavailable
from kitmsg_gateways.edge.lifecycle import SocketGateway
from kitmsg_gateways.thrift.call import Calls
from kitmsg_gateways.thrift.connection import Connection
from kitmsg_gateways.thrift.methods import Table
from kitmsg_gateways.thrift.options import GatewayOptions
from kitmsg_gateways.thrift.protocol.base import Limits
from kitmsg_gateways.thrift.protocol.framing import Inbox
from kitmsg_gateways.thrift.sources import GeneratedSource, UserSource

if TYPE_CHECKING:
    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg_gateways.edge.admission import Place

__all__ = ["GatewayServer", "make_source"]

_SHOWN: Final = 100
_SWEEPS: Final = 4  # in the shortest time that is watched for


class GatewayServer(SocketGateway[GatewayOptions, Table]):
    """One Thrift gateway on a bus; arguments and errors as `Gateway`.

    Args:
        source: What is served of the bus; by default as the options say.

    Attributes:
        calls: Answers calls.
        clients: The connections that are open.
    """

    kind: ClassVar[str] = "thrift"
    title: ClassVar[str] = "Thrift"

    def __init__(
        self,
        bus: Bus,
        options: GatewayOptions | None = None,
        source: Source[Table] | None = None,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        options = options or GatewayOptions()
        self._limits = Limits(
            options.max_message_bytes, options.max_items, options.max_depth
        )
        self._source = source or make_source(options, self._limits)
        super().__init__(bus, options, Table(), sockets)
        self.calls = Calls(self.callers, options, self.metrics, self.gate)
        self.clients: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    @classmethod
    def check(cls, options: GatewayOptions) -> None:  # noqa: D102
        make_source(options, Limits())
        super().check(options)
        if not options.thrift:
            warn_apart(options.workers, options.lock)

    def inbox(self) -> Inbox:
        """Return what reads the bytes of a new connection."""
        protocol, transport = self.options.protocol, self.options.transport
        return Inbox(
            self._limits,
            "" if protocol == "auto" else protocol,
            None if transport == "auto" else transport == "framed",
            has_header=transport == "header",
        )

    def joined(self, connection: Connection) -> None:
        """Note a new connection, after its handshake."""
        self.clients.add(connection)
        self._empty.clear()

    def left(self, connection: Connection) -> None:
        """Note that a connection has ended."""
        self.clients.discard(connection)
        if not self.clients:
            self._empty.set()

    def missing(self, name: bytes) -> KitError:
        """Return the error of a call to what is not served."""

        def find(table: Table) -> CatalogEndpoint | None:
            served = table.methods.get(name)
            return served.endpoint if served else None

        table, shown = self.table, name[:_SHOWN].decode(errors="replace")
        if name in table.waiting:
            return unavailable(table.waiting[name])
        if name in table.unclear:
            return Unimplemented(f"{shown!r} is not clear: {table.unclear[name]}")
        if why := self.catalogue.why_gone(find):
            return unavailable(why)
        return Unimplemented(f"there is no method {shown!r} here")

    def _protocol(self, place: Place) -> Connection:
        return Connection(self, place)

    async def _bind(self, stack: contextlib.AsyncExitStack) -> None:
        await super()._bind(stack)
        stack.callback(asyncio.create_task(self._sweep()).cancel)

    async def _drain(self) -> None:
        await self._stop_listening()
        for connection in list(self.clients):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.drain_timeout):
                await self._empty.wait()
                return
        self._log.warning("%d calls did not finish in time", self.metrics.in_flight)
        for connection in list(self.clients):
            connection.abort("stopped")
        await self._empty.wait()

    async def _sweep(self) -> None:
        """Close connections whose clients are too slow."""
        options = self.options
        times = (options.idle_timeout, options.message_timeout, options.write_timeout)
        pause = min(1.0, min(times) / _SWEEPS)
        while True:
            await asyncio.sleep(pause)
            now = asyncio.get_running_loop().time()
            for connection in list(self.clients):
                connection.check(now)

    def _build(self, found: Catalog) -> Table:
        return self._source.table(found)

    def _served(self) -> int:
        return len({id(served) for served in self.table.methods.values()})

    def _check(self) -> None:
        if self.options.thrift and self.table.refused:
            raise FailedPrecondition("\n".join(self.table.refused))
        self._look_for(self.options.service)

    def _changed(self, before: Table) -> None:
        self.table.keep_plain(before)
        self._warn(self.table.refused, before.refused)

    def _look_for(self, service: str) -> None:
        """Say so if the service that was chosen is not there: its name may be wrong."""
        there = sorted(self.catalogue.found.services)
        if service and service not in there:
            near = difflib.get_close_matches(service, there, n=1)
            self._log.warning(
                "there is no service %r on the bus yet, so that nothing can be called"
                " without a service's name in front; %s",
                *(service, _hint(near, there)),
            )


def _hint(near: list[str], there: list[str]) -> str:
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there is {', '.join(there)}" if there else "there is none at all"


def make_source(options: GatewayOptions, limits: Limits) -> Source[Table]:
    """Return what is served: the user's .thrift, or what the schemas say.

    Raises:
        FailedPrecondition: A file that an option names cannot be used.
        ValueError: An option does not fit.
    """
    make = UserSource if options.thrift else GeneratedSource
    return make(options, limits)
