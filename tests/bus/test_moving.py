"""A server that is about to stop is left without a gap, and nothing comes twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.moving import Overlap
from kitmsg.bus.nats import NatsBus
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.message import Message


def server_of(ours: int, *others: int) -> EmbeddedServer:
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in others)
    cluster = f'name: c, listen: "127.0.0.1:{ours}", routes: [{routes}]'
    return EmbeddedServer(jetstream=False, config=f"cluster {{ {cluster} }}")


@pytest.fixture
def cluster() -> Iterator[list[EmbeddedServer]]:
    """Two servers that know each other."""
    one, two = free_port(), free_port()
    with server_of(one, two) as first, server_of(two, one) as second:
        yield [first, second]


def port(bus: NatsBus) -> int | None:
    url = bus.client.connected_url
    return url.port if url else None


async def until_known(bus: NatsBus) -> None:
    """Wait until the cluster has told of its other server."""
    while len(bus.client.servers) < 2:  # nats-py tells nobody
        await asyncio.sleep(0.01)


async def test_leaves_a_lame_duck(cluster: list[EmbeddedServer]) -> None:
    """A server that is about to stop is left for another one of the pool."""
    bus = await NatsBus.connect(cluster[0].url)
    await until_known(bus)
    os.kill(cluster[0].pid, signal.SIGUSR2)
    while port(bus) != urlsplit(cluster[1].url).port:
        await asyncio.sleep(0.01)
    cluster[0].kill()
    bus.subscribe("echo", lambda m: bus.respond(m, m.data))
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    assert bus.stats.reconnects == 0
    await bus.close()


class Traffic:
    """Calls and publishes from one connection to another, counted on both sides."""

    def __init__(self, service: NatsBus, caller: NatsBus) -> None:
        self.service, self.caller = service, caller
        self.count = 0
        self.ran: dict[bytes, int] = {}
        self.told: list[int] = []
        self.is_over = False
        service.subscribe("shared", self._answer, "q")
        service.subscribe("direct", self._answer)
        service.subscribe("told", lambda m: self.told.append(int(m.data)))

    def _answer(self, message: Message) -> None:
        self.ran[message.data] = self.ran.get(message.data, 0) + 1
        self.service.respond(message, message.data)

    async def call(self, subject: str) -> None:
        while not self.is_over:
            data = b"%d" % self.count
            self.count += 1
            self.caller.publish("told", data)
            assert (await self.caller.request(subject, data, 5)).data == data

    async def until_moved(self, port_: int | None) -> None:
        """Wait until both are at `port_` and have parted from where they were."""
        for bus in (self.service, self.caller):
            while port(bus) != port_ or bus._connection._background:
                await asyncio.sleep(0.01)


async def test_no_call_fails_and_none_comes_twice(
    cluster: list[EmbeddedServer],
) -> None:
    """Through the move of both sides, and the end of the server they have left."""
    service = await NatsBus.connect(cluster[0].url)
    caller = await NatsBus.connect(cluster[0].url)
    traffic = Traffic(service, caller)
    await service.flush()
    await until_known(caller)
    await until_known(service)
    async with asyncio.TaskGroup() as group:
        for subject in ["shared", "direct"] * 4:
            group.create_task(traffic.call(subject))
        os.kill(cluster[0].pid, signal.SIGUSR2)
        await traffic.until_moved(urlsplit(cluster[1].url).port)
        cluster[0].kill()
        before = traffic.count
        while traffic.count < before + 100:
            await asyncio.sleep(0.01)
        traffic.is_over = True
    await caller.flush()
    await service.flush()
    assert set(traffic.ran.values()) == {1}
    assert len(traffic.ran) == traffic.count
    assert traffic.told == list(range(traffic.count))
    assert (caller.stats.reconnects, service.stats.reconnects) == (0, 0)
    await caller.close()
    await service.close()


async def test_a_second_lame_duck_at_once_costs_nothing() -> None:
    """The server that was moved to is upgraded too, before the first one has been left."""
    ports = [free_port() for _ in range(3)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(server_of(one, *(p for p in ports if p != one)))
            for one in ports
        ]
        by_port = {urlsplit(server.url).port: server for server in servers}
        service = await NatsBus.connect(servers[0].url)
        caller = await NatsBus.connect(servers[0].url)
        traffic = Traffic(service, caller)
        await service.flush()
        for bus in (service, caller):
            while len(bus.client.servers) < 3:
                await asyncio.sleep(0.01)
        async with asyncio.TaskGroup() as group:
            for subject in ["shared", "direct"] * 4:
                group.create_task(traffic.call(subject))
            os.kill(servers[0].pid, signal.SIGUSR2)
            # A server tells nothing of its end to a connection whose handshake goes on.
            while urlsplit(servers[0].url).port in (port(service), port(caller)):
                await asyncio.sleep(0.001)
            second = by_port[port(service)]
            os.kill(second.pid, signal.SIGUSR2)
            gone = {urlsplit(server.url).port for server in (servers[0], second)}
            while {port(service), port(caller)} & gone:
                await asyncio.sleep(0.01)
            before = traffic.count
            while traffic.count < before + 100:
                await asyncio.sleep(0.01)
            traffic.is_over = True
        assert set(traffic.ran.values()) == {1}
        assert sorted(traffic.told) == sorted(set(traffic.told))
        await service.close()
        await caller.close()


async def test_subscriptions_made_and_ended_meanwhile_are_right(
    cluster: list[EmbeddedServer],
) -> None:
    """The new server knows exactly those that there are."""
    bus = await NatsBus.connect(cluster[0].url)
    await until_known(bus)
    seen: list[bytes] = []
    old = bus.subscribe("old", lambda m: seen.append(m.data))
    os.kill(cluster[0].pid, signal.SIGUSR2)
    number = 0
    while port(bus) != urlsplit(cluster[1].url).port:
        bus.subscribe(f"new.{number}", lambda m: seen.append(m.data))
        number += 1
        if number == 1:
            old.unsubscribe()
        await asyncio.sleep(0.001)
    assert number  # it was not there at once
    for i in range(number):
        bus.publish(f"new.{i}", b"%d" % i)
    bus.publish("old", b"old")
    await bus.flush()
    assert seen == [b"%d" % i for i in range(number)]
    await bus.close()


async def test_where_no_other_server_can_be_reached_it_stays(
    cluster: list[EmbeddedServer],
) -> None:
    """Until it is cut; then it connects to whatever is there."""
    bus = await NatsBus.connect(cluster[0].url)
    await until_known(bus)
    cluster[1].kill()
    bus.subscribe("echo", lambda m: bus.respond(m, m.data))
    down = asyncio.Event()
    back = asyncio.Event()
    bus.watch(lambda up: back.set() if up else down.set())
    os.kill(cluster[0].pid, signal.SIGUSR2)
    await down.wait()
    cluster[0].restart()
    await back.wait()
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    await bus.close()


@pytest.mark.parametrize("seed", range(20))
def test_each_message_is_handed_over_once_and_in_order(seed: int) -> None:
    """However two links that both bring all of them are interleaved."""
    chance = random.Random(seed)
    sent = [b"%d" % chance.randrange(5) for _ in range(50)]  # equal ones among them
    seen: list[bytes] = []
    overlap = Overlap(lambda *message: seen.append(message[4]), ())
    old, new = list(sent), list(sent)
    while old or new:
        if new and (not old or chance.random() < 0.5):
            overlap.new(1, b"s", b"", b"", new.pop(0))
        else:
            overlap.old(1, b"s", b"", b"", old.pop(0))
    assert seen == sent


def test_equal_messages_of_a_queue_group_are_not_copies() -> None:
    """Each of them comes on one link only."""
    seen: list[int] = []
    overlap = Overlap(lambda *message: seen.append(message[0]), {7})
    overlap.old(7, b"s", b"", b"", b"x")
    overlap.new(7, b"s", b"", b"", b"x")
    assert seen == [7, 7]
