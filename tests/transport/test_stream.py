"""Streams between two peers, in bytes: order, credit, loss, cancellation, heartbeats."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    Cancelled,
    Code,
    DataLoss,
    DeadlineExceeded,
    Disconnected,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    NoResponders,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.transport.frames import credit_frame, end_frame, item_frame
from kitmsg.transport.opening import accept, open_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from kitmsg.bus import Bus
    from kitmsg.transport.stream import Stream

BEAT = 0.05


class Pair:
    """Two connections, one of which serves ``test.stream`` by `serve`."""

    def __init__(self, client: Bus, server: Bus) -> None:
        self.client = client
        self.server = server
        self.tasks: list[asyncio.Task[None]] = []
        self.accepted: asyncio.Queue[Stream] = asyncio.Queue()

    async def serve(self, work: Callable[[Stream], Awaitable[None]]) -> None:
        """Take every stream, with `work`."""

        def receive(message: Message) -> None:
            stream = accept(self.server, message, "test.stream", takes_items=True)
            self.accepted.put_nowait(stream)
            self.tasks.append(asyncio.create_task(run(stream)))

        async def run(stream: Stream) -> None:
            with contextlib.suppress(KitError):
                await work(stream)

        self.server.subscribe("test.stream", receive, "q")
        await self.server.flush()

    async def open(self, **options: Any) -> Stream:
        options = {"heartbeat": 5.0, **options}
        return await open_stream(self.client, "test.stream", b"{}", **options)


@pytest.fixture(params=["memory", "nats"])
async def pair(
    request: pytest.FixtureRequest, nats_server: EmbeddedServer
) -> AsyncIterator[Pair]:
    """Two peers, on each kind of bus."""
    if request.param == "memory":
        bus = MemoryBus(seed=1)
        pair = Pair(bus, bus)
    else:
        pair = Pair(
            await NatsBus.connect(nats_server.url),
            await NatsBus.connect(nats_server.url),
        )
    yield pair
    for task in pair.tasks:
        task.cancel()
    await asyncio.gather(*pair.tasks, return_exceptions=True)
    await pair.client.close()
    await pair.server.close()


async def give(stream: Stream, n: int, size: int = 10) -> None:
    for i in range(n):
        await stream.send(b"%d" % i + b" " * size)
    await stream.finish()


async def ended(stream: Stream) -> None:
    """Wait until `stream` is over, whatever comes."""
    with contextlib.suppress(KitError):
        async for _ in stream:
            pass


async def test_items_come_whole_and_in_order(pair: Pair) -> None:
    """A thousand items, many windows of them, then a good end."""
    await pair.serve(lambda stream: give(stream, 1000))
    stream = await pair.open()
    items = [int(message.data) async for message in stream]
    assert items == list(range(1000))
    assert stream.error is None
    assert not stream.is_open


async def test_both_directions_at_once(pair: Pair) -> None:
    """Each item is answered while more are sent; half-close ends the echo."""

    async def echo(stream: Stream) -> None:
        async for message in stream:
            await stream.send(message.data.upper())
        await stream.finish()

    await pair.serve(echo)
    stream = await pair.open()

    async def talk() -> None:
        for i in range(300):
            await stream.send(b"a%d" % i)
        await stream.finish()

    talking = asyncio.create_task(talk())
    got = [message.data async for message in stream]
    await talking
    assert got == [b"A%d" % i for i in range(300)]


async def test_a_slow_receiver_slows_the_sender(pair: Pair) -> None:
    """What is sent ahead is one window of items, however many there are."""
    await pair.serve(lambda stream: give(stream, 100_000))
    stream = await pair.open()
    first = await anext(stream)
    assert int(first.data) == 0
    serving = await pair.accepted.get()
    for _ in range(20):
        await pair.server.flush()
        await pair.client.flush()
    assert serving.moved <= 300
    stream.cancel()


async def test_big_items_have_a_small_window(pair: Pair) -> None:
    """Of items of half a megabyte no more than a few are under way."""
    await pair.serve(lambda stream: give(stream, 1000, size=500_000))
    stream = await pair.open()
    serving = await pair.accepted.get()
    for _ in range(40):
        await anext(stream)
    for _ in range(20):
        await pair.server.flush()
        await pair.client.flush()
    assert serving.moved - 40 <= 8
    stream.cancel()


async def test_nobody_serves_it(pair: Pair) -> None:
    """An unknown subject is `NoResponders` at once."""
    with pytest.raises(NoResponders, match="no responders for 'test.nothing'"):
        await open_stream(pair.client, "test.nothing", b"{}")


async def test_nobody_takes_it(pair: Pair) -> None:
    """A service that does not answer is `DeadlineExceeded`, and told that it is over."""
    heard: list[Message] = []
    pair.server.subscribe("test.stream", heard.append)
    pair.server.subscribe("_kit.cancel.test", heard.append)
    await pair.server.flush()
    with pytest.raises(DeadlineExceeded, match=r"nobody took 'test.stream' in 0.05 s"):
        await pair.open(open_timeout=0.05)
    await pair.client.flush()
    await pair.server.flush()
    asked, cancelled = heard
    assert cancelled.data.decode() == asked.reply


async def test_a_plain_reply_is_a_stream_of_one_item(pair: Pair) -> None:
    """A service that knows no streams can be asked for one."""
    pair.server.subscribe("test.stream", lambda m: pair.server.respond(m, b"one"))
    await pair.server.flush()
    stream = await pair.open()
    assert [message.data async for message in stream] == [b"one"]


async def test_an_error_reply_refuses(pair: Pair) -> None:
    """An error in place of the opening is raised by it, as the class of its code."""
    block = encode_headers({"Kit-Code": "out_of_range", "Nats-Service-Error": "no"})
    pair.server.subscribe("test.stream", lambda m: pair.server.respond(m, b"", block))
    await pair.server.flush()
    with pytest.raises(KitError, match="no") as caught:
        await pair.open()
    assert caught.value.code is Code.OUT_OF_RANGE


async def test_an_error_at_the_end_comes_after_the_items(pair: Pair) -> None:
    """What was sent before the error is read first."""

    async def fail(stream: Stream) -> None:
        await stream.send(b"1")
        block = encode_headers({"Kit-Code": "data_loss", "Nats-Service-Error": "torn"})
        stream.finish_with(b"fields", block)

    await pair.serve(fail)
    stream = await pair.open()
    assert (await anext(stream)).data == b"1"
    with pytest.raises(DataLoss, match="torn"):
        await anext(stream)
    assert stream.end is not None
    assert stream.end.data == b"fields"


async def test_cancelling_ends_the_work_of_the_other_side(pair: Pair) -> None:
    """The serving side is called with the code, and cannot send any more."""
    codes: list[Code] = []

    async def wait(stream: Stream) -> None:
        stream.on_cancel = codes.append
        await ended(stream)

    await pair.serve(wait)
    stream = await pair.open()
    serving = await pair.accepted.get()
    stream.cancel()
    await ended(serving)
    assert codes == [Code.CANCELLED]
    with pytest.raises(Cancelled):
        await serving.send(b"late")
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_sending_after_the_end(pair: Pair) -> None:
    """After `finish`, and after the peer's end, sending says so."""
    await pair.serve(lambda stream: give(stream, 0))
    stream = await pair.open()
    await ended(stream)
    with pytest.raises(FailedPrecondition, match="is over"):
        await stream.send(b"x")


async def test_sending_after_finish(pair: Pair) -> None:
    """A side that has finished cannot send, while the other still may."""
    await pair.serve(ended)
    stream = await pair.open()
    await stream.finish()
    with pytest.raises(FailedPrecondition, match="finished"):
        await stream.send(b"x")
    stream.cancel()


async def test_a_lost_item_is_noticed(pair: Pair) -> None:
    """A gap in the numbers is `DataLoss` on this side, a cancellation on the other."""

    async def skip(stream: Stream) -> None:
        peer = stream._peer
        pair.server.publish(peer, b"1", "", item_frame(1))
        pair.server.publish(peer, b"3", "", item_frame(3))
        await ended(stream)

    await pair.serve(skip)
    stream = await pair.open()
    assert (await anext(stream)).data == b"1"
    with pytest.raises(DataLoss, match=r"item 2 of test.stream was lost"):
        await anext(stream)
    await ended(await pair.accepted.get())


async def test_a_lost_last_item_is_noticed(pair: Pair) -> None:
    """The end says how many there were."""

    async def short(stream: Stream) -> None:
        pair.server.publish(stream._peer, b"", "", end_frame(2))

    await pair.serve(short)
    with pytest.raises(DataLoss, match="2 items of test.stream were lost"):
        await anext(await pair.open())


async def test_a_peer_that_ignores_its_credit_is_cut_off(pair: Pair) -> None:
    """Nobody can fill this side's memory."""

    async def flood(stream: Stream) -> None:
        for i in range(5000):
            pair.server.publish(stream._peer, b"x", "", item_frame(i + 1))
        await ended(stream)

    await pair.serve(flood)
    stream = await pair.open()
    serving = await pair.accepted.get()
    await ended(stream)
    assert isinstance(stream.error, ResourceExhausted)
    assert str(stream.error) == "test.stream sends more than it may"
    with pytest.raises(Cancelled):
        await anext(serving)


async def test_odd_frames_do_no_harm(pair: Pair) -> None:
    """Credit that is no number, an unknown kind and an old credit are passed over."""

    async def odd(stream: Stream) -> None:
        for fields in (
            {"Kit-Credit": "many"},
            {"Kit-Stream": "what"},
            {"X-Other": "1"},
            {"Kit-Seq": "0"},
        ):
            pair.server.publish(stream._peer, b"", "", encode_headers(fields))
        pair.server.publish(stream._peer, b"", "", credit_frame(1))
        await give(stream, 3)

    await pair.serve(odd)
    stream = await pair.open()
    assert len([message async for message in stream]) == 3


async def test_a_silent_peer_is_lost_within_two_heartbeats(pair: Pair) -> None:
    """A peer that says nothing, not even a heartbeat, ends the stream on this side."""
    taken = encode_headers({"Kit-Stream": "open", "Kit-Credit": "5"})
    inbox = "_INBOX.test.mute"
    pair.server.subscribe(inbox, lambda _: None)
    pair.server.subscribe(
        "test.stream",
        lambda m: pair.server.publish(m.reply, b"", inbox, taken),
    )
    await pair.server.flush()
    stream = await pair.open(heartbeat=BEAT)
    with pytest.raises(Unavailable, match=r"nothing was heard .* for 0.0875 s"):
        await anext(stream)


async def test_heartbeats_keep_an_idle_stream(pair: Pair) -> None:
    """A stream on which nothing moves lives longer than two heartbeats."""
    go = asyncio.Event()

    async def late(stream: Stream) -> None:
        await go.wait()
        await give(stream, 1)

    await pair.serve(late)
    stream = await pair.open(heartbeat=BEAT)
    await asyncio.sleep(BEAT * 6)
    go.set()
    assert len([message async for message in stream]) == 1


async def test_a_loop_that_stood_still_does_not_take_its_peer_for_dead(
    pair: Pair,
) -> None:
    """Silence is counted in ticks that this process had, not in time on the clock."""
    import time

    go = asyncio.Event()

    async def late(stream: Stream) -> None:
        await go.wait()
        await give(stream, 1)

    await pair.serve(late)
    stream = await pair.open(heartbeat=BEAT)
    time.sleep(BEAT * 5)  # as a blocking call in a handler would
    await asyncio.sleep(BEAT)
    go.set()
    assert len([message async for message in stream]) == 1


async def test_a_peer_that_forgot_the_stream_says_so(pair: Pair) -> None:
    """A heartbeat to an inbox that knows nothing of the stream ends it at once."""
    inbox = f"{pair.server.inbox}s.forgotten"
    await pair.serve(lambda stream: give(stream, 1))
    await ended(await pair.open())  # so that the serving side has its inbox
    taken = encode_headers({"Kit-Stream": "open", "Kit-Credit": "5"})
    pair.server.subscribe(
        "test.other", lambda m: pair.server.publish(m.reply, b"", inbox, taken)
    )
    await pair.server.flush()
    stream = await open_stream(pair.client, "test.other", b"", heartbeat=BEAT)
    with pytest.raises(Unavailable, match="has let go of the stream"):
        await anext(stream)


async def test_a_lost_connection_ends_both_sides(nats_server: EmbeddedServer) -> None:
    """`Disconnected` at once here; the peer hears of it with its next heartbeat."""
    client = await NatsBus.connect(nats_server.url)
    server = await NatsBus.connect(nats_server.url)
    pair = Pair(client, server)
    await pair.serve(ended)
    stream = await pair.open(heartbeat=BEAT)
    serving = await pair.accepted.get()
    await client.close()
    with pytest.raises(Disconnected):
        await anext(stream)
    with pytest.raises(Unavailable):
        await anext(serving)
    await server.close()


async def test_a_bus_that_comes_back_carries_new_streams() -> None:
    """Streams end with the connection; the next one finds the inbox again."""
    with EmbeddedServer() as daemon:
        bus = await NatsBus.connect(daemon.url)
        pair = Pair(bus, bus)
        await pair.serve(lambda stream: give(stream, 3))
        assert len([m async for m in await pair.open()]) == 3
        back = asyncio.Event()
        bus.watch(lambda up: back.set() if up else None)
        daemon.kill()
        daemon.start()
        await asyncio.wait_for(back.wait(), 10)
        await bus.flush()
        assert len([m async for m in await pair.open()]) == 3
        await bus.close()


@pytest.mark.parametrize("text", ["0", "19", "-5", "1.5", "x", ""])
async def test_a_bad_heartbeat_is_refused(memory_bus: MemoryBus, text: str) -> None:
    """A heartbeat of no time would be nothing but work."""
    fields = {"Kit-Stream": "open", "Kit-Heartbeat": text}
    message = Message("test.stream", b"", "_INBOX.x.1", encode_headers(fields))
    with pytest.raises(InvalidArgument, match="Kit-Heartbeat"):
        accept(memory_bus, message, "test.stream", takes_items=False)


async def test_nothing_is_left_of_streams_that_ended(pair: Pair) -> None:
    """However they end, the inbox forgets them."""
    from kitmsg.transport.inbox import inbox_of

    await pair.serve(lambda stream: give(stream, 3))
    for _ in range(5):
        await ended(await pair.open())
        (await pair.open()).cancel()
        with contextlib.suppress(KitError):
            await open_stream(pair.client, "test.nothing", b"")
    await asyncio.gather(*pair.tasks)
    await pair.server.flush()
    assert len(inbox_of(pair.client)) == 0
    assert len(inbox_of(pair.server)) == 0


async def test_an_item_over_the_payload_limit_is_refused(memory_bus: MemoryBus) -> None:
    """The sender learns the limit; the stream goes on."""
    pair = Pair(memory_bus, memory_bus)
    await pair.serve(ended)
    stream = await pair.open()
    with pytest.raises(InvalidArgument, match="bytes"):
        await stream.send(b"x" * (memory_bus.max_payload + 1))
    await stream.send(b"small")
    stream.cancel()


async def test_a_bus_that_is_full_slows_a_stream(nats_server: EmbeddedServer) -> None:
    """Items that cannot be written at once wait, and come all the same."""
    client = await NatsBus.connect(nats_server.url)
    server = await NatsBus.connect(nats_server.url, max_pending=1 << 20)
    pair = Pair(client, server)
    await pair.serve(lambda stream: give(stream, 40, size=400_000))
    streams = await asyncio.gather(*(pair.open() for _ in range(4)))

    async def count(stream: Stream) -> int:
        return len([message async for message in stream])

    assert await asyncio.gather(*map(count, streams)) == [40] * 4
    await client.close()
    await server.close()


async def test_streams_leave_room_for_answers(nats_server: EmbeddedServer) -> None:
    """While much waits to be written, items do too, and what cannot wait is taken."""
    bus = await NatsBus.connect(nats_server.url, max_pending=4 << 20)
    pair = Pair(bus, bus)
    await pair.serve(ended)
    stream = await pair.open()
    serving = await pair.accepted.get()
    while not bus.is_busy:
        bus.publish("test.nobody", b"x" * 500_000)
    assert not serving.push(b"item")
    bus.publish("test.nobody", b"answer")
    sending = asyncio.create_task(serving.send(b"item"))
    assert (await anext(stream)).data == b"item"
    await sending
    stream.cancel()
    await bus.close()
