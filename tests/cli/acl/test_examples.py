"""Every example works with exactly the rights that ``kitmsg acl`` gives it."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest

import kitmsg
import kitmsg_gateways.http
from examples.addsvc.service import AddService
from examples.greeter import Greeter
from examples.orders import Customer, Inventory, Line, NewOrder, Orders
from examples.ticker import Ticker
from kitmsg.answers import ANSWERS
from kitmsg.balance import direct, split, sticky, version
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.discovery.bus import BusSource
from kitmsg.discovery.subject import find_services
from kitmsg.errors import BusDenied, NoResponders, PermissionDenied
from kitmsg.jetstream import Bucket
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.leases import LIMITS
from kitmsg.transport.opening import open_stream
from kitmsg.wire import IDEMPOTENCY_KEY
from kitmsg_gateways.http import GatewayOptions
from tests.cli.acl.users import (
    CLASSES,
    USERS,
    Blob,
    Kept,
    configured,
    connected,
    working,
)

ORDER = NewOrder(Customer("Ann"), [Line("teapot", 2)])


async def test_every_example_works_with_exactly_these(server, caplog):
    """Each service as its own user; nested calls, errors, hints, streams, cancels."""
    async with (
        working(server, AddService, Greeter, Inventory, Orders, Ticker),
        connected(server, "client") as kit,
    ):
        assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"
        assert await kit.client(AddService).sum(1, 2) == 3
        assert (await kit.client(Orders).place(ORDER)).items == 2
        found = [tick async for tick in kit.client(Ticker).watch("tea", 3)]
        assert len(found) == 3
        with pytest.raises(kitmsg.KitError):
            await kit.client(AddService).sum(0, 0)
        lantern = NewOrder(Customer("Cid"), [Line("lantern", 1)])
        waiting = asyncio.create_task(kit.client(Orders).place(lantern))
        await kit.bus.flush()
        waiting.cancel()
        await asyncio.wait([waiting])
        infos = await find_services(kit.bus, "greeter")
        one = kit.client(Greeter, instance=infos[0].id)
        assert await one.hello("Bob") == "Hello, Bob!"
    assert "ermission" not in caplog.text


async def test_routes_follow_the_instances_of_what_they_call(server, caplog):
    """Each kind of route, for a client and for a service that calls another."""
    async with (
        working(server, Greeter, Greeter),
        connected(server, "client") as kit,
        connected(server, "kept") as kept,
    ):
        for each in (kit, kept):
            for route in (direct(), sticky("name"), version(">=0"), split({">=0": 1})):
                greeter = each.client(Greeter, route=route)
                assert await greeter.hello("Ann") == "Hello, Ann!"
            answers = [a async for a in each.everyone(Greeter).hello("Bob")]
            assert [a.result() for a in answers] == ["Hello, Bob!"] * 2
    assert "ermission" not in caplog.text


async def test_a_gateway_goes_by_its_rules(server, caplog):
    """As the user of gateways, which finds instances and calls each."""
    async with (
        working(server, Greeter, Greeter),
        connected(server, "gateway") as kit,
    ):
        rules = ("greeter=version:@x-kit-version", "direct")
        options = GatewayOptions(port=0, route=rules)
        gateway = await kitmsg_gateways.http.serve(kit, options)
        try:
            async with aiohttp.ClientSession(gateway.url) as session:
                for headers in ({}, {"X-Kit-Version": ">=0"}):
                    for _ in range(4):
                        async with session.get("/hello/Ann", headers=headers) as answer:
                            assert await answer.json() == "Hello, Ann!"
        finally:
            await gateway.stop()
    assert "ermission" not in caplog.text


async def test_a_route_drops_an_instance_that_left(server, caplog):
    """Its notice is heard, and it is asked itself."""
    async with (
        working(server, Greeter),
        connected(server, "client") as kit,
        contextlib.aclosing(
            BusSource(kit.bus, "greeter", interval=60.0).sets()
        ) as sets,
    ):
        assert len(await anext(sets)) == 1
        async with working(server, Greeter):
            while len(await anext(sets)) != 2:
                pass
        while len(await anext(sets)) != 1:
            pass
    assert "ermission" not in caplog.text


async def test_middlewares_keep_what_a_fleet_shares(server, caplog):
    """In buckets that the operator makes; the second call waits for the first."""
    async with kitmsg.connect(server.url, user="admin", password="admin") as admin:
        for name in (ANSWERS, LIMITS):
            await jetstream_of(admin.bus).key_value(name, Bucket(storage="memory"))
    async with (
        working(server, Kept, Kept),
        connected(server, "client") as kit,
    ):
        pay = [
            kit.client(Kept, metadata={IDEMPOTENCY_KEY: "k1"}).pay(20) for _ in range(4)
        ]
        first = await asyncio.gather(*pay)
        assert len(set(first)) == 1
        async with connected(server, "worker") as worker:
            limits = await jetstream_of(worker.bus).key_value(LIMITS)
            assert (await limits.get("kept")).value
    assert "ermission" not in caplog.text


async def test_a_bucket_is_not_made_by_a_service():
    """A stream hears whatever subjects its maker names; the error says what to do."""
    users = [USERS["kept"], USERS["client"]]
    async with (
        EmbeddedServer(config=configured(users)) as server,
        working(server, Kept),
        connected(server, "kept") as kit,
    ):
        with pytest.raises(PermissionDenied, match="make it as another user before"):
            await jetstream_of(kit.bus).key_value(ANSWERS, Bucket())
        for subject in ("STREAM.CREATE.KV_x", f"CONSUMER.CREATE.KV_{ANSWERS}.x"):
            with pytest.raises(BusDenied):
                await kit.bus.request(f"$JS.API.{subject}", b"{}", 5.0)


async def test_a_wrong_name_and_a_call_that_is_given_up(server, caplog):
    """A caller lacks nothing for hints and cancels."""
    async with working(server, Greeter), connected(server, "client") as kit:
        with pytest.raises(BusDenied, match=r"may not send to 'greeter\.helo'"):
            await kit.call("greeter.helo", name="Ann")
        waiting = asyncio.create_task(kit.client(Greeter).hello("Ann"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await kit.bus.flush()
        assert await kit.client(Greeter).hello("Bob") == "Hello, Bob!"
    denied = [text for text in caplog.messages if "ermission" in text]
    assert [text for text in denied if "greeter.helo" not in text] == []


async def test_nobody_there_is_said_with_a_hint(server, caplog):
    """By INFO, which every caller may ask for."""
    async with working(server, Inventory), connected(server, "client") as kit:
        with pytest.raises(NoResponders, match="no responders for 'greeter.hello'"):
            await kit.client(Greeter).hello("Ann")
    assert "ermission" not in caplog.text


async def test_one_worker_may_serve_them_all(server, caplog):
    """On one connection, as the user ``worker``."""
    async with (
        connected(server, "worker") as worker,
        connected(server, "client") as kit,
    ):
        for cls in CLASSES:
            await worker.serve(cls)
        assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"
        assert (await kit.client(Orders).place(ORDER)).items == 2
    assert "ermission" not in caplog.text


async def test_long_payloads_go_by_the_right_to_answer(server, caplog):
    """Either way, and for the request of a stream: nobody publishes to others' inboxes."""
    long = b"x" * (3 << 20)
    async with working(server, Blob), connected(server, "client") as kit:
        blob = kit.client(Blob)
        assert await blob.size(long) == len(long)
        assert await blob.make(len(long)) == long
        assert [item async for item in blob.chunks(long)] == [len(long), 2]
    assert "ermission" not in caplog.text


@pytest.mark.parametrize("pause", [0.05, 0.1, 0.3], ids=["busy", "steady", "slow"])
async def test_a_stream_keeps_its_right_to_answer(pause: float) -> None:
    """Its heartbeats renew it, whether they stand alone or between items."""
    users = [USERS["blob"], USERS["client"]]
    config = configured(users, **{'expires: "60s"': 'expires: "2s"'})
    async with (
        EmbeddedServer(jetstream=False, config=config) as server,
        working(server, Blob),
        connected(server, "client") as kit,
    ):
        stream = await open_stream(kit.bus, "blob.echo", b"{}", heartbeat=0.1)
        end = (
            asyncio.get_running_loop().time() + 5
        )  # twice as long as the right, and more
        while asyncio.get_running_loop().time() < end:
            await stream.send(b"1")
            item = await anext(stream)
            assert item.data == b"1"
            await asyncio.sleep(pause)
        await stream.finish()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
