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

from typing import TYPE_CHECKING, ClassVar, Final

from kitmsg_gateways.edge.extra import Extra  # hints can be read
from kitmsg_gateways.thrift.options import EXTRA
from kitmsg_gateways.thrift.upstream.call import ThriftReply, ThriftRequest
from kitmsg_gateways.thrift.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.upstream import Hooks, Offered, ProtocolUpstream
from kitmsg_gateways.upstream.offers import service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.service import Service
    from kitmsg_gateways.thrift.model import Idl

__all__ = [
    "TITLE",
    "ThriftReply",
    "ThriftRequest",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]

TITLE: Final = EXTRA.title


class Upstream(
    ProtocolUpstream["Idl | type[Service]", UpstreamOptions, ThriftRequest, ThriftReply]
):
    """Endpoints that a remote Thrift service implements.

    They are given by an IDL, as `thrift.load` reads it; or by the class of a kitmsg service
    behind a gateway.  An address is ``host:port``.
    """

    KIND: ClassVar[str] = "thrift"
    EXTRA: ClassVar[Extra] = EXTRA
    EXAMPLE: ClassVar[str] = "localhost:9090"
    OPTIONS: ClassVar[type[UpstreamOptions]] = UpstreamOptions
    check_address = staticmethod(check_address)

    def offered(  # noqa: D102
        self,
        name: str,
        endpoints: Idl | type[Service],
        hooks: Hooks[ThriftRequest, ThriftReply],
    ) -> Offered[ThriftRequest, ThriftReply]:
        from kitmsg_gateways.thrift.upstream import offer
        from kitmsg_gateways.thrift.upstream.client import ThriftClient

        options = self.options
        if isinstance(endpoints, type):
            own, methods = offer.offers_of_class(name, endpoints)
        else:
            service = service_of(endpoints.services, options.service, endpoints.name)
            own, methods = service.name, offer.offers_of_idl(name, service)
        prefix = f"{own}:" if options.multiplexed else ""
        return Offered(methods=methods, transport=ThriftClient(name, options, prefix))


async def open_upstream(
    name: str, addresses: Sequence[str], options: UpstreamOptions
) -> Upstream:
    """Return the upstream of a command line; see `kitmsg.worker.plugins`."""
    if not options.thrift:
        raise ValueError("say what the server offers: --thrift FILE")
    EXTRA.load()
    from kitmsg_gateways.thrift.load import load

    idl = load(options.thrift, options.thrift_path)
    return Upstream(addresses, idl, name=name, options=options)
