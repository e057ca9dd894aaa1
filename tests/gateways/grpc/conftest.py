"""A gateway on an in-memory bus, and grpcio's own client on a loopback port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.protobuf.message_factory import GetMessageClass

import kitmsg_gateways.grpc
from kitmsg_gateways.grpc import GatewayOptions
from kitmsg_gateways.grpc.reflection import make_pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from google.protobuf.descriptor import MethodDescriptor

    import kitmsg
    from kitmsg.bus import Bus
    from kitmsg_gateways.grpc.server import GatewayServer


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run async tests on plain asyncio, those of a file on one loop."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all tests of a file, and end it when gRPC is done with it.

    What a call that was dropped leaves in gRPC's core ends some time later, on the loop
    that the call was made on; a closed one would fail whatever test runs then.
    """
    yield
    gc.collect()
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(3):  # what came before is heard of before these
            await channel.unary_unary("/no/method")(b"").code()
    await server.stop(None)


class Outside:
    """What a gRPC caller has: a gateway's address and a channel."""

    def __init__(self, server: GatewayServer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel
        self._calls: list[Any] = []

    def keep(self, call: Any) -> Any:
        """Return a call that is over when the test is, whatever comes."""
        self._calls.append(call)
        return call

    async def end(self) -> None:
        """End every call: what gRPC's core still has would end in another test's loop."""
        for call in self._calls:
            call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await call.code()

    def method(self, path: str) -> MethodDescriptor:
        """Return the descriptor of a method that is served now."""
        service, _, name = path.partition("/")
        pool = make_pool(self.server._reflection._own + self.server.table.files)
        return pool.FindServiceByName(service).methods_by_name[name]

    def stub(self, path: str) -> Any:
        """Return what calls ``package.Service/Method``, as generated stubs do."""
        method = self.method(path)
        make = {
            (False, False): self.channel.unary_unary,
            (False, True): self.channel.unary_stream,
            (True, False): self.channel.stream_unary,
            (True, True): self.channel.stream_stream,
        }[method.client_streaming, method.server_streaming]
        begin = make(
            f"/{path}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        return lambda *args, **options: self.keep(begin(*args, **options))

    def request(self, path: str, **fields: Any) -> Any:
        """Return a message that the method takes."""
        return GetMessageClass(self.method(path).input_type)(**fields)

    async def __call__(self, path: str, *, with_: Any = None, **fields: Any) -> Any:
        """Call a unary method; `with_` are options of the call."""
        return await self.stub(path)(
            self.request(path, **fields), **{"timeout": 10, **(with_ or {})}
        )

    async def failure(
        self, path: str, *, with_: Any = None, **fields: Any
    ) -> grpc.aio.AioRpcError:
        """Return what a unary call fails with."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self(path, with_=with_, **fields)
        return caught.value


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a gateway, with options, and returns an `Outside`."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(on: kitmsg.Kit | Bus, **options: Any) -> Outside:
            chosen = GatewayOptions(**{"port": 0, "drain_timeout": 0.5, **options})
            server = await kitmsg_gateways.grpc.serve(on, chosen)
            stack.push_async_callback(server.stop)
            channel = grpc.aio.insecure_channel(server.address)
            await stack.enter_async_context(channel)
            outside = Outside(server, channel)
            stack.push_async_callback(outside.end)
            return outside

        yield begin
