"""A bus whose servers DNS names."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.discovery.pool import connect_bus
from kitmsg.errors import InvalidArgument, Unavailable
from tests.discovery.systems.knot import Knot

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def knot() -> Iterator[Knot]:
    server = Knot()
    server.set("here", "@ 1 A 127.0.0.1")
    yield server
    server.program.kill()


def address(knot: Knot, name: str, user: str = "") -> str:
    where = f"resolver=127.0.0.1:{knot.port}&min_ttl=0.1&max_ttl=0.1"
    return f"srv://{user}_nats._tcp.{name}.x.test?{where}"


async def name(knot: Knot, service: str, *servers: EmbeddedServer) -> None:
    ports = [server.url.rpartition(":")[2] for server in servers]
    records = "\n".join(f"@ 1 SRV 1 1 {port} here.x.test." for port in ports)
    await asyncio.to_thread(knot.set, f"_nats._tcp.{service}", records)


async def test_a_kit_is_connected_to_a_server_that_dns_names(
    knot: Knot, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedServer() as server:
        await name(knot, "one", server)
        async with kitmsg.connect(address(knot, "one")) as kit:
            assert kit.bus.is_connected
        monkeypatch.setenv("NATS_URL", address(knot, "one"))
        async with kitmsg.connect() as kit:
            assert kit.bus.is_connected
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("watch ")]


async def test_the_pool_follows_dns(knot: Knot) -> None:
    async with EmbeddedServer() as old, EmbeddedServer() as new:
        await name(knot, "moving", old)
        bus = await connect_bus(address(knot, "moving"))
        await name(knot, "moving", new)
        old.kill()
        async with asyncio.timeout(20):
            while not bus.is_connected or bus.stats.reconnects == 0:
                await asyncio.sleep(0.02)
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        bus.subscribe("tea", lambda message: got.set_result(message.data))
        bus.publish("tea", b"green")
        assert await got == b"green"
        await bus.close()


async def test_a_user_in_the_address_is_the_bus_s(knot: Knot) -> None:
    users = 'authorization { user: ann, password: "p@ss" }'
    async with EmbeddedServer(config=users) as server:
        await name(knot, "users", server)
        bus = await connect_bus(address(knot, "users", "ann:p%40ss@"))
        assert bus.is_connected
        await bus.close()


async def test_a_name_without_servers_is_unavailable_or_waited_for(knot: Knot) -> None:
    with pytest.raises(Unavailable, match=r"there is no name _nats\._tcp\.later"):
        await connect_bus(address(knot, "later"))
    waiting = asyncio.create_task(connect_bus(address(knot, "later"), wait=True))
    async with EmbeddedServer() as server:
        await name(knot, "later", server)
        bus = await waiting
        assert bus.is_connected
        await bus.close()


@pytest.mark.parametrize(
    ("servers", "sentence"),
    [
        ("srv://a?tll=3", "no option 'tll' here"),
        (["srv://a", "nats://b"], "an address of discovery stands alone"),
        ("nats://a,srv://b", "an address of discovery stands alone"),
        ("http://a", "begin with nats:// or tls://"),
    ],
)
async def test_a_wrong_address_is_an_invalid_argument(
    servers: str, sentence: str
) -> None:
    with pytest.raises(InvalidArgument, match=".") as failed:
        await connect_bus(servers)
    assert sentence in str(failed.value)
