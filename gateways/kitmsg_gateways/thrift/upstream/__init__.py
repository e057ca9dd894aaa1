"""A remote Thrift service as a service: its methods are endpoints on the bus, or in process.

    options.py   `UpstreamOptions`
    offer.py     endpoints by an IDL, or by a class
    describe.py  the types of an IDL as JSON Schemas
    call.py      one method: its calls and answers
    client.py    the pool of connections

::

    adder = Upstream("localhost:9090", load("addsvc.thrift"), name="addsvc")
    shop = Upstream("localhost:8083", Shop)          # a kitmsg gateway, by the class

    await kit.serve(adder)                                        # on the bus
    await adder.endpoint("sum")(current(), {"a": 1, "b": 2})      # or without a bus
    await shop.client(Shop).price("tea")                          # the same, typed

Needs the extra ``thrift`` (thriftpy2) to read IDLs.  Thrift has no headers, so neither
deadlines nor traces reach the server; the time limit is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg_gateways.thrift.upstream.call import ThriftReply, ThriftRequest
from kitmsg_gateways.thrift.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.upstream import Client, Hooks, Upstream as _Upstream
from kitmsg_gateways.upstream.instancer import instancer
from kitmsg_gateways.upstream.offers import service_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.endpoints import Middleware
    from kitmsg.service import Service
    from kitmsg_gateways.thrift.model import Idl
    from kitmsg_gateways.upstream.instancer import Addresses

__all__ = [
    "TITLE",
    "ThriftReply",
    "ThriftRequest",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]

TITLE: Final = "Thrift"


class Upstream(_Upstream):
    """Endpoints that a remote Thrift service implements.

    Args:
        addresses: Where it is: ``localhost:9090``, several, or an instancer.
        endpoints: Its IDL; or the class of a kitmsg service behind a gateway.
        name: Name on the bus; that of the class by default.
        options: Limits, times, certificates, and which service of the IDL.
        hooks: Run around each call; they see `ThriftRequest` and `ThriftReply`.
        middleware: Around each call; the first is outermost.
        doc: Description in discovery.

    The settings of a class (version, concurrency, middleware ...) count on the bus.

    Raises:
        ValueError: An address, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: thriftpy2 is not installed, or an endpoint of the class has no
            form in Thrift.
    """

    def __init__(
        self,
        addresses: Addresses,
        endpoints: Idl | type[Service],
        *,
        name: str = "",
        options: UpstreamOptions | None = None,
        hooks: Hooks[ThriftRequest, ThriftReply] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
    ) -> None:
        from kitmsg_gateways.thrift import need_thriftpy2

        need_thriftpy2()
        from kitmsg_gateways.thrift.protocol import Limits
        from kitmsg_gateways.thrift.upstream.client import ThriftClient
        from kitmsg_gateways.thrift.upstream.offer import offers_of_class, offers_of_idl

        self.options = options = options or UpstreamOptions()
        settings = settings_of(endpoints)
        name = name or settings.get("name", "")
        if isinstance(endpoints, type):
            own, methods = offers_of_class(name, endpoints)
        else:
            service = service_of(endpoints.services, options.service, endpoints.name)
            own, methods = service.name, offers_of_idl(name, service)
        limits = Limits(options.max_message_bytes)
        prefix = f"{own}:" if options.multiplexed else ""
        transport = ThriftClient(name, options, limits, prefix)
        where = instancer(addresses, check_address, "localhost:9090")
        client = Client(name, where, transport, options, hooks or Hooks())
        super().__init__(
            name,
            client.remotes(methods),
            kind="thrift",
            middleware=middleware,
            doc=doc,
            version=options.version,
            settings=settings,
            client=client,
        )


async def open_upstream(
    name: str, addresses: Sequence[str], options: UpstreamOptions
) -> Upstream:
    """Return the upstream that a command line describes.

    Args:
        name: Name on the bus.
        addresses: Where the server is.
        options: What the flags say.

    Raises:
        ValueError: They do not fit together.
        KitError: The IDL cannot be read, or thriftpy2 is not installed.
    """
    if not options.thrift:
        raise ValueError("say what the server offers: --thrift FILE")
    from kitmsg_gateways.thrift import need_thriftpy2

    need_thriftpy2()
    from kitmsg_gateways.thrift.load import load

    idl = load(options.thrift, options.thrift_path)
    return Upstream(addresses, idl, name=name, options=options)
