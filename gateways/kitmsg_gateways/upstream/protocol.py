"""The upstream of a protocol: one constructor for HTTP, gRPC, Thrift and others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from kitmsg.balance.routes import key_of
from kitmsg.middleware.adaptive_breaker import adaptive_breaker
from kitmsg_gateways.edge.extra import Extra  # hints can be read
from kitmsg_gateways.upstream.client import Client
from kitmsg_gateways.upstream.hooks import Hooks
from kitmsg_gateways.upstream.instancer import instancer
from kitmsg_gateways.upstream.offers import settings_of
from kitmsg_gateways.upstream.options import CommonOptions
from kitmsg_gateways.upstream.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from kitmsg.balance import Picker
    from kitmsg.bus import Bus
    from kitmsg.endpoints import Middleware
    from kitmsg_gateways.upstream.client import Transport
    from kitmsg_gateways.upstream.instancer import Addresses

__all__ = ["Offered", "ProtocolUpstream"]

E = TypeVar("E")
O = TypeVar("O", bound=CommonOptions)  # noqa: E741  # O of options
Q = TypeVar("Q")
A = TypeVar("A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(Generic[Q, A]):
    """The endpoints of a server, and the connections to it.

    Attributes:
        methods: The endpoints.
        transport: The connections.
        doc: Description in discovery, where none is given.
        version: Semantic version, where the options say none.
        addresses: Where the server is, where none is given.
    """

    methods: Iterable[Any]
    transport: Transport[Any, Q, A]
    doc: str = ""
    version: str = ""
    addresses: Addresses = ()


class ProtocolUpstream(Upstream, ABC, Generic[E, O, Q, A]):
    """Endpoints that a remote server implements.

    The settings of a class (version, concurrency, middleware ...) count on the bus.

    Args:
        addresses: Where it is: an address, several, or an instancer.
        endpoints: The class of a service, or a description of the server's interface.
        name: Name on the bus; that of the class by default.
        options: Limits, times, credentials, and which endpoints are wanted.
        hooks: Run around each call; they see the protocol's request and reply.
        middleware: Around each call; the first is outermost.
        doc: Description in discovery.
        pick: Picks the server of a call, such as `kitmsg.balance.round_robin()`; by
            default as the options say, which is by latency and open calls.
        key: Field of a request, or a function of it, whose value a picker like
            `kitmsg.balance.consistent_hash` goes by.
        bus: As in `Upstream`.

    Raises:
        ValueError: An address, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: The protocol's library is not installed, or an endpoint has no
            form in the protocol.
    """

    KIND: ClassVar[str]
    EXTRA: ClassVar[Extra]
    """The protocol's library."""

    EXAMPLE: ClassVar[str]
    """An address, for messages."""
    OPTIONS: ClassVar[type[CommonOptions]]

    def __init__(
        self,
        addresses: Addresses,
        endpoints: E,
        *,
        name: str = "",
        options: O | None = None,
        hooks: Hooks[Q, A] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
        pick: Picker | None = None,
        key: str | Callable[[Any], object] = "",
        bus: Bus | None = None,
    ) -> None:
        self.EXTRA.load()
        settings = settings_of(endpoints)
        name = name or settings.get("name", "")
        self.options: O = options or cast("O", self.OPTIONS())
        found = self.offered(name, endpoints, hooks := hooks or Hooks())
        where = instancer(
            addresses or found.addresses, self.check_address, self.EXAMPLE
        )
        client = Client(
            name,
            where,
            found.transport,
            self.options,
            hooks,
            pick=pick,
            key=key_of(key) if key else None,
        )
        super().__init__(
            name,
            client.remotes(found.methods),
            kind=self.KIND,
            version=self.options.version or found.version,
            doc=doc or found.doc,
            middleware=(*middleware, adaptive_breaker())
            if self.options.breaker
            else middleware,
            settings=settings,
            client=client,
            bus=bus,
        )

    @staticmethod
    @abstractmethod
    def check_address(address: str) -> str:
        """Return an address in its usual form; a `ValueError` if it is none."""

    @abstractmethod
    def offered(self, name: str, endpoints: E, hooks: Hooks[Q, A]) -> Offered[Q, A]:
        """Return what the server offers to an upstream of that name."""
