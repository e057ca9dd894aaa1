"""``kitmsg acl``: users with exactly the rights that are needed, on real servers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import secrets
from collections.abc import AsyncIterator  # noqa: TC003  # of an endpoint
from typing import TYPE_CHECKING, Any

import aiohttp
import nkeys
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import kitmsg
import kitmsg_gateways.http
from examples.addsvc import explicit, gokit
from examples.addsvc.service import AddService, TwoZeroes
from examples.greeter import Greeter
from examples.orders import Customer, Inventory, Line, NewOrder, Orders
from examples.stringsvc.stringsvc1 import BasicStrings, ask, start
from examples.stringsvc.stringsvc3 import Proxying
from examples.ticker import Ticker
from kitmsg import Context, Event, Service, chain, endpoint
from kitmsg.answers import ANSWERS
from kitmsg.balance import direct, split, sticky, version
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.cli.acl import claims_of, server_config, users_of, with_events
from kitmsg.cli.app import main
from kitmsg.discovery.bus import BusSource
from kitmsg.discovery.fixed import FixedInstancer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.subject import find_services, find_stats, ping_services
from kitmsg.errors import BusDenied, KitError, NoResponders, PermissionDenied
from kitmsg.events.declared import Declared, apply, plan
from kitmsg.jetstream import Bucket
from kitmsg.jetstream.opening import jetstream_of
from kitmsg.leases import LIMITS
from kitmsg.logs.levels import LevelOrder
from kitmsg.message import matches
from kitmsg.middleware import dedupe, log, rate_limit
from kitmsg.schema import signature
from kitmsg.transport.opening import open_stream
from kitmsg.wire import IDEMPOTENCY_KEY
from kitmsg.worker.levels import LevelResponder, ask_levels
from kitmsg_gateways.http import GatewayOptions
from kitmsg_gateways.http.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.service import Kit
    from kitmsg.service.rights import Rights


class Blob(Service):
    """Takes and gives what is longer than a message, and streams."""

    @endpoint
    async def size(self, data: bytes) -> int:
        return len(data)

    @endpoint
    async def make(self, size: int) -> bytes:
        return b"x" * size

    @endpoint
    async def chunks(self, data: bytes) -> AsyncIterator[int]:
        yield len(data)
        yield 2

    @endpoint
    async def echo(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item


class Kept(Service):
    """Keeps answers, and a limit, for its fleet."""

    middleware = (chain(rate_limit(1000, shared="kept"), log()),)

    @endpoint(middleware=[dedupe()])
    async def pay(self, cents: int) -> str:
        await asyncio.sleep(cents / 100)
        return secrets.token_hex(8)


CLASSES: list[Any] = [AddService, Greeter, Inventory, Orders, Ticker, Blob, Kept]
USERS = {user.name: user for user in users_of(CLASSES, [("kept", "greeter")], [])}


def configured(users: list[Rights], **replaced: str) -> str:
    """Return a configuration in which each user's password is its name."""
    text = re.sub(
        r"user: ([\w-]+), password: \$\w+",
        r"user: \1, password: \1",
        server_config(users),
    )
    for old, new in replaced.items():
        text = text.replace(old, new)
    return text


def administered(text: str) -> str:
    """Return a configuration with one more user, ``admin``, who may do anything."""
    return text.replace(
        "users = [", "users = [\n    { user: admin, password: admin }", 1
    )


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server with the users of all examples, and nothing else."""
    config = administered(configured(list(USERS.values())))
    with EmbeddedServer(config=config) as made:
        yield made


@contextlib.asynccontextmanager
async def connected(server: EmbeddedServer, name: str) -> AsyncIterator[Kit]:
    inbox = f"_INBOX_{name}"
    async with kitmsg.connect(
        server.url, user=name, password=name, inbox_prefix=inbox
    ) as kit:
        yield kit


@contextlib.asynccontextmanager
async def working(server: EmbeddedServer, *classes: Any) -> AsyncIterator[None]:
    """Serve classes, all as the user ``worker`` or each as itself."""
    async with contextlib.AsyncExitStack() as stack:
        for cls in classes:
            kit = await stack.enter_async_context(connected(server, cls.name))
            await kit.serve(cls)
        yield


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


STRINGS = ("stringsvc", "strings1", "strings2", "strings3", "proxy")
BY_HAND = [
    "--service=addsvc=addsvc.sum,addsvc.concat",
    *(f"--service={name}={name}.uppercase,{name}.count" for name in STRINGS),
    *(f"--queue={name}=stringsvc" for name in STRINGS),
    *(f"--calls=proxy={name}" for name in STRINGS[1:4]),
    "--upstream=payments",
    "--upstream=parcels=get",
]


@pytest.fixture
def by_hand(capsys: Any) -> Iterator[EmbeddedServer]:
    """A server with the users of services that have no class."""
    config = re.sub(
        r"password: \$KITMSG_PASSWORD_(\w+)", own, printed(capsys, *BY_HAND)
    )
    with EmbeddedServer(config=config) as made:
        yield made


def own(found: re.Match[str]) -> str:
    """Return the user's name as the password."""
    return f"password: {found[1].lower()}"


async def test_services_wired_by_hand_work(by_hand, caplog, capsys):
    """Go kit's string service in its three steps, the last with instances of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def bus_of(name: str) -> Any:
            return (await stack.enter_async_context(connected(by_hand, name))).bus

        for name in STRINGS[:4]:
            intake = await start(await bus_of(name), BasicStrings(), log(), name=name)
            stack.push_async_callback(intake.drain)
        bus = await bus_of("proxy")
        instances = FixedInstancer(Instance(address=name) for name in STRINGS[1:4])
        proxying = Proxying(BasicStrings(), instances, bus)
        stack.push_async_callback(proxying.close)
        intake = await start(bus, proxying, name="proxy")
        stack.push_async_callback(intake.drain)
        client = await bus_of("client")
        for name in ("stringsvc", "proxy"):
            await ask(client, f"{name}.uppercase", '{"s":"hello"}')
            await ask(client, f"{name}.count", '{"s":"hello"}')
        denied: list[str] = []
        bus.watch_denials(denied.append)
        bus.publish("stringsvc.count", b"")
        bus.subscribe("stringsvc.count", lambda _: None, "stringsvc")
        bus.subscribe("proxy.count", lambda _: None, "q")
        await bus.flush()
        assert denied == ["stringsvc.count", "stringsvc.count", "proxy.count"]
    out = capsys.readouterr().out
    assert out.count('<- {"v":"HELLO"}') == out.count('<- {"v":5}') == 2


@pytest.mark.parametrize("wired", ["explicit", "gokit"])
async def test_addsvc_wired_in_other_ways_works(by_hand, wired, caplog):
    """With a server and a client by hand, and as Go kit's own."""
    async with (
        connected(by_hand, "addsvc") as kit,
        connected(by_hand, "client") as calls,
    ):
        method = AddService().sum
        if wired == "gokit":
            await kit.serve(gokit.make_service())
            reply = await calls.bus.request("addsvc.sum", b'{"a":1,"b":2}', 5.0)
            assert reply.data == b'{"v":3}'
        else:
            served = explicit.make_server(kit.bus, method, "addsvc.sum")
            await served.start()
            call = explicit.make_client(calls.bus, method, "addsvc.sum")
            bind = signature(method).bind
            assert await call(Context(), bind(1, 2)) == 3
            with pytest.raises(TwoZeroes):
                await call(Context(), bind(0, 0))
            await served.drain()
    assert "ermission" not in caplog.text


async def test_an_upstream_works_under_its_name(by_hand, caplog):
    """With all endpoints or with those that are named, by a gateway's user too."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(request.path)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as api, contextlib.AsyncExitStack() as stack:
        routes = {"get": "GET /of/{id}", "list": "GET /all"}
        for name in ("payments", "parcels"):
            kit = await stack.enter_async_context(connected(by_hand, name))
            given = routes if name == "payments" else {"get": routes["get"]}
            await kit.serve(Upstream(str(api.make_url("")), given, name=name))
        for user in ("client", "gateway", "cli"):
            calls = await stack.enter_async_context(connected(by_hand, user))
            assert await calls.call("payments.get", id="7") == "/of/7"
            assert await calls.call("payments.list") == "/all"
            assert await calls.call("parcels.get", id="8") == "/of/8"
            assert "ermission" not in caplog.text
            with pytest.raises(BusDenied):
                await calls.call("parcels.list")
            caplog.clear()


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


async def test_a_gateway_and_the_command_line_work(server, caplog):
    """Discovery, presence, schemas, calls and streams over HTTP; counters for the CLI."""
    async with (
        working(server, Greeter, Ticker),
        connected(server, "gateway") as kit,
        connected(server, "cli") as cli,
    ):
        gateway = await kitmsg_gateways.http.serve(kit, GatewayOptions(port=0))
        try:
            async with aiohttp.ClientSession(gateway.url) as session:
                async with session.get("/hello/Ann") as response:
                    assert await response.json() == "Hello, Ann!"
                async with session.get("/openapi.json") as response:
                    assert "/hello/{name}" in (await response.json())["paths"]
        finally:
            await gateway.stop()
        assert {each.name for each in await ping_services(cli.bus)} == {
            "greeter",
            "ticker",
        }
        assert len(await find_stats(cli.bus, "greeter")) == 1
        assert await cli.call("greeter.hello", name="Ann") == "Hello, Ann!"
    assert "ermission" not in caplog.text


class Rang(Event, subject="bells.rang.{door}"):
    """Somebody is at a door."""

    door: str


class Broke(Event, subject="bells.broke.{door}"):
    """A bell is silent."""

    door: str


class Bells(Service):
    """Has events that gateways may open."""

    publishes = (Rang, Broke)


async def test_a_gateway_publishes_and_reads_the_events_that_are_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And no others; it makes neither a stream nor a consumer."""
    users = with_events(
        users_of([Bells], [], []), [Bells], ["bells.rang", "bells.broke:read"]
    )
    (rights,) = (user for user in users if user.name == "gateway")
    assert not any("CREATE" in subject for subject in rights.publish)
    with EmbeddedServer(config=administered(configured(users))) as server:
        await _make_stream(server)
        async with working(server, Bells), connected(server, "gateway") as kit:
            options = GatewayOptions(port=0, events=("bells.rang", "bells.broke"))
            gateway = await kitmsg_gateways.http.serve(kit, options)
            try:
                await _ring(gateway.url)
            finally:
                await gateway.stop()
            assert "ermission" not in caplog.text
            async with connected(server, "gateway") as other:
                with pytest.raises(KitError, match="ermission|may not"):
                    await other.publish(Broke("front"))


async def test_a_gateway_that_may_not_read_an_event_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client gets no names of the bus; the gateway's log has what to do."""
    users = with_events(users_of([Bells], [], []), [Bells], ["bells.rang:read"])
    (subject,) = {s for u in users for s in u.subscribe if s.startswith("event.")}
    config = administered(configured(users, **{f', "{subject}"': ""}))
    with EmbeddedServer(config=config) as server:
        await _make_stream(server)
        async with working(server, Bells), connected(server, "gateway") as kit:
            options = GatewayOptions(port=0, events=("bells.rang",))
            gateway = await kitmsg_gateways.http.serve(kit, options)
            try:
                async with (
                    aiohttp.ClientSession(gateway.url) as session,
                    session.get("/events/bells.rang") as response,
                ):
                    told = await response.read()
            finally:
                await gateway.stop()
    assert b"internal" in told
    assert b"event." not in told
    assert "kitmsg acl --events" in caplog.text


async def _make_stream(server: EmbeddedServer) -> None:
    declared = Declared()
    declared.event(Rang)
    async with kitmsg.connect(server.url, user="admin", password="admin") as admin:
        await apply(admin.jetstream, await plan(admin.jetstream, declared))


async def _ring(url: str) -> None:
    """Publish an event, twice, and follow it."""
    sent = {"specversion": "1.0", "id": "1", "source": "/", "type": "bells.rang"}
    body = json.dumps({**sent, "data": {"door": "front"}})
    headers = {"Content-Type": "application/cloudevents+json"}
    async with (
        aiohttp.ClientSession(url) as session,
        session.get("/events/bells.rang?since=1") as following,
    ):
        for is_again in (False, True):
            async with session.post(
                "/events/bells.rang", data=body, headers=headers
            ) as response:
                assert await response.json() == {"sequence": 1, "duplicate": is_again}
        assert json.loads(await following.content.readline())["sequence"] == "1"
        async with session.get("/events/bells.broke?since=1&follow=false") as response:
            assert await response.read() == b""


def test_an_event_that_no_service_has(capsys):
    """The sentence has those that there are."""
    target = f"{__name__}:Bells"
    assert main(["acl", target, "--events", "bells.rung"]) == 2
    assert "there is bells.broke, bells.rang" in capsys.readouterr().err
    assert main(["acl", target, "--events", "bells.rang:read"]) == 0
    assert "event.bells.rang.*" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("user", "name"), [("greeter", "greeter"), ("gateway", "gateway.http")]
)
async def test_log_levels_are_set_with_exactly_these(server, caplog, user, name):
    """The command line gives the order; services and gateways hear it and answer."""
    async with connected(server, user) as kit, connected(server, "cli") as cli:
        responder = LevelResponder(kit.bus)
        responder.start([(name, "1")])
        await kit.bus.flush()
        (report,) = await ask_levels(cli.bus, name, LevelOrder())
        assert (report.name, report.error) == (name, "")
        responder.stop()
    assert "ermission" not in caplog.text


def some(subject: str) -> str:
    """Return a subject that a pattern matches."""
    return subject.replace("*", "zz").replace(">", "zz.zz")


def may(subject: str, allowed: tuple[str, ...]) -> bool:
    return any(matches(pattern, subject) for pattern in allowed)


PUBLISHES = sorted(
    {some(subject) for user in USERS.values() for subject in user.publish}
    | {some(s.partition(" ")[0]) for user in USERS.values() for s in user.subscribe}
    | {"$JS.API.STREAM.LIST", "$SYS.REQ.SERVER.PING", "anything", "_INBOX.zz.1"}
)
SUBSCRIBES = sorted(
    {subject for user in USERS.values() for subject in user.subscribe}
    | {s.partition(" ")[0] for user in USERS.values() for s in user.subscribe}
    | {
        f"{s.partition(' ')[0]} other"
        for u in USERS.values()
        for s in u.subscribe
        if " " in s
    }
    | {
        s
        for user in USERS.values()
        for s in user.publish
        if "*" not in s and ">" not in s
    }
    | {">", "*.*", "$SRV.>", "_kit.>", "_INBOX.>", "_INBOX_client.kit_zz.*", "_kit.i.>"}
)


def hears(user: Rights, subscribed: str) -> bool:
    """Tell whether a user may subscribe: in a queue group only where that is said."""
    subject, _, queue = subscribed.partition(" ")
    plain = [s for s in user.subscribe if " " not in s]
    grouped = [s.split(" ") for s in user.subscribe if " " in s]
    if queue and any(g == queue and covers(s, subject) for s, g in grouped):
        return True
    if queue and any(covers(s, subject) for s, _ in grouped):
        return False
    return any(covers(pattern, subject) for pattern in plain)


def covers(pattern: str, subject: str) -> bool:
    """Tell whether every subject that `subject` matches is one of `pattern`'s."""
    wide, narrow = pattern.split("."), subject.split(".")
    for at, token in enumerate(wide):
        if token == ">":
            return len(narrow) > at
        if (
            at >= len(narrow)
            or narrow[at] == ">"
            or (token != "*" and token != narrow[at])
        ):
            return False
    return len(wide) == len(narrow)


@pytest.mark.parametrize("name", USERS)
async def test_every_right_that_is_not_given_is_refused_by_the_server(server, name):
    """All that anybody may do is tried by each: what is not its own, the server denies."""
    user = USERS[name]
    async with contextlib.AsyncExitStack() as stack:
        bus = await NatsBus.connect(
            server.url, user=name, password=name, inbox_prefix=user.inbox
        )
        stack.push_async_callback(bus.close)
        denied: list[str] = []
        bus.watch_denials(denied.append)
        for subject in PUBLISHES:
            bus.publish(subject, b"")
        await bus.flush()
        wanted = [s for s in PUBLISHES if not may(s, user.publish)]
        assert sorted(denied) == sorted(s.lower() for s in wanted)
        assert any(s.startswith("_INBOX_") for s in wanted)
        denied.clear()
        for subscribed in SUBSCRIBES:
            subject, _, queue = subscribed.partition(" ")
            bus.subscribe(subject, lambda _: None, queue)
        await bus.flush()
        refused = [
            s.partition(" ")[0].lower() for s in SUBSCRIBES if not hears(user, s)
        ]
        assert sorted(denied) == sorted(refused)


async def test_nobody_answers_whom_nobody_has_asked(server):
    """The right to answer is for what was received, and ends."""
    async with connected(server, "greeter") as kit:
        denied: list[str] = []
        kit.bus.watch_denials(denied.append)
        await kit.serve(Greeter)
        async with connected(server, "client") as client:
            assert await client.client(Greeter).hello("Ann") == "Hello, Ann!"
            kit.bus.publish(f"{client.bus.inbox}1", b"forged")
            await kit.bus.flush()
            assert denied == [f"{client.bus.inbox}1".lower()]
            with pytest.raises(BusDenied):
                await client.bus.request("nobody.here", b"", 1.0)


def test_a_service_calls_those_that_its_constructor_asks_for():
    """And those that --calls names; no others."""
    orders, greeter = USERS["orders"], USERS["greeter"]
    assert "inventory.reserve" in orders.publish
    assert "greeter.hello" not in orders.publish
    assert greeter.publish == ("_kit.down.greeter", "_kit.up.greeter")
    more = users_of([Greeter, Ticker], [("greeter", "ticker")], ["keys"])
    publish = next(user.publish for user in more if user.name == "greeter")
    assert "ticker.watch" in publish
    assert "$JS.API.DIRECT.GET.KV_keys.$KV.keys.*" in publish


def printed(capsys: Any, *words: str) -> str:
    assert main(["acl", *words]) == 0
    return str(capsys.readouterr().out)


def test_buckets_are_given_by_name_too(capsys):
    """To a service, and so to the worker that serves it; or to a client."""
    words = ["--upstream=a", "--upstream=b", "--bucket=a=b1", "--bucket=client=b2"]
    claims = json.loads(printed(capsys, *words, "--format=claims"))
    writes = {
        each["name"]: [s for s in each["nats"]["pub"]["allow"] if s.startswith("$KV")]
        for each in claims
    }
    assert writes["a"] == writes["worker"] == ["$KV.b1.>"]
    assert writes["client"] == ["$KV.b2.>"]
    assert writes["b"] == writes["gateway"] == writes["cli"] == []


def test_the_command_prints_three_forms(capsys):
    """A configuration, the claims of JWTs, and nsc's commands; all with the same rights."""
    config = printed(capsys, "examples/greeter.py")
    assert "password: $KITMSG_PASSWORD_GREETER" in config
    assert "# NATS_INBOX_PREFIX=_INBOX_greeter" in config
    assert "user: worker" not in config
    claims = json.loads(printed(capsys, "examples/greeter.py", "--format", "claims"))
    greeter = next(each for each in claims if each["name"] == "greeter")
    assert greeter["nats"]["sub"]["allow"] == list(USERS["greeter"].subscribe)
    assert greeter["nats"]["resp"] == {"max": -1, "ttl": 60_000_000_000}
    nsc = printed(capsys, "examples/greeter.py", "--format", "nsc")
    assert (
        "nsc add user --name greeter --allow-pub '_kit.down.greeter,_kit.up.greeter'"
        in nsc
    )
    assert claims_of(USERS["greeter"]) == greeter
    key = "UDAIM6RESKG3MVIL4DSETBGK4XT3YHJTH3MWXFLUULWYWBJIYWGKEDEK"
    named = printed(capsys, "examples/greeter.py", "--nkey", f"greeter={key}")
    assert f"{{ nkey: {key}, permissions: {{" in named


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "no services"),
        (["examples/greeter.py", "--calls", "greeter"], "write NAME=NAME"),
        (["examples/greeter.py", "--calls", "greeter=far"], "no service 'far'"),
        (["examples/greeter.py", "--calls", "far=greeter"], "no service 'far'"),
        (["examples/greeter.py", "--nkey", "far=UX"], "no user 'far'"),
        (["examples/greeter.py", "--bucket", "far=b"], "--bucket: no user 'far'"),
        (["--service", "far"], "write NAME=SUBJECT,..."),
        (["--service", "far=far.a b"], "is not a subject"),
        (["--service", "far=$SYS.x"], "is not for services to serve"),
        (["--service", "far=>"], "is not for services to serve"),
        (["--upstream", "far", "--queue", "far=q"], "no --service 'far'"),
        (["--upstream", "far="], "write NAME or NAME=ENDPOINT,..."),
        (["--upstream", "far", "--service", "far=x"], "two services are named 'far'"),
        (["examples/greeter.py", "--nkey", "greeter=UX"], "no public key"),
    ],
)
def test_what_is_not_understood_is_a_sentence(
    words, why, capsys, tmp_path, monkeypatch
):
    """And exit code 2."""
    assert main(["acl", *words]) == 2
    assert why in capsys.readouterr().err


def nkey(kind: int) -> tuple[str, nkeys.KeyPair]:
    """Return a new key pair of a kind, and its public key, as NATS writes it."""
    pair = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))
    return pair.public_key.decode(), pair


def token(
    claims: dict[str, Any], issuer: tuple[str, nkeys.KeyPair], subject: str
) -> str:
    """Return a JWT as nsc makes it (NATS JWT v2)."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    body = {"jti": "x", "iat": 1, "iss": issuer[0], "sub": subject, **claims}
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = ".".join(part(json.dumps(each).encode()) for each in (head, body))
    return f"{text}.{part(issuer[1].sign(text.encode()))}"


def credentials(name: str, account: tuple[str, nkeys.KeyPair]) -> str:
    """Return the contents of a .creds file for a user with the claims that are printed."""
    public, pair = nkey(nkeys.PREFIX_BYTE_USER)
    jwt = token(claims_of(USERS[name]), account, public)
    return (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{pair.seed.decode()}\n"
        "------END USER NKEY SEED------\n"
    )


async def test_the_claims_hold_on_a_server_with_an_operator(tmp_path):
    """Rights given and rights refused are those of the configuration."""
    operator, account = (
        nkey(nkeys.PREFIX_BYTE_OPERATOR),
        nkey(nkeys.PREFIX_BYTE_ACCOUNT),
    )
    most = dict.fromkeys(
        ("subs", "data", "payload", "conn", "leaf", "imports", "exports"), -1
    )
    held = {"limits": {**most, "wildcards": True}, "type": "account", "version": 2}
    of_account = token({"name": "shop", "nats": held}, operator, account[0])
    own = {"type": "operator", "version": 2}
    config = (
        f"operator: {token({'name': 'op', 'nats': own}, operator, operator[0])}\n"
        f"resolver: MEMORY\nresolver_preload: {{ {account[0]}: {of_account} }}\n"
    )
    for name in ("greeter", "client"):
        (tmp_path / name).write_text(credentials(name, account))
    async with (
        EmbeddedServer(jetstream=False, config=config) as server,
        kitmsg.connect(
            server.url, creds=str(tmp_path / "greeter"), inbox_prefix="_INBOX_greeter"
        ) as worker,
        kitmsg.connect(
            server.url, creds=str(tmp_path / "client"), inbox_prefix="_INBOX_client"
        ) as kit,
    ):
        await worker.serve(Greeter)
        assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"
        denied: list[str] = []
        worker.bus.watch_denials(denied.append)
        worker.bus.publish("orders.place", b"")
        worker.bus.subscribe("orders.place", lambda _: None, "q")
        worker.bus.publish(f"{kit.bus.inbox}1", b"forged")
        await worker.bus.flush()
        assert sorted(denied) == sorted(
            ["orders.place", "orders.place", f"{kit.bus.inbox}1".lower()]
        )
