"""A remote Thrift service as a service: its methods are endpoints on the bus, or in process.

    options.py  `UpstreamOptions`: the IDL, limits, times, certificates
    offer.py    what an IDL offers, as endpoints with schemas
    method.py   one method: its calls and answers
    client.py   the pool of connections

::

    adder = Upstream("localhost:9090", load("addsvc.thrift"), name="addsvc")

    await kit.serve(adder)                                        # on the bus
    await adder.endpoint("sum")(current(), {"a": 1, "b": 2})      # or without a bus

Needs the extra ``thrift`` (thriftpy2) to read IDLs.  Thrift has no headers, so neither
deadlines nor traces reach the server; the time limit is kept here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg_gateways.thrift.protocol import Limits
from kitmsg_gateways.thrift.upstream.client import Client
from kitmsg_gateways.thrift.upstream.method import (
    RemoteMethod,
    ThriftReply,
    ThriftRequest,
)
from kitmsg_gateways.thrift.upstream.offer import Offer, offer
from kitmsg_gateways.thrift.upstream.options import UpstreamOptions, check_address
from kitmsg_gateways.upstream import (
    Hooks,
    Instancer,
    Remote,
    RoundRobin,
    Upstream as _Upstream,
    outgoing,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Middleware
    from kitmsg.errors import BusinessError
    from kitmsg_gateways.thrift.model import Idl, ServiceType

__all__ = [
    "ThriftReply",
    "ThriftRequest",
    "Upstream",
    "UpstreamOptions",
    "open_upstream",
]


class Upstream(_Upstream):
    """Endpoints that a remote Thrift service implements.

    Args:
        addresses: Where it is: ``localhost:9090``, several, or an instancer.
        idl: What it offers.
        name: Name on the bus.
        options: Limits, times, certificates, and which service of the IDL.
        hooks: Run around each call; they see `ThriftRequest` and `ThriftReply`.
        middleware: Around each call; the first is outermost.

    Raises:
        ValueError: An address, a name or a file is wrong, or there is no endpoint.
    """

    def __init__(
        self,
        addresses: Instancer | str | Iterable[str],
        idl: Idl,
        *,
        name: str,
        options: UpstreamOptions | None = None,
        hooks: Hooks[ThriftRequest, ThriftReply] | None = None,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self.options = options or UpstreamOptions()
        self._hooks = hooks or Hooks()
        self._service = _chosen(idl, self.options.service)
        limits = Limits(self.options.max_message_bytes)
        self._client = Client(name, self.options, limits)
        self._pool = RoundRobin(name, _checked(addresses), gone=self._client.forget)
        offers = _offers(name, self._service, self.options.only)
        super().__init__(
            name,
            [self._remote(each) for each in offers],
            kind="thrift",
            version=self.options.version,
            middleware=middleware,
        )

    def _remote(self, offer: Offer) -> Remote:
        prefix = f"{self._service.name}:" if self.options.multiplexed else ""
        call = self._endpoint(RemoteMethod(offer, prefix))
        return Remote(offer.declaration, self._hooks.finalized(call))

    def _endpoint(self, method: RemoteMethod) -> Endpoint[Any, Any]:
        hooks, timeout = self._hooks, self.options.timeout
        find_error = hooks.error_decoder or method.error

        async def call(ctx: Context, request: Any) -> Any:
            along = outgoing(ctx, timeout)
            sent = method.request(request)
            for before in hooks.before:
                before(ctx, sent)
            reply = await self._send(method, sent, along.timeout)
            for after in hooks.after:
                after(ctx, reply)
            error = find_error(ctx, reply)
            if error is not None:
                raise error
            return method.value(reply)

        return call

    async def _send(
        self, method: RemoteMethod, request: ThriftRequest, timeout: float
    ) -> ThriftReply:
        end = asyncio.get_running_loop().time() + timeout
        message = method.write(self._client.protocol, request)
        read = None if method.is_oneway else method.read

        async def send(address: str) -> ThriftReply:
            left = end - asyncio.get_running_loop().time()
            reply = await self._client.send(address, message, read, left)
            return reply or ThriftReply(is_failure=False, fields={})

        return await self._pool.through(send)

    async def close(self) -> None:
        """Close the connections; a later call opens them again."""
        self._client.close()


def _offers(name: str, service: ServiceType, only: Sequence[str]) -> list[Offer]:
    """Return the methods of a service that are wanted.

    Raises:
        ValueError: One that is wanted is not there.
    """
    errors: dict[str, type[BusinessError]] = {}
    found = [offer(name, method, errors) for method in service.methods.values()]
    there = {each.declaration.name for each in found}
    missing = set(only) - there
    if missing:
        raise ValueError(
            f"{service.name} has no endpoint {min(missing)!r}; it has"
            f" {', '.join(sorted(there))}"
        )
    return [each for each in found if not only or each.declaration.name in only]


def _chosen(idl: Idl, service: str) -> ServiceType:
    """Return the service of an IDL that is meant.

    Raises:
        ValueError: That is not clear.
    """
    listed = ", ".join(idl.services)
    if service:
        if service not in idl.services:
            raise ValueError(f"{idl.name} has no service {service!r}; it has {listed}")
        return idl.services[service]
    if len(idl.services) > 1:
        raise ValueError(
            f"{idl.name} has several services: choose one with --service: {listed}"
        )
    return next(iter(idl))


def _checked(addresses: Instancer | str | Iterable[str]) -> Instancer | list[str]:
    if isinstance(addresses, Instancer):
        return addresses
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError("give the address of the server, such as 'localhost:9090'")
    for address in given:
        check_address(address)
    return given


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
