"""``kitmsg acl``: users with exactly the rights that are needed, on real servers."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator  # noqa: TC003  # of an endpoint
from typing import TYPE_CHECKING, Any

import aiohttp
import nkeys
import pytest

import kitmsg
import kitmsg_gateways.http
from examples.addsvc.service import AddService
from examples.greeter import Greeter
from examples.orders import Customer, Inventory, Line, NewOrder, Orders
from examples.ticker import Ticker
from kitmsg import Service, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.cli.acl import claims_of, server_config, users_of
from kitmsg.cli.app import main
from kitmsg.discovery.subject import find_services, find_stats, ping_services
from kitmsg.errors import BusDenied, NoResponders
from kitmsg.message import matches
from kitmsg.transport.opening import open_stream
from kitmsg_gateways.http import GatewayOptions

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


CLASSES: list[Any] = [AddService, Greeter, Inventory, Orders, Ticker, Blob]
USERS = {user.name: user for user in users_of(CLASSES, [], [])}


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


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server with the users of all examples, and nothing else."""
    with EmbeddedServer(config=configured(list(USERS.values()))) as made:
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


async def test_a_busy_stream_keeps_its_right_to_answer():
    """Its heartbeats renew it, however busy both sides are."""
    users = [USERS["blob"], USERS["client"]]
    config = configured(users, **{'expires: "60s"': 'expires: "1s"'})
    async with (
        EmbeddedServer(jetstream=False, config=config) as server,
        working(server, Blob),
        connected(server, "client") as kit,
    ):
        stream = await open_stream(kit.bus, "blob.echo", b"{}", heartbeat=0.1)
        for number in range(50):
            await stream.send(b"%d" % number)
            item = await anext(stream)
            assert item.data == b"%d" % number
            await asyncio.sleep(0.05)  # two and a half times as long as the right lasts
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
    """What may be done, and what may not, is the same as with the configuration."""
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
