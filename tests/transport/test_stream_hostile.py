"""Peers that break the rules: nothing hangs, nothing is kept, no handler of a bus fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import (
    Cancelled,
    Code,
    DataLoss,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    KitError,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.testing.loop import VirtualTimeLoop
from kitmsg.transport.frames import credit_frame, end_frame, item_frame, open_frame
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.opening import accept, open_stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.transport.stream import Stream

PEER = "_INBOX.test.peer"
ERROR = encode_headers({"Kit-Code": "aborted", "Nats-Service-Error": "no"})


@pytest.fixture(autouse=True)
def _no_handler_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A handler of the bus that raises is logged as an error."""
    caplog.set_level(logging.ERROR)
    yield
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


@pytest.fixture
def heard(memory_bus: MemoryBus) -> list[Message]:
    """What comes to the peer that the tests play."""
    messages: list[Message] = []
    memory_bus.subscribe(PEER, messages.append)
    return messages


async def served(bus: MemoryBus, **headers: str) -> Stream:
    """Return the serving end of a stream whose caller is the test."""
    fields = {"Kit-Stream": "open", "Kit-Credit": "4", **headers}
    message = Message("test.stream", b"", PEER, encode_headers(fields))
    stream = accept(bus, message, "test.stream", takes_items=True)
    await bus.flush()
    return stream


async def called(bus: MemoryBus) -> Stream:
    """Return the calling end of a stream whose service is the test."""
    bus.subscribe(
        "test.stream", lambda m: bus.publish(m.reply, b"", PEER, open_frame(4))
    )
    return await open_stream(bus, "test.stream", b"")


async def test_a_message_without_headers_breaks_a_stream(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """It is no item and no end: reader, work and peer are told."""
    stream = await served(memory_bus)
    codes: list[Code] = []
    stream.on_cancel = codes.append
    memory_bus.publish(stream.subject, b"plain")
    with pytest.raises(DataLoss, match="test.stream sends a message without headers"):
        await anext(stream)
    await memory_bus.flush()
    assert codes == [Code.DATA_LOSS]
    assert heard[-1].headers["Kit-Stream"] == "cancel"


@pytest.mark.parametrize("block", [b"NATS/1.0\r\nrubbish\r\n\r\n", b"HTTP/1.1\r\n\r\n"])
async def test_headers_that_cannot_be_read_break_a_stream(
    memory_bus: MemoryBus, block: bytes, heard: list[Message]
) -> None:
    """On either side, before and after the opening."""
    stream = await served(memory_bus)
    memory_bus.publish(stream.subject, b"", "", block)
    with pytest.raises(DataLoss, match="sends what is no frame"):
        await anext(stream)
    memory_bus.subscribe("test.odd", lambda m: memory_bus.respond(m, b"", block))
    with pytest.raises(DataLoss, match="sends what is no frame"):
        await open_stream(memory_bus, "test.odd", b"")


async def test_items_before_the_opening_break_a_stream(memory_bus: MemoryBus) -> None:
    """Nobody could be told of credit for more."""
    memory_bus.subscribe(
        "test.stream", lambda m: memory_bus.respond(m, b"", item_frame(1))
    )
    with pytest.raises(DataLoss, match="before it takes a stream"):
        await open_stream(memory_bus, "test.stream", b"")


async def test_two_peers_that_take_one_stream(memory_bus: MemoryBus) -> None:
    """Their items could not be told apart, so both are let go; the error says why."""
    told: list[str] = []
    for inbox in (PEER, "_INBOX.test.second"):
        memory_bus.subscribe(inbox, lambda m: told.append(m.subject))
        memory_bus.subscribe(
            "test.stream",
            lambda m, inbox=inbox: memory_bus.publish(  # type: ignore[misc]
                m.reply, b"", inbox, open_frame(0)
            ),
        )
    with pytest.raises(FailedPrecondition, match="several peers took test.stream"):
        await anext(await open_stream(memory_bus, "test.stream", b""))
    await memory_bus.flush()
    assert sorted(told) == [PEER, "_INBOX.test.second"]


async def test_a_caller_whose_end_is_an_error_gave_up(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """It is not taken for a good end, and nobody waits for more."""
    stream = await served(memory_bus)
    memory_bus.publish(stream.subject, b"", "", end_frame(0, ERROR))
    with pytest.raises(Cancelled):
        await anext(stream)


async def test_an_end_that_says_less_than_came(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """The numbers are named."""
    stream = await called(memory_bus)
    memory_bus.publish(stream.subject, b"", "", item_frame(1))
    memory_bus.publish(stream.subject, b"", "", end_frame(0))
    await anext(stream)
    with pytest.raises(DataLoss, match="test.stream sent 1 items and says 0"):
        await anext(stream)


@pytest.mark.parametrize("reply", ["a..b", "a.*", "a b", ">"])
async def test_a_stream_is_not_taken_for_who_cannot_be_reached(
    memory_bus: MemoryBus, reply: str
) -> None:
    """Its work would go on for nobody, and nobody would notice."""
    block = encode_headers({"Kit-Stream": "open"})
    message = Message("test.stream", b"", reply, block)
    with pytest.raises(InvalidArgument, match="subject"):
        accept(memory_bus, message, "test.stream", takes_items=True)
    assert len(inbox_of(memory_bus)) == 0


async def test_a_peer_that_keeps_no_deadline(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """The caller does, and lets the peer go."""
    memory_bus.subscribe(
        "test.stream",
        lambda m: memory_bus.publish(m.reply, b"", PEER, open_frame(4)),
    )
    stream = await open_stream(memory_bus, "test.stream", b"", timeout=0.1)
    with pytest.raises(DeadlineExceeded, match="test.stream took too long"):
        await anext(stream)
    await memory_bus.flush()
    assert heard[-1].headers["Kit-Stream"] == "cancel"


async def test_an_end_that_is_too_long_is_refused(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """Nothing of it was sent, so a shorter one can take its place."""
    stream = await served(memory_bus)
    with pytest.raises(InvalidArgument, match="the end of test.stream is"):
        stream.finish_with(b"x" * (memory_bus.max_payload + 1), ERROR)
    stream.finish_with(b"short", ERROR)
    await memory_bus.flush()
    assert heard[-1].data == b"short"


async def test_finishing_tells_senders_that_wait(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """Another task that waits for room need not wait for the end of all."""
    stream = await called(memory_bus)

    async def send_all() -> None:
        for _ in range(5):
            await stream.send(b"x")

    sending = asyncio.create_task(send_all())
    await memory_bus.flush()
    await stream.finish()
    with pytest.raises(FailedPrecondition, match="finished"):
        await sending
    stream.cancel()


async def test_a_broken_bus_ends_the_work_too(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """A frame that cannot be sent ends the stream for reader, sender and work."""
    stream = await served(memory_bus)
    codes: list[Code] = []
    stream.on_cancel = codes.append
    stream._peer = "not..a.subject"
    stream.beat()
    assert codes == [Code.INVALID_ARGUMENT]
    assert len(inbox_of(memory_bus)) == 0


blocks = st.one_of(
    st.binary(max_size=60).map(lambda b: b"NATS/1.0" + b),
    st.binary(max_size=20),
    st.builds(item_frame, st.integers(0, 400)),
    st.builds(credit_frame, st.integers(0, 10**16)),
    st.builds(end_frame, st.integers(-1, 6), st.sampled_from([b"", ERROR])),
    st.builds(open_frame, st.integers(0, 400)),
    st.sampled_from(
        [
            b"",
            b"NATS/1.0 503\r\n\r\n",
            b"NATS/1.0\r\nKit-Stream: cancel\r\n\r\n",
            b"NATS/1.0\r\nKit-Stream: beat\r\n\r\n",
            b"NATS/1.0\r\nKit-Body: a.s.1\r\nKit-Body-Bytes: 4\r\n\r\n",
            b"NATS/1.0\r\nKit-Code: \r\nKit-Seq: x\r\nKit-Stream: end\r\n\r\n",
        ]
    ),
)
frames = st.tuples(
    blocks,
    st.binary(max_size=4),
    st.sampled_from(
        ["", PEER, "_INBOX.other", "_INBOX.a..b", "_INBOX.nobody", "test.other"]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(frames, max_size=8), st.booleans(), st.booleans())
def test_any_frames_at_all(
    sent: list[tuple[bytes, bytes, str]], is_client: bool, opens: bool
) -> None:
    """Whatever comes: it ends, by itself or by a heartbeat, and nothing is left."""

    async def play() -> None:
        bus = MemoryBus(seed=1)
        bus.subscribe(PEER, lambda _: None)

        def answer(message: Message) -> None:
            if opens:
                bus.publish(message.reply, b"", PEER, open_frame(2))
            for block, data, reply in sent:
                with contextlib.suppress(InvalidArgument):
                    bus.publish(message.reply, data, reply, block)

        async def use(stream: Stream) -> None:
            async for _ in stream:
                if stream.moved % 2:
                    await stream.send(b"x")

        if is_client:
            bus.subscribe("test.stream", answer)
            with contextlib.suppress(KitError):
                await use(await open_stream(bus, "test.stream", b"", heartbeat=1))
        else:
            stream = await served(bus)
            answer(Message("", reply=stream.subject))
            with contextlib.suppress(KitError):
                await use(stream)
            stream.finish_with()
        assert len(inbox_of(bus)) == 0
        await bus.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(asyncio.wait_for(play(), 1000))


async def test_a_peer_that_only_beats_is_not_lost(
    memory_bus: MemoryBus, heard: list[Message]
) -> None:
    """And one that stops is."""
    stream = await called(memory_bus)
    stream.cancel()
    stream = await open_stream(memory_bus, "test.stream", b"", heartbeat=0.02)
    beating = True

    async def beat() -> None:
        while beating:
            memory_bus.publish(
                stream.subject, b"", "", b"NATS/1.0\r\nKit-Stream: beat\r\n\r\n"
            )
            await asyncio.sleep(0.005)

    task = asyncio.create_task(beat())
    reading = asyncio.create_task(anext(stream))
    await asyncio.sleep(0.2)
    assert stream.is_open
    beating = False
    with pytest.raises(Unavailable):
        await reading
    await task
