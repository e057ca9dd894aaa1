"""A gRPC service elsewhere as a service here: its methods are endpoints, on the bus or not.

    options.py   `UpstreamOptions`
    offer.py     endpoints by a class, or by descriptors
    describe.py  descriptors to JSON Schemas and a layout of messages
    reflect.py   fetches the descriptors of a server
    call.py      one method: its requests and replies
    client.py    connections, calls and streams

::

    users = Upstream("users.example:50051", load(["users.proto"]), name="users")
    shop = Upstream("shop.example:50051", Shop)      # a kitmsg gateway, by the class
    any_ = await open_upstream("any", ["host:50051"], UpstreamOptions(reflection=True))

    await kit.serve(users)                                   # calls go there
    await users.endpoint("get_user")(current(), {"id": "7"}) # or without a bus
    await shop.client(Shop).price("tea")                     # the same, typed

Methods become endpoints in snake case.  Needs the extra ``grpc`` (grpcio), loaded when an
upstream is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from kitmsg_gateways.edge.extra import Extra  # hints can be read
from kitmsg_gateways.grpc.options import EXTRA
from kitmsg_gateways.grpc.upstream.call import GrpcReply, GrpcRequest
from kitmsg_gateways.grpc.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.upstream import Hooks, Offered, Pool, ProtocolUpstream
from kitmsg_gateways.upstream.instancer import instancer
from kitmsg_gateways.upstream.offers import service_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.service import Service
    from kitmsg_gateways.grpc.load import Protos
    from kitmsg_gateways.upstream import Instancer

__all__ = [
    "TITLE",
    "GrpcReply",
    "GrpcRequest",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]

TITLE: Final = EXTRA.title


class Upstream(
    ProtocolUpstream["Protos | type[Service]", UpstreamOptions, GrpcRequest, GrpcReply]
):
    """Endpoints that a remote gRPC service implements.

    They are given by .proto files or descriptors, as `grpc.load` reads them; or by the
    class of a kitmsg service behind a gateway.  An address is ``host:port`` or
    ``grpcs://host:port``.
    """

    KIND: ClassVar[str] = "grpc"
    EXTRA: ClassVar[Extra] = EXTRA
    EXAMPLE: ClassVar[str] = "shop.example:50051"
    OPTIONS: ClassVar[type[UpstreamOptions]] = UpstreamOptions
    check_address = staticmethod(check_address)

    def offered(  # noqa: D102
        self,
        name: str,
        endpoints: Protos | type[Service],
        hooks: Hooks[GrpcRequest, GrpcReply],
    ) -> Offered[GrpcRequest, GrpcReply]:
        from kitmsg_gateways.grpc.upstream import offer
        from kitmsg_gateways.grpc.upstream.client import GrpcClient

        options = self.options
        client = GrpcClient(options, wants_trailers=bool(hooks.after))
        if isinstance(endpoints, type):
            methods = offer.offers_of_class(name, endpoints)
            return Offered(methods=methods, transport=client)
        named = {each.full_name: each for each in endpoints.services}
        service = service_of(named, options.service, "the server")
        return Offered(
            methods=offer.offers_of_service(name, service, options.error_field),
            transport=client,
            doc=f"{service.full_name}, over gRPC.",
        )


async def open_upstream(
    name: str, addresses: Sequence[str], options: UpstreamOptions
) -> Upstream:
    """Return the upstream of a command line; see `kitmsg.worker.plugins`."""
    EXTRA.load()
    if bool(options.proto) == options.reflection:
        raise ValueError(
            "say what the server offers, in one way: --proto FILE, or --reflection to ask"
            " it"
        )
    where = instancer(addresses, check_address, Upstream.EXAMPLE)
    if options.proto:
        from kitmsg_gateways.grpc.load import load

        protos = load(options.proto, options.proto_path)
    else:
        protos = await _reflected(name, where, options)
    return Upstream(where, protos, name=name, options=options)


async def _reflected(name: str, where: Instancer, options: UpstreamOptions) -> Protos:
    import grpc.aio

    from kitmsg_gateways.grpc.errors import read_status
    from kitmsg_gateways.grpc.upstream.client import GrpcClient
    from kitmsg_gateways.grpc.upstream.reflect import reflect

    client = GrpcClient(options)
    pool = Pool(name, where)
    try:
        channel = await pool.through(client.ready)
        return await reflect(channel, options.timeout)
    except grpc.aio.AioRpcError as exc:
        told = read_status(exc.code().value[0], exc.details() or "", ())
        raise told.error from exc
    finally:
        await pool.close()
        await client.close()
