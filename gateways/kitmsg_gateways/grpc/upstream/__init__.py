"""A gRPC service elsewhere as a service here: its methods are endpoints, on the bus or not.

    options.py   `UpstreamOptions`: what the server offers, limits, times, credentials
    offer.py     what a server offers: by a class, or by descriptors
    describe.py  descriptors to JSON Schemas and a layout of messages
    reflect.py   asks a server what it offers
    call.py      what an endpoint does: hooks, deadline, metadata, errors
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

import asyncio
from typing import TYPE_CHECKING

from kitmsg_gateways.grpc import need_grpc
from kitmsg_gateways.grpc.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.upstream import (
    Hooks,
    Instancer,
    Remote,
    RoundRobin,
    Upstream as _Upstream,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.protobuf.descriptor import ServiceDescriptor

    from kitmsg.endpoints import Middleware
    from kitmsg.service import Service
    from kitmsg_gateways.grpc.load import Protos
    from kitmsg_gateways.grpc.upstream.client import GrpcReply, GrpcRequest
    from kitmsg_gateways.grpc.upstream.offer import Offer

__all__ = ["Upstream", "UpstreamOptions", "open_upstream"]


class Upstream(_Upstream):
    """Endpoints that a remote gRPC service implements.

    Args:
        addresses: Where it is: ``host:port``, ``grpcs://host:port``, several, or an
            instancer.
        endpoints: What it offers: the class of a kitmsg service behind a gateway, or
            offers, as `of_protos` makes them.
        name: Name on the bus; that of the class by default.
        options: Limits, times, credentials.
        hooks: Run around each call; they see the gRPC request and the gRPC reply.
        middleware: Around each call; the first is outermost.
        doc: Description in discovery.

    Raises:
        ValueError: An address, a name or a file is wrong, or there is no endpoint.
        FailedPrecondition: grpcio is not installed, or an endpoint has no form in protobuf.
    """

    def __init__(
        self,
        addresses: Instancer | str | Iterable[str],
        endpoints: type[Service] | Sequence[Offer],
        *,
        name: str = "",
        options: UpstreamOptions | None = None,
        hooks: Hooks[GrpcRequest, GrpcReply] | None = None,
        middleware: Sequence[Middleware] = (),
        doc: str = "",
    ) -> None:
        need_grpc()
        from kitmsg_gateways.grpc.upstream.call import Calls
        from kitmsg_gateways.grpc.upstream.client import Channels
        from kitmsg_gateways.grpc.upstream.offer import offers_of_class

        self.options = options or UpstreamOptions()
        name = name or getattr(endpoints, "name", "")
        if isinstance(endpoints, type):
            endpoints = offers_of_class(name, endpoints)
        self._channels = Channels(self.options)
        self._closing: set[asyncio.Task[None]] = set()
        self._pool = RoundRobin(name, _checked(addresses), gone=self._gone)
        calls = Calls(self._pool, self._channels, self.options, hooks or Hooks())
        super().__init__(
            name,
            [Remote(offer.declaration, calls.endpoint(offer)) for offer in endpoints],
            kind="grpc",
            middleware=middleware,
            doc=doc,
            version=self.options.version,
        )

    @classmethod
    def of_protos(
        cls,
        protos: Protos,
        addresses: Instancer | str | Iterable[str],
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
        service = _chosen(protos.services, options.service)
        offers = offers_of_service(
            name, service, only=options.only, error_field=options.error_field
        )
        return cls(
            addresses,
            offers,
            name=name,
            options=options,
            hooks=hooks,
            middleware=middleware,
            doc=f"{service.full_name}, over gRPC.",
        )

    def _gone(self, address: str) -> None:
        task = asyncio.ensure_future(self._channels.close(address))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        await self._channels.close()


def _checked(addresses: Instancer | str | Iterable[str]) -> Instancer | list[str]:
    if isinstance(addresses, Instancer):
        return addresses
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError("give the address of the server, such as 'shop.example:50051'")
    return [check_address(address) for address in given]


def _chosen(services: Sequence[ServiceDescriptor], wanted: str) -> ServiceDescriptor:
    known = {service.full_name: service for service in services}
    if wanted in known:
        return known[wanted]
    listed = ", ".join(known) or "none"
    if wanted:
        raise ValueError(f"the server has no service {wanted!r}; it has {listed}")
    if len(known) != 1:
        raise ValueError(f"name one of its services with --service: {listed}")
    return services[0]


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
    checked = _checked(addresses)
    if options.proto:
        from kitmsg_gateways.grpc.load import load

        protos = load(options.proto, options.proto_path)
    else:
        protos = await _reflected(name, checked, options)
    return Upstream.of_protos(protos, checked, name=name, options=options)


async def _reflected(
    name: str, addresses: Instancer | list[str], options: UpstreamOptions
) -> Protos:
    import grpc.aio

    from kitmsg_gateways.grpc.status import read_status
    from kitmsg_gateways.grpc.upstream.client import Channels
    from kitmsg_gateways.grpc.upstream.reflect import reflect

    channels = Channels(options)
    try:
        channel = await RoundRobin(name, addresses).through(channels.ready)
        return await reflect(channel, options.timeout)
    except grpc.aio.AioRpcError as exc:
        told = read_status(exc.code().value[0], exc.details() or "", ())
        raise told.error from exc
    finally:
        await channels.close()
