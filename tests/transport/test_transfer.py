"""Requests and replies longer than the bus carries in one message."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    DataLoss,
    DeadlineExceeded,
    Disconnected,
    Internal,
    InvalidArgument,
    KitError,
    ResourceExhausted,
)
from kitmsg.message import Message, encode_headers
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.transfer import MAX_BYTES, Fetcher, fetch, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus.embedded import EmbeddedServer


LONG = 3_000_000


class Store(Service):
    """Takes and gives bytes."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.was_cancelled = False

    @endpoint
    async def size(self, data: bytes) -> int:
        """Return the length."""
        return len(data)

    @endpoint
    async def make(self, size: int) -> bytes:
        """Return so many bytes."""
        return b"x" * size

    @endpoint
    async def turn(self, data: bytes) -> bytes:
        """Return them the other way round."""
        return data[::-1]

    @endpoint
    async def wait(self, data: bytes) -> None:
        """Take for ever."""
        self.started.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise


@pytest.fixture(params=["memory", "nats"])
async def pair(
    request: pytest.FixtureRequest, nats_server: EmbeddedServer
) -> AsyncIterator[tuple[Kit, Kit]]:
    """A client's kit and a service's, with `Store` served."""
    if request.param == "memory":
        bus = MemoryBus(seed=1)
        client, server = Kit(bus), Kit(bus)
    else:
        client = Kit(await NatsBus.connect(nats_server.url))
        server = Kit(await NatsBus.connect(nats_server.url))
    await server.serve(Store())
    yield client, server
    await server.close()
    await client.close()


async def test_long_both_ways(pair: tuple[Kit, Kit]) -> None:
    """The caller sees no difference to a short call."""
    client = pair[0].client(Store)
    data = bytes(range(256)) * (LONG // 256)
    assert await client.size(data) == len(data)
    assert await client.make(LONG) == b"x" * LONG
    assert await client.turn(data) == data[::-1]
    assert await client.size(b"short") == 5
    assert len(inbox_of(pair[0].bus)) == 0


async def test_several_at_once(pair: tuple[Kit, Kit]) -> None:
    """Transfers do not mix."""
    client = pair[0].client(Store, timeout=30)
    bodies = [bytes([i]) * (LONG + i) for i in range(6)]
    assert await asyncio.gather(*map(client.turn, bodies)) == bodies


async def test_over_the_limit(pair: tuple[Kit, Kit]) -> None:
    """64 MB is the end, on either way, and the error names it."""
    client = pair[0].client(Store)
    with pytest.raises(InvalidArgument, match=f"at most {MAX_BYTES} are"):
        await client.size(b"x" * (MAX_BYTES + 1))
    with pytest.raises(KitError, match=f"at most {MAX_BYTES} are"):
        await client.make(MAX_BYTES + 1)


async def test_a_limit_of_ones_own(memory_bus: MemoryBus) -> None:
    """A service says what it takes and gives; so does a client."""

    class Small(Store):
        name = "small"
        max_bytes = 2_000_000

    kit = Kit(memory_bus)
    await kit.serve(Small())
    client = kit.client(Small)
    assert await client.size(b"x" * 1_900_000) == 1_900_000
    with pytest.raises(InvalidArgument, match="at most 2000000 are taken"):
        await client.size(b"x" * 2_000_001)
    with pytest.raises(Internal, match="at most 2000000 are sent"):
        await client.make(2_000_001)
    with pytest.raises(InvalidArgument, match="at most 1500000 are taken"):
        await request(
            memory_bus, "small.make", b'{"size": 1200000}', 5, max_bytes=1_500_000
        )
    await kit.close()


async def test_cancelling_reaches_a_turn_with_a_long_request(
    pair: tuple[Kit, Kit],
) -> None:
    """The body has come, the turn runs, the caller gives up: the turn is cancelled."""
    store = pair[1].hosts[0].service
    assert isinstance(store, Store)
    asking = asyncio.create_task(pair[0].client(Store).wait(b"x" * LONG))
    await asyncio.wait_for(store.started.wait(), 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for _ in range(100):
        if store.was_cancelled:
            break
        await asyncio.sleep(0.01)
    assert store.was_cancelled
    assert len(inbox_of(pair[0].bus)) == 0


async def test_time_goes_on_while_a_body_travels(memory_bus: MemoryBus) -> None:
    """A body that never comes ends at the deadline, and its turn never begins."""
    kit = Kit(memory_bus)
    host = await kit.serve(Store())
    fields = {
        "Kit-Timeout": "50",
        "Kit-Body": f"{memory_bus.inbox}s.no.body",
        "Kit-Body-Bytes": "9",
    }
    memory_bus.subscribe(fields["Kit-Body"], lambda _: None)
    reply = await memory_bus.request("store.size", b"", 5, encode_headers(fields))
    assert reply.headers["Kit-Code"] == "deadline_exceeded"
    assert host.snapshots()["store.size"].processing_ns == 0
    await kit.close()


async def test_a_body_of_another_length_is_refused(memory_bus: MemoryBus) -> None:
    """The length that was said is the length that counts."""
    from kitmsg.transport.transfer import offered

    kit = Kit(memory_bus)
    await kit.serve(Store())
    for said in (5, 7):
        with offered(memory_bus, b"\x81\xa1ab") as offer:
            fields = {"Kit-Body": offer.subject, "Kit-Body-Bytes": str(said)}
            block = encode_headers(fields)
            reply = await memory_bus.request("store.size", b"", 5, block)
        assert reply.headers["Kit-Code"] == "data_loss", said
    await kit.close()


@pytest.mark.parametrize(
    ("subject", "size", "code"),
    [
        ("orders.delete", "5", "invalid_argument"),
        ("_INBOX.other.s.1", "5", "invalid_argument"),
        ("_INBOX.memory.s.none", "5", "unavailable"),
        ("_INBOX.memory.s.1", str(MAX_BYTES + 1), "invalid_argument"),
    ],
)
async def test_bodies_that_are_not_fetched(
    memory_bus: MemoryBus, subject: str, size: str, code: str
) -> None:
    """A service speaks to its caller's own inbox only, and not for too much."""
    heard: list[Message] = []
    memory_bus.subscribe("orders.delete", heard.append)
    kit = Kit(memory_bus)
    await kit.serve(Store())
    block = encode_headers({"Kit-Body": subject, "Kit-Body-Bytes": size})
    reply = await memory_bus.request("store.size", b"", 5, block)
    assert reply.headers["Kit-Code"] == code
    assert heard == []
    await kit.close()


async def test_the_budget_of_long_requests(memory_bus: MemoryBus) -> None:
    """What is being fetched and worked on counts, until nobody has it any more."""
    fetcher = Fetcher(memory_bus, budget=LONG)
    got: list[Message] = []
    refused: list[KitError] = []

    def receive(message: Message) -> None:
        fetcher.start(message, 5, got.append, lambda _, error: refused.append(error))

    memory_bus.subscribe("test.put", receive)
    ask = request(memory_bus, "test.put", b"x" * (LONG - 1), 1)
    first = asyncio.create_task(ask)
    while not got:
        await asyncio.sleep(0.01)
    second = asyncio.create_task(request(memory_bus, "test.put", b"x" * LONG, 1))
    while not refused:
        await asyncio.sleep(0.01)
    assert isinstance(refused[0], ResourceExhausted)
    got.clear()
    gc.collect()
    third = asyncio.create_task(request(memory_bus, "test.put", b"x" * (LONG - 1), 0.5))
    while not got:
        await asyncio.sleep(0.01)
    for asking in (first, second, third):
        with pytest.raises(DeadlineExceeded):
            await asking


async def test_a_reply_nobody_fetches_ends_with_its_turn(
    memory_bus: MemoryBus,
) -> None:
    """A caller that ignores the offer does not hold the turn past its deadline."""
    kit = Kit(memory_bus)
    host = await kit.serve(Store())
    block = encode_headers({"Kit-Timeout": "100"})
    reply = await memory_bus.request("store.make", b'{"size": 3000000}', 5, block)
    assert int(reply.headers["Kit-Body-Bytes"]) > LONG
    assert host.intake.mailbox.running == 1
    await asyncio.sleep(0.2)
    assert host.intake.mailbox.running == 0
    assert len(inbox_of(memory_bus)) == 0
    await kit.close()


async def test_a_reply_that_is_torn_is_data_loss(memory_bus: MemoryBus) -> None:
    """A reply whose body is not as long as it says is not taken for one."""
    from kitmsg.transport.transfer import offered

    with offered(memory_bus, b"abc") as offer:
        block = encode_headers({"Kit-Body": offer.subject, "Kit-Body-Bytes": "4"})
        memory_bus.subscribe("test.get", lambda m: memory_bus.respond(m, b"", block))
        with pytest.raises(DataLoss, match="the reply has 3 bytes"):
            await request(memory_bus, "test.get", b"", 5)


def body_at(bus: MemoryBus, inbox: str, size: int = 9, **more: str) -> bytes:
    """Return the headers of a request whose body is somewhere in an inbox."""
    fields = {"Kit-Body": f"{inbox}.s.1", "Kit-Body-Bytes": str(size), **more}
    return encode_headers(fields)


async def test_sizes_around_the_limit_of_the_bus() -> None:
    """Header and payload together decide; no length falls between the two ways."""
    bus = MemoryBus(seed=1, max_payload=4096)
    kit = Kit(bus)
    await kit.serve(Store())
    client = kit.client(Store, metadata={"X-Some": "header"})
    for size in range(3960, 4110):
        data = b"x" * size
        assert await client.turn(data) == data
    assert await client.turn(b"") == b""
    assert len(inbox_of(bus)) == 0
    await kit.close()


async def test_sixty_four_megabytes_exactly(pair: tuple[Kit, Kit]) -> None:
    """The longest there is goes, both ways; its parameters are beside it in 64 MB."""
    kit, _ = pair
    reply = await request(
        kit.bus,
        "store.size",
        b"x" * MAX_BYTES,
        30,
        encode_headers({"Content-Type": "application/octet-stream"}),
    )
    assert reply.data == b"\xce" + MAX_BYTES.to_bytes(4, "big")
    made = await kit.client(Store, timeout=30).make(MAX_BYTES - 5)  # and its length
    assert len(made) == MAX_BYTES - 5


async def test_a_bus_that_carries_little() -> None:
    """Even where a header hardly fits."""
    bus = MemoryBus(seed=1, max_payload=300)
    kit = Kit(bus)
    await kit.serve(Store())
    assert await kit.client(Store).turn(b"ab" * 1000) == b"ba" * 1000
    await kit.close()


async def test_names_of_headers_have_no_case(memory_bus: MemoryBus) -> None:
    """A client that writes ``kit-body`` has its body fetched."""
    from kitmsg.transport.transfer import offered

    kit = Kit(memory_bus)
    await kit.serve(Store())
    with offered(memory_bus, b'{"data":"YWI="}') as offer:
        fields = {
            "kit-timeout": "5000",
            "kit-body": offer.subject,
            "kit-body-bytes": "15",
        }
        reply = await memory_bus.request("store.size", b"", 5, encode_headers(fields))
    assert reply.data == b"2"
    await kit.close()


async def test_a_body_without_its_length(memory_bus: MemoryBus) -> None:
    """The caller hears that what came is longer than nothing."""
    from kitmsg.transport.transfer import offered

    kit = Kit(memory_bus)
    await kit.serve(Store())
    with offered(memory_bus, b"abc") as offer:
        block = encode_headers({"Kit-Body": offer.subject})
        reply = await memory_bus.request("store.size", b"", 5, block)
    assert reply.headers["Kit-Code"] == "data_loss"
    await kit.close()


async def test_long_requests_with_one_reply_subject(memory_bus: MemoryBus) -> None:
    """The second is refused, and the budget is whole afterwards."""
    fetcher = Fetcher(memory_bus, budget=20)
    refused: list[str] = []

    def receive(message: Message) -> None:
        fetcher.start(
            message, 0.1, lambda _: None, lambda _, error: refused.append(error.code)
        )

    memory_bus.subscribe("test.put", receive)
    memory_bus.subscribe("_INBOX.test.s.1", lambda _: None)
    for _ in range(2):
        memory_bus.publish(
            "test.put", b"", "_INBOX.test.1", body_at(memory_bus, "_INBOX.test")
        )
    await asyncio.sleep(0.3)
    assert refused == ["failed_precondition", "deadline_exceeded"]
    assert fetcher._left == 20


async def test_a_long_request_cancelled_before_it_is_fetched(
    memory_bus: MemoryBus,
) -> None:
    """Request and cancellation in one read: nothing of the budget is lost."""
    kit = Kit(memory_bus)
    host = await kit.serve(Store())
    fetcher = host.intake.fetcher
    whole = fetcher._left
    answers: list[Message] = []
    memory_bus.subscribe("_INBOX.test.1", answers.append)
    memory_bus.publish(
        "store.size", b"", "_INBOX.test.1", body_at(memory_bus, "_INBOX.test")
    )
    memory_bus.publish("_kit.cancel.store", b"_INBOX.test.1")
    for _ in range(5):
        await memory_bus.flush()
    assert fetcher._left == whole
    assert fetcher._tasks == {}
    assert [a.headers["Kit-Code"] for a in answers] == ["cancelled"]
    await kit.close()


async def test_draining_finishes_long_requests(memory_bus: MemoryBus) -> None:
    """One whose body is under way is worked on; one whose body does not come is told."""
    kit = Kit(memory_bus)
    host = await kit.serve(Store())
    data = b"x" * LONG
    asking = asyncio.create_task(kit.client(Store).size(data))
    answers: list[Message] = []
    memory_bus.subscribe("_INBOX.test.1", answers.append)
    memory_bus.subscribe("_INBOX.test.s.1", lambda _: None)
    memory_bus.publish(
        "store.size", b"", "_INBOX.test.1", body_at(memory_bus, "_INBOX.test")
    )
    await memory_bus.flush()
    await memory_bus.flush()
    await host.drain(0.5)
    assert await asking == LONG
    assert [a.headers["Kit-Code"] for a in answers] == ["unavailable"]
    await kit.close()


async def test_a_long_reply_that_nobody_asks_for(kit: Kit) -> None:
    """Even without deadlines it does not hold its turn for ever."""

    class Endless(Store):
        name = "endless"
        off = {"deadline"}  # noqa: RUF012

    host = await kit.serve(Endless())
    heard: list[Message] = []
    kit.bus.subscribe("_INBOX.test", heard.append)
    kit.bus.publish("endless.make", b'{"size": 3000000}', "_INBOX.test")
    await asyncio.sleep(1)
    assert host.intake.mailbox.running == 1
    await asyncio.sleep(30)  # of virtual time
    assert host.intake.mailbox.running == 0
    assert int(heard[0].headers["Kit-Body-Bytes"]) > LONG


async def test_a_reply_whose_body_cannot_be_fetched_was_sent(
    memory_bus: MemoryBus,
) -> None:
    """The bus went away between the word of a result and the result: the work is done."""
    fields = {"Kit-Body": "_INBOX.x.s.1", "Kit-Body-Bytes": "4"}
    reply = Message("_INBOX.x.1", b"", "", encode_headers(fields))
    memory_bus.disconnect()
    with pytest.raises(Disconnected) as caught:
        await fetch(memory_bus, reply, 5.0, "the reply", MAX_BYTES)
    assert caught.value.sent


async def test_bad_askers_for_a_body(memory_bus: MemoryBus) -> None:
    """They are refused, and the one who asks well still gets it."""
    from kitmsg.transport.transfer import offered

    told: list[Message] = []
    memory_bus.subscribe("_INBOX.test.asker", told.append)
    with offered(memory_bus, b"abc") as offer:
        for block in (
            b"NATS/1.0\r\nrubbish\r\n\r\n",
            encode_headers({"Kit-Stream": "open", "Kit-Heartbeat": "1"}),
            encode_headers({"Kit-Stream": "beat"}),
            b"",
        ):
            memory_bus.publish(offer.subject, b"", "_INBOX.test.asker", block)
        await memory_bus.flush()
        fields = {"Kit-Body": offer.subject, "Kit-Body-Bytes": "3"}
        message = Message("", b"", "", encode_headers(fields))
        whole = await fetch(memory_bus, message, 5, "the reply", 100)
        assert whole.data == b"abc"
        memory_bus.publish(
            offer.subject,
            b"",
            "_INBOX.test.asker",
            encode_headers({"Kit-Stream": "open"}),
        )
        await memory_bus.flush()
        await memory_bus.flush()
    assert [m.headers.get("Kit-Stream") for m in told] == ["cancel"] * 5
