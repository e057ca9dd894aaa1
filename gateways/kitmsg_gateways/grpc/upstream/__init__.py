"""A gRPC service elsewhere as a service here: its methods are endpoints, on the bus or not.

    options.py   `UpstreamOptions`
    offer.py     endpoints by a class, or by descriptors
    describe.py  descriptors to JSON Schemas and a layout of messages
    reflect.py   fetches the descriptors of a server
    call.py      one method: its requests and replies
    client.py    connections, calls and streams

::

    users = Upstream.of_protos(load(["users.proto"]), "users.example:50051", name="users")
    shop = Upstream("shop.example:50051", Shop)      # a kitmsg gateway, by the class
    any_ = await open_upstream("any", ["host:50051"], UpstreamOptions(reflection=True))

    await kit.serve(users)                                   # calls go there
    await users.endpoint("get_user")(current(), {"id": "7"}) # or without a bus
    await shop.client(Shop).price("tea")                     # the same, typed

Methods become endpoints in snake case.  Needs the extra ``grpc`` (grpcio), loaded when an
upstream is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg_gateways.grpc import need_grpc
from kitmsg_gateways.grpc.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.upstream import Client, Hooks, RoundRobin, Upstream as _Upstream
from kitmsg_gateways.upstream.instancer import instancer
from kitmsg_gateways.upstream.offers import service_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.endpoints import Middleware
    from kitmsg.service import Service
    from kitmsg_gateways.grpc.load import Protos
    from kitmsg_gateways.grpc.upstream.call import (
        GrpcMethod,
        GrpcReply,
        GrpcRequest,
    )
    from kitmsg_gateways.upstream import Instancer
    from kitmsg_gateways.upstream.instancer import Addresses

__all__ = [
    "TITLE",
    "GrpcReply",
    "GrpcRequest",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]

TITLE: Final = "gRPC"
_EXAMPLE: Final = "shop.example:50051"


def __getattr__(name: str) -> Any:
    if name in ("GrpcReply", "GrpcRequest"):  # they need the extra
        from kitmsg_gateways.grpc.upstream import call

        return getattr(call, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Upstream(_Upstream):
    """Endpoints that a remote gRPC service implements.

    Args:
        addresses: Where it is: ``host:port``, ``grpcs://host:port``, several, or an
            instancer.
        endpoints: The class of a kitmsg service behind a gateway, or methods, as
            `of_protos` makes them.
        name: Name on the bus; that of the class by default.
        options: Limits, times, credentials.
        hooks: Run around each call; they see the gRPC request and the gRPC reply.
        middleware: Around each call; the first is outermost.
        doc: Description in discovery.

    The settings of a class (version, concurrency, middleware ...) count on the bus.

    Raises:
        ValueError: An address, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: grpcio is not installed, or an endpoint has no form in protobuf.
    """

    def __init__(
        self,
        addresses: Addresses,
        endpoints: type[Service] | Sequence[GrpcMethod],
        *,
        name: str = "",
        options: UpstreamOptions | None = None,
        hooks: Hooks[GrpcRequest, GrpcReply] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
    ) -> None:
        need_grpc()
        from kitmsg_gateways.grpc.upstream.client import GrpcClient
        from kitmsg_gateways.grpc.upstream.offer import offers_of_class

        self.options = options or UpstreamOptions()
        settings = settings_of(endpoints)
        name = name or settings.get("name", "")
        hooks = hooks or Hooks()
        transport = GrpcClient(self.options, wants_trailers=bool(hooks.after))
        where = instancer(addresses, check_address, _EXAMPLE)
        client = Client(name, where, transport, self.options, hooks)
        if isinstance(endpoints, type):
            endpoints = offers_of_class(name, endpoints)
        super().__init__(
            name,
            client.remotes(endpoints),
            kind="grpc",
            middleware=middleware,
            doc=doc,
            version=self.options.version,
            settings=settings,
            client=client,
        )

    @classmethod
    def of_protos(
        cls,
        protos: Protos,
        addresses: Addresses,
        *,
        name: str,
        options: UpstreamOptions | None = None,
        hooks: Hooks[GrpcRequest, GrpcReply] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> Upstream:
        """Return the upstream that files describe, as `load` reads them.

        Args:
            protos: The files.
            addresses: Where the service is.
            name: Name on the bus.
            options: Limits, times, credentials; `service` and `only` choose what of it.
            hooks: As in `Upstream`.
            middleware: As in `Upstream`.

        Raises:
            ValueError: There is no such service, or several and none is chosen.
        """
        from kitmsg_gateways.grpc.upstream.offer import offers_of_service

        options = options or UpstreamOptions()
        named = {each.full_name: each for each in protos.services}
        service = service_of(named, options.service, "the server")
        offers = offers_of_service(name, service, error_field=options.error_field)
        return cls(
            addresses,
            offers,
            name=name,
            options=options,
            hooks=hooks,
            middleware=middleware,
            doc=f"{service.full_name}, over gRPC.",
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
        FailedPrecondition: A file cannot be used, or the server has no reflection.
        Unavailable: The server cannot be asked.
    """
    need_grpc()
    if bool(options.proto) == options.reflection:
        raise ValueError(
            "say what the server offers, in one way: --proto FILE, or --reflection to ask"
            " it"
        )
    where = instancer(addresses, check_address, _EXAMPLE)
    if options.proto:
        from kitmsg_gateways.grpc.load import load

        protos = load(options.proto, options.proto_path)
    else:
        protos = await _reflected(name, where, options)
    return Upstream.of_protos(protos, where, name=name, options=options)


async def _reflected(name: str, where: Instancer, options: UpstreamOptions) -> Protos:
    import grpc.aio

    from kitmsg_gateways.grpc.status import read_status
    from kitmsg_gateways.grpc.upstream.client import GrpcClient
    from kitmsg_gateways.grpc.upstream.reflect import reflect

    client = GrpcClient(options)
    try:
        channel = await RoundRobin(name, where).through(client.ready)
        return await reflect(channel, options.timeout)
    except grpc.aio.AioRpcError as exc:
        told = read_status(exc.code().value[0], exc.details() or "", ())
        raise told.error from exc
    finally:
        await client.close()
