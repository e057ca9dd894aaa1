"""What every bus promises: one suite, run on each of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    NoResponders,
)
from kitmsg.message import Message, encode_headers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus, Handler
    from kitmsg.bus.embedded import EmbeddedServer


@pytest.fixture(params=["memory", "nats", "nats-uvloop", "nats-plain"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def anyio_backend(kind: str) -> str | tuple[str, dict[str, bool]]:
    return ("asyncio", {"use_uvloop": kind == "nats-uvloop"})


@pytest.fixture
async def bus(kind: str, nats_server: EmbeddedServer) -> AsyncIterator[Bus]:
    if kind == "memory":
        bus: MemoryBus | NatsBus = MemoryBus(seed=7)
    else:
        bus = await NatsBus.connect(nats_server.url, fast=kind != "nats-plain")
    yield bus
    await bus.close()


async def lose(bus: Bus) -> None:
    if isinstance(bus, MemoryBus):
        bus.disconnect()
    else:
        assert isinstance(bus, NatsBus)
        await bus.client.force_reconnect()


async def restore(bus: Bus) -> None:
    back = asyncio.Event()
    bus.watch(lambda up: back.set() if up else None)
    if isinstance(bus, MemoryBus):
        bus.reconnect()
    await back.wait()


def echo(bus: Bus) -> Any:
    return lambda m: bus.publish(m.reply, m.data, header_block=m.header_block)


async def ask_in_flight(bus: Bus, subject: str) -> asyncio.Task[Message]:
    """Return an ask that a silent service has received."""
    received = asyncio.Event()
    bus.subscribe(subject, lambda _: received.set())
    task = asyncio.create_task(bus.request(subject, b"", 30))
    await received.wait()
    return task


async def test_delivers_in_order(bus: Bus) -> None:
    """Messages from one publisher to one subscription arrive as they were sent."""
    seen: list[bytes] = []
    bus.subscribe("order.it", lambda m: seen.append(m.data))
    for i in range(500):
        bus.publish("order.it", b"%d" % i)
    await bus.flush()
    assert seen == [b"%d" % i for i in range(500)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a.b.c", ["a.b.c"]),
        ("a.*.c", ["a.b.c", "a.x.c"]),
        ("a.>", ["a.b.c", "a.x.c", "a.b"]),
        ("*.b", ["a.b"]),
        ("a", []),
    ],
)
async def test_matches_wildcards(bus: Bus, pattern: str, expected: list[str]) -> None:
    """``*`` stands for one token and ``>`` for one or more."""
    seen: list[str] = []
    bus.subscribe(pattern, lambda m: seen.append(m.subject))
    for subject in ("a.b.c", "a.x.c", "a.b", "b.b.c"):
        bus.publish(subject, b"")
    await bus.flush()
    assert seen == expected


async def test_reaches_every_plain_subscriber(bus: Bus) -> None:
    """A message is copied to each subscription that covers it."""
    seen: list[str] = []
    bus.subscribe("all.it", lambda _: seen.append("one"))
    bus.subscribe("all.*", lambda _: seen.append("two"))
    bus.publish("all.it", b"")
    await bus.flush()
    assert sorted(seen) == ["one", "two"]


async def test_gives_a_queue_group_each_message_once(bus: Bus) -> None:
    """Members share the messages, another group and plain subscribers get their own."""
    seen: list[tuple[str, bytes]] = []

    def note(name: str) -> Handler:
        return lambda m: seen.append((name, m.data))

    for name, queue in [("m1", "q"), ("m2", "q"), ("m3", "q"), ("o1", "o"), ("p", "")]:
        bus.subscribe("group.it", note(name), queue)
    for i in range(200):
        bus.publish("group.it", b"%d" % i)
    await bus.flush()
    members = [(n, data) for n, data in seen if n.startswith("m")]
    assert sorted(data for _, data in members) == sorted(b"%d" % i for i in range(200))
    assert {n for n, _ in members} == {"m1", "m2", "m3"}
    assert len([1 for n, _ in seen if n == "o1"]) == 200
    assert len([1 for n, _ in seen if n == "p"]) == 200


async def test_answers_a_request(bus: Bus) -> None:
    """The reply comes back to the one who asked, headers and all."""
    bus.subscribe("echo.it", echo(bus), "q")
    block = encode_headers({"Kit-Timeout": "100", "X-City": "Zürich"})
    reply = await bus.request("echo.it", b"\x00\xff", 5, block)
    assert reply.data == b"\x00\xff"
    assert reply.header_block == block
    assert reply.headers["x-city"] == "Zürich"


async def test_answers_many_requests_at_once(bus: Bus) -> None:
    """Each of 1,000 asks in flight gets its own reply."""
    bus.subscribe("echo.it", echo(bus), "q")
    asks = [bus.request("echo.it", b"%d" % i, 10) for i in range(1000)]
    replies = await asyncio.gather(*asks)
    assert [m.data for m in replies] == [b"%d" % i for i in range(1000)]


async def test_moves_an_empty_payload(bus: Bus) -> None:
    """No bytes are a message too, with and without headers."""
    bus.subscribe("echo.it", echo(bus))
    assert (await bus.request("echo.it", b"", 5)).data == b""
    block = encode_headers({"A": "b"})
    assert (await bus.request("echo.it", b"", 5, block)).header_block == block


async def test_says_at_once_that_nobody_listens(bus: Bus) -> None:
    """Asking where nobody is subscribed does not wait for the timeout."""
    with pytest.raises(NoResponders, match=r"no responders for 'nobody\.home'") as info:
        await bus.request("nobody.home", b"", 60)
    assert info.value.subject == "nobody.home"


async def test_gives_up_at_the_deadline(bus: Bus) -> None:
    """A service that does not answer costs its caller the timeout, no more."""
    bus.subscribe("mute.it", lambda _: None)
    with pytest.raises(DeadlineExceeded, match=r"'mute\.it' in 0\.06 s"):
        await bus.request("mute.it", b"", 0.06)


async def test_does_not_send_without_time(bus: Bus) -> None:
    """An ask with no time left fails before it leaves."""
    seen: list[Message] = []
    bus.subscribe("late.it", seen.append)
    for timeout in (0, -1, float("nan")):
        with pytest.raises(DeadlineExceeded, match="no time left"):
            await bus.request("late.it", b"", timeout)
    await bus.flush()
    assert seen == []


async def test_tells_of_a_cancelled_ask(bus: Bus) -> None:
    """The service hears, on its cancel subject, whose answer nobody awaits."""
    asked: list[Message] = []
    bus.subscribe("shop.buy", asked.append)
    cancelled: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    bus.subscribe("_kit.cancel.shop", cancelled.set_result)
    task = asyncio.create_task(bus.request("shop.buy", b"", 30))
    await asyncio.sleep(0)
    task.cancel()
    notice = await cancelled
    assert notice.data.decode() == asked[0].reply
    assert notice.reply == ""
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_nobody_waits_for_keeps_its_place(bus: Bus) -> None:
    """It comes between what was sent before it and what was sent after; a flush covers it."""
    seen: list[bytes] = []
    bus.subscribe("shop.done", lambda m: seen.append(m.data))
    await bus.flush()
    message = Message("shop.it", b"", "shop.done")
    bus.publish("shop.done", b"before")
    bus.acknowledge(message, b"done")
    bus.publish("shop.done", b"after")
    bus.acknowledge(message, b"done too")
    await bus.flush()
    assert seen == [b"before", b"done", b"after", b"done too"]
    with pytest.raises(InvalidArgument):
        bus.acknowledge(message, b"x" * (bus.max_payload + 1))
    await bus.close()
    with pytest.raises(Disconnected):
        bus.acknowledge(message, b"late")


async def test_an_ask_is_a_request_in_two_steps(bus: Bus) -> None:
    """An ask that is not awaited to its end is given up: only a cancellation is told."""
    notices: list[str] = []
    bus.subscribe("_kit.cancel.shop", lambda m: notices.append(m.data.decode()))
    bus.subscribe("shop.echo", lambda m: bus.respond(m, m.data))
    bus.subscribe("shop.slow", lambda _: None)
    await bus.flush()
    assert (await bus.ask("shop.echo", b"hi", 5.0).future).data == b"hi"
    cancelled, failed = (bus.ask("shop.slow", b"", 5.0) for _ in range(2))
    answered = bus.ask("shop.echo", b"", 5.0)
    await answered.future
    bus.give_up(cancelled, asyncio.CancelledError())
    bus.give_up(failed, ValueError())
    bus.give_up(answered, asyncio.CancelledError())
    await bus.flush()
    async with asyncio.timeout(5):
        while not notices:
            await asyncio.sleep(0.01)
    (notice,) = notices
    assert notice.endswith(cancelled.key.decode())


async def test_an_ask_that_is_not_sent_leaves_nothing(bus: Bus) -> None:
    """It raises before anything waits."""
    for subject in ("", "a b"):
        with pytest.raises(InvalidArgument):
            bus.ask(subject, b"", 5.0)
    with pytest.raises(InvalidArgument):
        bus.ask("shop.echo", b"x" * (bus.max_payload + 1), 5.0)
    with pytest.raises(DeadlineExceeded):
        bus.ask("shop.echo", b"", 0.0)
    asks = bus._asks if isinstance(bus, MemoryBus) else bus._connection.asks  # type: ignore[attr-defined]
    assert len(asks) == 0


async def test_refuses_what_is_too_long(bus: Bus) -> None:
    """Headers and payload together must fit `max_payload`; nothing breaks."""
    seen: list[Message] = []
    bus.subscribe("big.it", seen.append)
    block = encode_headers({"A": "b"})
    with pytest.raises(InvalidArgument, match="max_payload is"):
        bus.publish("big.it", bytes(bus.max_payload + 1))
    with pytest.raises(InvalidArgument, match="max_payload is"):
        bus.publish("big.it", bytes(bus.max_payload), header_block=block)
    with pytest.raises(InvalidArgument, match="max_payload is"):
        await bus.request("big.it", bytes(bus.max_payload + 1), 1)
    bus.publish("big.it", bytes(bus.max_payload))
    await bus.flush()
    assert [len(m.data) for m in seen] == [bus.max_payload]


@pytest.mark.parametrize(
    "subject", ["", ".", "a..b", "a b", "a\r\nPING", "a.*", "a.>", "a.\ud800", "a\t"]
)
async def test_refuses_malformed_subjects(bus: Bus, subject: str) -> None:
    """A subject that a message cannot be sent to never reaches the wire."""
    with pytest.raises(InvalidArgument):
        bus.publish(subject, b"")
    with pytest.raises(InvalidArgument):
        await bus.request(subject, b"", 1)
    if subject:
        with pytest.raises(InvalidArgument):
            bus.publish("fine", b"", reply=subject)
    await bus.flush()


@pytest.mark.parametrize("subject", ["", "a..b", "a b", "a.>.b", "a\r\nPING"])
async def test_refuses_malformed_patterns(bus: Bus, subject: str) -> None:
    """A pattern that cannot be subscribed to is refused, as is a bad queue group."""
    with pytest.raises(InvalidArgument):
        bus.subscribe(subject, lambda _: None)
    with pytest.raises(InvalidArgument):
        bus.subscribe("fine", lambda _: None, "q \r\n")
    await bus.flush()


async def test_moves_subjects_beyond_ascii(bus: Bus) -> None:
    """Subjects are UTF-8."""
    seen: list[str] = []
    bus.subscribe("städte.*", lambda m: seen.append(m.subject))
    bus.publish("städte.zürich", b"")
    await bus.flush()
    assert seen == ["städte.zürich"]


async def test_stops_after_unsubscribe_and_flush(bus: Bus) -> None:
    """What was on its way still arrives, nothing new does; twice is no error."""
    seen: list[bytes] = []
    subscription = bus.subscribe("stop.it", lambda m: seen.append(m.data))
    assert subscription.subject == "stop.it"
    bus.publish("stop.it", b"before")
    subscription.unsubscribe()
    subscription.unsubscribe()
    await bus.flush()
    bus.publish("stop.it", b"after")
    await bus.flush()
    assert seen == [b"before"]
    with pytest.raises(NoResponders):
        await bus.request("stop.it", b"", 5)


async def test_loses_nothing_to_a_member_that_leaves(bus: Bus) -> None:
    """Asks routed to a member before it left the group are handed to it."""
    subscription = bus.subscribe("leave.it", echo(bus), "q")
    await bus.flush()
    asks = [asyncio.create_task(bus.request("leave.it", b"", 5)) for _ in range(50)]
    await asyncio.sleep(0)
    subscription.unsubscribe()
    assert len(await asyncio.gather(*asks)) == 50


async def test_survives_a_handler_that_raises(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """One bad handler is logged; it and the others go on."""
    seen: list[bytes] = []

    def bad(_: Message) -> None:
        raise ValueError("oops")

    bus.subscribe("bad.it", bad)
    bus.subscribe("bad.it", lambda m: seen.append(m.data))
    bus.publish("bad.it", b"1")
    bus.publish("bad.it", b"2")
    await bus.flush()
    assert seen == [b"1", b"2"]
    records = [r for r in caplog.records if r.name == "kitmsg.bus"]
    assert len(records) == 2
    assert "bad.it" in records[0].getMessage()
    assert records[0].exc_info


async def test_handlers_may_publish(bus: Bus) -> None:
    """A handler that sends is not entered again before it returns."""
    depth, deepest = 0, 0
    done = asyncio.Event()

    def again(message: Message) -> None:
        nonlocal depth, deepest
        depth += 1
        deepest = max(deepest, depth)
        if message.data == b"....":
            done.set()
        else:
            bus.publish("again.it", message.data + b".")
        depth -= 1

    bus.subscribe("again.it", again)
    bus.publish("again.it", b"")
    await done.wait()
    assert deepest == 1


async def test_fails_asks_when_the_link_is_lost(bus: Bus) -> None:
    """Asks in flight end at once with what is known: they had been sent."""
    asks = [await ask_in_flight(bus, f"hang.{i}") for i in range(3)]
    await lose(bus)
    assert not bus.is_connected
    for error in await asyncio.gather(*asks, return_exceptions=True):
        assert isinstance(error, Disconnected)
        assert error.sent


async def test_fails_fast_while_down(bus: Bus) -> None:
    """Nothing is accepted while the link is down, and nothing of it is sent later."""
    seen: list[bytes] = []
    bus.subscribe("ghost.it", lambda m: seen.append(m.data))
    await bus.flush()

    async def ask_second() -> Message:
        bus.publish("ghost.other", b"")  # the first of a turn may be written at once
        return await bus.request("ghost.it", b"same turn", 30)

    asking = asyncio.create_task(ask_second())
    await asyncio.sleep(0)
    await lose(bus)
    with pytest.raises(Disconnected) as lost:
        await asking
    for attempt in (
        lambda: bus.request("ghost.it", b"down", 30),
        bus.flush,
    ):
        with pytest.raises(Disconnected) as info:
            await attempt()
        assert not info.value.sent
    with pytest.raises(Disconnected) as info:
        bus.publish("ghost.it", b"down")
    await restore(bus)
    bus.publish("ghost.it", b"up")
    await bus.flush()
    assert seen == [b"up"]
    assert not lost.value.sent or isinstance(bus, MemoryBus)


async def test_subscriptions_survive_a_lost_link(bus: Bus) -> None:
    """Those made before, those made while down, but not those ended while down."""
    bus.subscribe("before.it", echo(bus), "q")
    gone = bus.subscribe("gone.it", echo(bus), "q")
    await lose(bus)
    bus.subscribe("while.it", echo(bus), "q")
    gone.unsubscribe()
    await restore(bus)
    assert (await bus.request("before.it", b"1", 5)).data == b"1"
    assert (await bus.request("while.it", b"2", 5)).data == b"2"
    with pytest.raises(NoResponders):
        await bus.request("gone.it", b"3", 5)


async def test_tells_its_watchers(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """Each change is told once, until undone; a watcher that fails harms nobody."""
    seen: list[bool] = []
    undone: list[bool] = []

    def bad(_: bool) -> None:
        raise ValueError("oops")

    bus.watch(bad)
    bus.watch(seen.append)
    undo = bus.watch(undone.append)
    undo()
    undo()
    await lose(bus)
    assert seen == [False]
    await restore(bus)
    assert seen == [False, True]
    await bus.close()
    await bus.close()
    assert seen == [False, True, False]
    assert undone == []
    assert "a watcher of the bus failed" in caplog.text


async def test_close_ends_what_waits(bus: Bus) -> None:
    """After `close` no wait is left and nothing is accepted."""
    ask = await ask_in_flight(bus, "hang.it")
    await bus.close()
    assert not bus.is_connected
    with pytest.raises(Disconnected, match="closed"):
        await ask
    with pytest.raises(Disconnected, match="closed"):
        bus.publish("any", b"")
    with pytest.raises(Disconnected, match="closed"):
        await bus.request("any", b"", 1)
    with pytest.raises(Disconnected, match="closed"):
        bus.subscribe("any", lambda _: None)
    with pytest.raises(Disconnected, match="closed"):
        await bus.flush()


async def test_close_sends_what_is_buffered(
    bus: Bus, kind: str, nats_server: EmbeddedServer
) -> None:
    """What was published before `close` is delivered."""
    other = bus if kind == "memory" else await NatsBus.connect(nats_server.url)
    arrived: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    other.subscribe("last.words", arrived.set_result)
    await other.flush()
    bus.publish("last.words", b"bye")
    await bus.close()
    assert (await arrived).data == b"bye"
    await other.close()


async def test_ignores_replies_nobody_awaits(bus: Bus) -> None:
    """A second reply, or a made-up one, is dropped and the next ask is answered."""
    replies: list[str] = []

    def twice(message: Message) -> None:
        replies.append(message.reply)
        bus.publish(message.reply, b"1")
        bus.publish(message.reply, b"2")

    bus.subscribe("twice.it", twice)
    assert (await bus.request("twice.it", b"", 5)).data == b"1"
    prefix = replies[0].rpartition(".")[0]
    for token in ("x", "0", "99999999", "1e3", "²"):
        bus.publish(f"{prefix}.{token}", b"")
    await bus.flush()
    assert (await bus.request("twice.it", b"", 5)).data == b"1"


async def test_an_ask_whose_time_is_up_is_taken_back(bus: Bus) -> None:
    """Those of one service together: a storm of late calls costs few messages."""
    got: list[Message] = []
    asked: list[str] = []
    bus.subscribe("_kit.cancel.shop", got.append)
    bus.subscribe("shop.buy", lambda message: asked.append(message.reply))
    await bus.flush()
    asks = [bus.request("shop.buy", b"", 0.1) for _ in range(300)]
    ends = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(end) for end in ends} == {DeadlineExceeded}
    await bus.flush()
    replies = [line for message in got for line in message.data.decode().split("\n")]
    assert sorted(replies) == sorted(asked)
    assert len(got) <= 30


async def test_a_handler_without_a_connection_has_not_failed(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    """Its answer cannot be sent, which is no news and needs no traceback."""

    def answer(_: Message) -> None:
        raise Disconnected("gone meanwhile", sent=False)

    bus.subscribe("late.it", answer)
    with caplog.at_level("INFO"):
        bus.publish("late.it", b"")
        await bus.flush()
    assert caplog.text == ""
