"""Rights that are not given are refused by the server."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from examples.greeter import Greeter
from examples.ticker import Ticker
from kitmsg.bus.nats import NatsBus
from kitmsg.cli.acl import users_of
from kitmsg.errors import BusDenied
from tests.cli.acl.users import USERS, connected, may, some

if TYPE_CHECKING:
    from kitmsg.service.rights import Rights


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
