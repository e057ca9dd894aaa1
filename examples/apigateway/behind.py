"""The services behind: two instances of each, with a door, announced in Consul.

Each instance has a bus in memory of its own, as if it ran on another machine; its gateway
speaks gRPC for addsvc and HTTP for stringsvc.  In production this is a flag:
``kitmsg gateway grpc --register consul://127.0.0.1:8500/addsvc``.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from examples.addsvc.service import AddService
from kitmsg import Kit, Service, endpoint
from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar
from kitmsg_gateways import grpc, http


class StringService(Service):
    """Operations on strings."""

    name = "stringsvc"

    @endpoint(http="POST /uppercase", idempotent=True)
    async def uppercase(self, s: str) -> str:
        """Return `s` in capitals."""
        return s.upper()

    @endpoint(http="POST /count", idempotent=True)
    async def count(self, s: str) -> int:
        """Return the length of `s`."""
        return len(s)


def door(bus: Bus, service: type[Service]) -> grpc.GatewayServer | http.GatewayServer:
    """Return the gateway of an instance, on a free port."""
    if service is AddService:
        return grpc.GatewayServer(bus, grpc.GatewayOptions(port=0))
    return http.GatewayServer(bus, http.GatewayOptions(port=0))


@asynccontextmanager
async def instance(service: type[Service], consul: str) -> AsyncIterator[None]:
    """Serve one instance, and announce it at ``{consul}/{name of the service}``."""
    async with AsyncExitStack() as stack:
        kit = Kit(MemoryBus())
        stack.push_async_callback(kit.close)
        await kit.serve(service)
        gateway = door(kit.bus, service)
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        here = Instance(address=f"127.0.0.1:{gateway.port}", version=service.version)
        announced = registrar(f"{consul}/{service.name}", here)
        stack.push_async_callback(announced.stop)  # taken back before the door closes
        await announced.start()
        await announced.announced()
        yield


@asynccontextmanager
async def services(consul: str) -> AsyncIterator[None]:
    """Serve two instances of each service."""
    async with AsyncExitStack() as stack:
        for service in (AddService, StringService) * 2:
            await stack.enter_async_context(instance(service, consul))
        yield
