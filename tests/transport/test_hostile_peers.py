"""A hostile peer on the bus gets nobody to publish where it likes, and forges no answer."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import DataLoss
from kitmsg.message import Message, encode_headers
from kitmsg.transport.opening import open_stream
from kitmsg.wire import SECRET_CHARS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Handler
    from kitmsg.bus.embedded import EmbeddedServer

VICTIM = "$JS.API.STREAM.DELETE.LEDGER"

FORMS = [
    {},
    {"Kit-Timeout": "1000"},
    {"Kit-Timeout": "soon"},
    {"Kit-Stream": "open"},
    {"Kit-Stream": "beat"},
    {"Kit-Body": VICTIM, "Kit-Body-Bytes": "5"},
    {"Kit-Body": VICTIM, "Kit-Body-Bytes": "999999999999"},
    {"Kit-Body": "_INBOX.x.s.1", "Kit-Body-Bytes": "5"},
]


class Bazaar(Service):
    """Has an endpoint of each kind."""

    @endpoint
    async def plain(self, name: str) -> str:
        """Return it."""
        return name

    @endpoint(wire="gokit")
    async def old(self, name: str) -> str:
        """Return it, as Go kit would."""
        return name

    @endpoint
    async def watch(self) -> AsyncIterator[int]:
        """Give items."""
        yield 1

    @endpoint
    async def total(self, items: AsyncIterator[int]) -> int:
        """Take items."""
        return sum([item async for item in items])

    @endpoint
    async def slow(self, name: str) -> str:
        """Return it after a while."""
        await asyncio.sleep(0.05)
        return name


class Listening(NatsBus):
    """A connection that tells what it is subscribed to."""

    patterns: list[str]

    def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Any:
        """Note the subject."""
        self.patterns = [*getattr(self, "patterns", ()), subject]
        return super().subscribe(subject, handler, queue)


@pytest.fixture
async def mallory(nats_server: EmbeddedServer) -> AsyncIterator[NatsBus]:
    """A connection of somebody hostile, and a stream on the server."""
    bus = await NatsBus.connect(nats_server.url)
    jetstream: Any = bus.client.jetstream()
    await jetstream.add_stream(name="LEDGER", subjects=["ledger.>"])
    yield bus
    await jetstream.delete_stream("LEDGER")
    await bus.close()


async def is_there(bus: NatsBus) -> bool:
    """Tell whether the stream still exists."""
    jetstream: Any = bus.client.jetstream()
    info = await jetstream.stream_info("LEDGER")
    return bool(info.config.name == "LEDGER")


def subjects_of(pattern: str) -> list[str]:
    """Return subjects that a subscription to `pattern` gets."""
    ends = ["bazaar.plain", "bazaar.watch", "bazaar.nothing"]
    if pattern.endswith(">"):
        return [pattern[:-1] + end for end in ends]
    return [pattern.replace("*", "kit_nobody")]


async def test_no_subject_of_a_service_answers_where_a_stranger_says(
    nats_server: EmbeddedServer, mallory: NatsBus
) -> None:
    """Each that it listens on, in each form; the stream that would be deleted is there."""
    bus = await Listening.connect(nats_server.url)
    assert isinstance(bus, Listening)
    kit = Kit(bus)
    await kit.serve(Bazaar())
    assert await kit.client(Bazaar).plain("Ann") == "Ann"
    assert [one async for one in kit.client(Bazaar).watch()] == [1]
    heard: list[Message] = []
    mallory.subscribe(VICTIM, heard.append)
    mallory.subscribe("victim.>", heard.append)
    await mallory.flush()
    sent = 0
    for pattern in bus.patterns:
        for subject in subjects_of(pattern):
            for form in FORMS:
                for reply in (VICTIM, "victim.a"):
                    mallory.publish(subject, b"", reply, encode_headers(form))
                    sent += 1
    await mallory.flush()
    for _ in range(3):
        await bus.flush()
        await mallory.flush()
    assert heard == []
    assert await is_there(mallory)
    # All but those without a reply of their own: cancels, and presence.
    assert sent / 2 < bus.stats.refused <= sent
    assert await kit.client(Bazaar).plain("Ann") == "Ann"
    await kit.close()


@pytest.mark.parametrize("size", ["5", "999999999999"])
async def test_a_long_reply_is_fetched_from_an_inbox_only(
    nats_bus: NatsBus, mallory: NatsBus, size: str
) -> None:
    """Else whoever is called publishes with the rights of its callers."""
    block = encode_headers({"Kit-Body": VICTIM, "Kit-Body-Bytes": size})
    mallory.subscribe("mallory.help", lambda m: mallory.respond(m, b"", block))
    await mallory.flush()
    with pytest.raises(DataLoss, match="Kit-Body must name an inbox"):
        await Kit(nats_bus).call("mallory.help")
    assert nats_bus.stats.refused == 1
    assert await is_there(mallory)


async def test_a_stream_has_an_inbox_at_its_other_end(
    nats_bus: NatsBus, mallory: NatsBus
) -> None:
    """Its beats, credits and items would go to any subject otherwise."""
    block = encode_headers({"Kit-Stream": "open", "Kit-Credit": "16"})
    mallory.subscribe(
        "mallory.help", lambda m: mallory.publish(m.reply, b"", VICTIM, block)
    )
    await mallory.flush()
    with pytest.raises(DataLoss, match="no inbox"):
        await open_stream(nats_bus, "mallory.help", b"")
    assert nats_bus.stats.refused == 1
    assert await is_there(mallory)


async def test_a_stream_that_is_over_tells_nobody_elsewhere(
    nats_bus: NatsBus, mallory: NatsBus
) -> None:
    """What comes late to a stream's inbox is answered with `cancel`, to inboxes."""
    asked: list[Message] = []
    mallory.subscribe("mallory.help", asked.append)
    await mallory.flush()
    with pytest.raises(Exception, match="nobody took"):
        await open_stream(nats_bus, "mallory.help", b"", open_timeout=0.05)
    beat = encode_headers({"Kit-Stream": "beat"})
    mallory.publish(asked[0].reply, b"", VICTIM, beat)
    await mallory.flush()
    await nats_bus.flush()
    assert nats_bus.stats.refused == 1
    assert await is_there(mallory)


async def test_who_was_asked_once_cannot_answer_for_others(
    nats_server: EmbeddedServer, nats_bus: NatsBus, mallory: NatsBus
) -> None:
    """It knows the caller's inbox and its clock; that is not enough to forge a reply."""
    asked: list[Message] = []

    def answer(message: Message) -> None:
        asked.append(message)
        mallory.respond(message, b'"me"')

    mallory.subscribe("mallory.help", answer)
    await mallory.flush()
    service = Kit(await NatsBus.connect(nats_server.url))
    await service.serve(Bazaar())
    kit = Kit(nats_bus)
    assert await kit.call("mallory.help") == "me"
    shop = kit.client(Bazaar)
    calls = [asyncio.create_task(shop.slow(f"{n}")) for n in range(40)]
    await asyncio.sleep(0)
    inbox, _, last = asked[0].reply.rpartition(".")
    number, _, secret = last.partition("-")
    for step in range(20_000):
        token = (((int(number) >> 16) + step % 200) << 16) + step // 200
        mallory.publish(f"{inbox}.{token}", b'"forged"')
        mallory.publish(f"{inbox}.{token}-{secret}", b'"forged"')
    await mallory.flush()
    assert await asyncio.gather(*calls) == [f"{n}" for n in range(40)]
    assert nats_bus.stats.late_replies >= 40_000
    await service.close()


async def test_an_ask_is_taken_back_by_its_own_token(
    nats_server: EmbeddedServer, nats_bus: NatsBus
) -> None:
    """Its clock, with no random part or with half of one, cancels nothing."""
    replies: list[str] = []
    shop = Kit(await NatsBus.connect(nats_server.url))
    host = await shop.serve(Bazaar())
    spy = await NatsBus.connect(nats_server.url)
    spy.subscribe("bazaar.slow", lambda message: replies.append(message.reply))
    await spy.flush()
    client = Kit(nats_bus).client(Bazaar)
    calls = [asyncio.create_task(client.slow("x")) for _ in range(2)]
    while len(replies) < 2:
        await asyncio.sleep(0.001)
    (inbox, one), (_, two) = (reply.rsplit(".", 1) for reply in replies)
    numbers, secrets = zip(one.split("-", 1), two.split("-", 1), strict=True)
    for forged in (
        numbers[0],
        f"{numbers[0]}-{secrets[0][:6]}{secrets[1][6:]}",
        f"{numbers[1]}-",
        "*",
        ">",
    ):
        spy.publish("_kit.cancel.bazaar", f"{inbox}.{forged}".encode())
    assert await asyncio.gather(*calls) == ["x", "x"]
    assert len({*secrets}) == 2
    assert all(re.fullmatch(r"[\w-]{12}", secret) for secret in secrets)
    assert host is not None
    await spy.close()
    await shop.close()


async def test_inboxes_of_streams_cannot_be_guessed(nats_bus: NatsBus) -> None:
    """Neither can those of long bodies: they are the same inbox."""
    from kitmsg.transport.inbox import inbox_of

    inbox = inbox_of(nats_bus)
    ends = [inbox.next_subject()[-SECRET_CHARS:] for _ in range(100)]
    assert len({*ends}) == 100
    assert {len(inbox.next_subject().split("-", 1)[1]) for _ in range(10)} == {12}
