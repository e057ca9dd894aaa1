"""A subject whose endpoint streams: what ends a stream, and what is left of it then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    KitError,
    NotFound,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.schema.calls import StreamRequest
from kitmsg.transport.inbox import inbox_of
from kitmsg.transport.opening import open_stream
from kitmsg.transport.stream_server import StreamServer

if TYPE_CHECKING:
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.context import Context

OPEN = encode_headers({"Kit-Stream": "open", "Kit-Credit": "16"})

Give = Callable[[StreamRequest], AsyncIterator[bytes]]


async def served(bus: MemoryBus, give: Give, **options: Any) -> StreamServer:
    """Serve ``test.stream`` by a generator, in bytes."""

    async def endpoint(ctx: Context, request: StreamRequest) -> AsyncIterator[bytes]:
        return give(request)

    server = StreamServer(
        bus,
        "test.stream",
        endpoint,
        decode=lambda ctx, message: message.data,
        encode=lambda ctx, item: item,
        decode_item=lambda ctx, message: message.data,
        gives_items=True,
        **options,
    )
    await server.start()
    return server


async def for_ever(request: StreamRequest) -> AsyncIterator[bytes]:
    yield b"first"
    await asyncio.sleep(1000)


async def stubborn(request: StreamRequest) -> AsyncIterator[bytes]:
    """Take its own cancellation for nothing, and come to a good end."""
    yield b"first"
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(1000)
    with contextlib.suppress(KitError):
        yield b"second"


async def test_cancelled_before_it_began(memory_bus: MemoryBus) -> None:
    """Request and cancellation in one read: the stream is over, and nothing is left."""
    server = await served(memory_bus, for_ever)
    answers: list[Message] = []
    memory_bus.subscribe("_INBOX.test", answers.append)
    memory_bus.publish("test.stream", b"", "_INBOX.test", OPEN)
    memory_bus.publish("_kit.cancel.test", b"_INBOX.test")
    for _ in range(5):
        await memory_bus.flush()
    assert server.in_hand() == (0, 0)
    assert [a.headers["Kit-Code"] for a in answers] == ["cancelled"]
    assert server.stats.cancelled == 1
    await server.drain(0)


async def test_two_streams_with_one_reply_subject(memory_bus: MemoryBus) -> None:
    """The second is refused and the first goes on; else nobody would count them."""
    server = await served(memory_bus, for_ever, max_streams=3)
    answers: list[Message] = []
    memory_bus.subscribe("_INBOX.test", answers.append)
    for _ in range(10):
        memory_bus.publish("test.stream", b"", "_INBOX.test", OPEN)
    for _ in range(5):
        await memory_bus.flush()
    assert server.in_hand() == (1, 0)
    codes = [a.headers.get("Kit-Code") for a in answers]
    assert codes.count("failed_precondition") == 9
    kinds = [a.headers.get("Kit-Stream") for a in answers]
    assert kinds.count("open") == 1
    assert kinds.count("end") == 0
    await server.drain(0)


async def test_draining_a_stream_that_swallows_its_cancellation(
    memory_bus: MemoryBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller is told that it was cut off, not that all is well."""
    server = await served(memory_bus, stubborn)
    stream = await open_stream(memory_bus, "test.stream", b"")
    assert (await anext(stream)).data == b"first"
    await server.drain(0)
    with pytest.raises(Unavailable, match="test.stream is stopping"):
        await anext(stream)
    assert server.in_hand() == (0, 0)


async def test_a_deadline_that_is_swallowed(memory_bus: MemoryBus) -> None:
    """The stream is over all the same."""
    server = await served(memory_bus, stubborn, timeout=0.05)
    stream = await open_stream(memory_bus, "test.stream", b"")
    assert (await anext(stream)).data == b"first"
    with pytest.raises(DeadlineExceeded, match="test.stream took too long"):
        await anext(stream)
    await memory_bus.flush()
    await server.drain(0)
    assert list(server.stats.outcomes) == ["deadline_exceeded"]


async def test_a_stream_is_counted_by_how_it_ended(memory_bus: MemoryBus) -> None:
    """As a turn is: well, or by the code of its error."""

    async def fail(request: StreamRequest) -> AsyncIterator[bytes]:
        yield b"first"
        if request.request:
            raise NotFound("no more")

    server = await served(memory_bus, fail)
    for data in (b"", b"x"):
        stream = await open_stream(memory_bus, "test.stream", data)
        with contextlib.suppress(NotFound):
            async for _ in stream:
                pass
    seen = server.stats.snapshot()
    assert (seen.requests, list(seen.outcomes)) == (2, ["not_found"])
    assert sum(seen.outcomes["not_found"].buckets) == 1


async def test_a_stream_that_will_not_end(
    memory_bus: MemoryBus, caplog: pytest.LogCaptureFixture
) -> None:
    """Draining says so, and does not wait for it; its caller was told."""
    go = asyncio.Event()

    async def deaf(request: StreamRequest) -> AsyncIterator[bytes]:
        yield b"first"
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    server = await served(memory_bus, deaf)
    stream = await open_stream(memory_bus, "test.stream", b"")
    await anext(stream)
    with caplog.at_level(logging.ERROR):
        await server.drain(0)
    assert "swallows CancelledError" in caplog.text
    with pytest.raises(Unavailable):
        await anext(stream)
    go.set()


async def test_no_new_streams_while_draining(memory_bus: MemoryBus) -> None:
    """One that came by the instance's own subject would outlive it."""
    server = await served(memory_bus, for_ever)
    await open_stream(memory_bus, "test.stream", b"")
    draining = asyncio.create_task(server.drain(0.3))
    await asyncio.sleep(0.05)
    answers: list[Message] = []
    memory_bus.subscribe("_INBOX.test", answers.append)
    server.receive(Message("test.stream", b"", "_INBOX.test", OPEN))
    await memory_bus.flush()
    assert answers[0].headers["Kit-Code"] == "unavailable"
    await draining


async def test_an_error_too_long_to_send(memory_bus: MemoryBus) -> None:
    """A plain one takes its place: the caller does not wait for a heartbeat."""

    async def fail(request: StreamRequest) -> AsyncIterator[bytes]:
        yield b"first"
        raise KeyError

    def encode_error(ctx: Context, error: BaseException) -> tuple[bytes, bytes]:
        return b"x" * (2 << 20), encode_headers({"Kit-Code": "aborted"})

    server = await served(memory_bus, fail, error_encoder=encode_error)
    stream = await open_stream(memory_bus, "test.stream", b"")
    await anext(stream)
    with pytest.raises(Internal, match="failed, and so did its error reply"):
        await anext(stream)
    await server.drain(0)


async def test_a_cancellation_of_the_endpoints_own(memory_bus: MemoryBus) -> None:
    """A handler that awaits what was cancelled has failed; the log has it, the server lives."""

    async def cancelled(request: StreamRequest) -> AsyncIterator[bytes]:
        yield b"first"
        task = asyncio.ensure_future(asyncio.sleep(1000))
        task.cancel()
        await task

    server = await served(memory_bus, cancelled)
    stream = await open_stream(memory_bus, "test.stream", b"")
    await anext(stream)
    with pytest.raises(Internal):
        await anext(stream)
    await server.drain(0)


async def test_an_end_that_fails_after_the_caller_left(
    memory_bus: MemoryBus, caplog: pytest.LogCaptureFixture
) -> None:
    """What a generator's ``finally`` raises is logged, though nobody is told."""
    failures: list[BaseException] = []

    async def messy(request: StreamRequest) -> AsyncIterator[bytes]:
        try:
            yield b"first"
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            raise RuntimeError("cannot clean up")

    server = await served(
        memory_bus, messy, on_failure=lambda error, _: failures.append(error)
    )
    stream = await open_stream(memory_bus, "test.stream", b"")
    await anext(stream)
    stream.cancel()
    while server.in_hand()[0]:
        await memory_bus.flush()
    assert "cannot clean up" in caplog.text
    assert [str(error) for error in failures] == ["cannot clean up"]
    await server.drain(0)


async def test_a_reader_that_was_cut_off_has_no_good_end(memory_bus: MemoryBus) -> None:
    """An upload that was cut off is not taken for one that is complete."""
    ends: list[BaseException | None] = []

    async def store(request: StreamRequest) -> AsyncIterator[bytes]:
        assert request.items is not None
        yield b"ready"
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await anext(request.items)
            await anext(request.items)
        except BaseException as exc:
            ends.append(exc)
            raise

    server = await served(memory_bus, store)
    stream = await open_stream(memory_bus, "test.stream", b"")
    await anext(stream)
    await server.drain(0)
    assert isinstance(ends[0], Cancelled)


async def test_ten_thousand_streams_leave_nothing(memory_bus: MemoryBus) -> None:
    """Opened and ended, cancelled or refused, they are forgotten everywhere."""

    async def few(request: StreamRequest) -> AsyncIterator[bytes]:
        yield b"1"

    server = await served(memory_bus, few)
    inbox = inbox_of(memory_bus)
    for _ in range(100):
        streams = await asyncio.gather(
            *(
                open_stream(memory_bus, "test.stream", b"", open_timeout=60)
                for _ in range(100)
            )
        )
        for i, stream in enumerate(streams):
            if i % 2:
                assert [m.data async for m in stream] == [b"1"]
            else:
                stream.cancel()
    await memory_bus.flush()
    await memory_bus.flush()
    assert server.in_hand() == (0, 0)
    assert len(inbox) == 0
    assert inbox._wheels == {}
    assert server.stats.requests == 10_000
    await server.drain(0)


async def test_a_plain_ask_is_told(memory_bus: MemoryBus) -> None:
    """Whoever asks without streaming hears how."""
    server = await served(memory_bus, for_ever)
    reply = await memory_bus.request("test.stream", b"", 1.0)
    assert reply.headers["Kit-Code"] == FailedPrecondition.code
    await server.drain(0)
