"""The server of an upstream's call is picked as the options say, over every protocol."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.balance import consistent_hash
from kitmsg.bus.memory import MemoryBus
from kitmsg_gateways import grpc, http, thrift
from kitmsg_gateways.grpc.upstream import Upstream as GrpcUpstream
from kitmsg_gateways.http.upstream import Upstream as HttpUpstream
from kitmsg_gateways.thrift.upstream import Upstream as ThriftUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KINDS = {
    "http": (http, HttpUpstream),
    "grpc": (grpc, GrpcUpstream),
    "thrift": (thrift, ThriftUpstream),
}


class Where(Service):
    """Says which server answers."""

    here = ""

    @endpoint
    async def get(self, id: str) -> str:  # noqa: A002  it is a field's name
        """Return the server."""
        return self.here


@pytest.fixture
def anyio_backend() -> str:
    """Run on plain asyncio, as gRPC's core wants."""
    return "asyncio"


@contextlib.asynccontextmanager
async def servers(module: Any) -> AsyncIterator[list[str]]:
    """Give the addresses of three servers, which are no instances of one service."""
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for name in "abc":
            kit = await stack.enter_async_context(Kit(MemoryBus()))
            await kit.serve(type("Where", (Where,), {"here": name, "name": "where"}))
            options = module.GatewayOptions(host="127.0.0.1", port=0, drain_timeout=0.1)
            gateway = await module.serve(kit, options)
            stack.push_async_callback(gateway.stop)
            found.append(gateway.url if module is http else gateway.address)
        yield found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [True, False])
async def test_the_same_field_goes_to_the_same_server(kind: str, given: bool) -> None:
    """By the options, as of the command line, or by arguments."""
    module: Any
    made: Any
    module, made = KINDS[kind]
    options = made.OPTIONS(pick="p2c" if given else "ring:id")
    arguments = {"pick": consistent_hash(), "key": "id"} if given else {}
    async with (
        servers(module) as addresses,
        made(addresses, Where, options=options, **arguments) as upstream,
    ):
        client = upstream.client(Where)
        ids = [f"A{number}" for number in range(12)]
        first = [await client.get(each) for each in ids]
        assert first == [await client.get(each) for each in ids]
        assert len(set(first)) > 1


@pytest.mark.parametrize("kind", KINDS)
async def test_servers_take_turns(kind: str) -> None:
    """With round robin."""
    module: Any
    made: Any
    module, made = KINDS[kind]
    options = made.OPTIONS(pick="roundrobin")
    async with (
        servers(module) as addresses,
        made(addresses, Where, options=options) as upstream,
    ):
        client = upstream.client(Where)
        calls = Counter([await client.get("1") for _ in range(9)])
    assert calls == {"a": 3, "b": 3, "c": 3}


def test_what_is_no_picker_is_one_sentence() -> None:
    """Before anything is connected."""
    with pytest.raises(
        ValueError, match="pick: 'p3c' in 'p3c' is no picker; write p2c"
    ):
        HttpUpstream.OPTIONS(pick="p3c")
