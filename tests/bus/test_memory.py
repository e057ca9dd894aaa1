"""MemoryBus: what it adds to the contract.  The contract is in `test_contract`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import Disconnected, InvalidArgument, NoResponders

if TYPE_CHECKING:
    from kitmsg.bus import Handler
    from kitmsg.message import Message


def test_needs_no_loop_to_be_made() -> None:
    """A bus can stand at the top of a module, and serve several loops in turn."""
    bus = MemoryBus()
    bus.subscribe("echo", lambda m: bus.publish(m.reply, m.data))

    async def ask() -> bytes:
        return (await bus.request("echo", b"x", 5)).data

    async def leave_work_behind() -> None:
        bus.publish("echo", b"", reply="nowhere")

    assert asyncio.run(ask()) == b"x"
    asyncio.run(leave_work_behind())
    assert asyncio.run(ask()) == b"x"


async def members(seed: int | None) -> list[str]:
    """Return which member of a group each of 20 messages reaches."""
    bus, seen = MemoryBus(seed=seed), list[str]()

    def note(name: str) -> Handler:
        return lambda _: seen.append(name)

    for name in "abc":
        bus.subscribe("it", note(name), "q")
    for _ in range(20):
        bus.publish("it", b"")
    await bus.flush()
    return seen


async def test_a_seed_repeats_the_choice_of_members() -> None:
    """The same seed gives the same order; another one, another."""
    assert await members(1) == await members(1)
    assert await members(1) != await members(2)


async def test_delivers_in_a_later_turn(memory_bus: MemoryBus) -> None:
    """`publish` returns before any handler is called."""
    seen: list[Message] = []
    memory_bus.subscribe("it", seen.append)
    memory_bus.publish("it", b"")
    assert seen == []
    await memory_bus.flush()
    assert len(seen) == 1


async def test_only_earlier_subscribers_get_a_message(memory_bus: MemoryBus) -> None:
    """Who subscribes after a message was published does not see it."""
    seen: list[Message] = []
    memory_bus.publish("it", b"")
    memory_bus.subscribe("it", seen.append)
    await memory_bus.flush()
    assert seen == []


async def test_does_not_starve_the_loop(memory_bus: MemoryBus) -> None:
    """Two handlers that answer each other for ever leave room for others."""
    turns = 0

    def ping(_: Message) -> None:
        nonlocal turns
        turns += 1
        memory_bus.publish("pong", b"")

    memory_bus.subscribe("ping", ping)
    memory_bus.subscribe("pong", lambda _: memory_bus.publish("ping", b""))
    memory_bus.publish("ping", b"")
    for _ in range(20):
        await asyncio.sleep(0)
    assert 5 <= turns <= 20


async def test_follows_changes_of_interest(memory_bus: MemoryBus) -> None:
    """What is remembered about a subject is forgotten when subscriptions change."""
    seen: list[str] = []

    async def publish() -> list[str]:
        seen.clear()
        memory_bus.publish("a.b", b"")
        await memory_bus.flush()
        return seen

    assert await publish() == []
    exact = memory_bus.subscribe("a.b", lambda _: seen.append("exact"))
    assert await publish() == ["exact"]
    wild = memory_bus.subscribe("a.*", lambda _: seen.append("wild"))
    assert await publish() == ["exact", "wild"]
    exact.unsubscribe()
    assert await publish() == ["wild"]
    wild.unsubscribe()
    assert await publish() == []


async def test_remembers_a_bounded_number_of_subjects(memory_bus: MemoryBus) -> None:
    """A publisher of ever new subjects does not fill the memory."""
    memory_bus.subscribe("it.>", lambda _: None)
    for i in range(5000):
        memory_bus.publish(f"it.{i}", b"")
        await memory_bus.flush()
    assert len(memory_bus._cache) <= 1024


async def test_replies_can_be_watched(memory_bus: MemoryBus) -> None:
    """A subscription to everything sees the replies too, as on a real server."""
    seen: list[str] = []
    memory_bus.subscribe("_INBOX.>", lambda m: seen.append(m.subject))
    memory_bus.subscribe("echo", lambda m: memory_bus.publish(m.reply, b""))
    reply = await memory_bus.request("echo", b"", 5)
    assert seen == [reply.subject]


async def test_a_publish_with_a_reply_hears_of_nobody(memory_bus: MemoryBus) -> None:
    """The 503 goes to whatever reply subject was given, as on a real server."""
    seen: list[Message] = []
    memory_bus.subscribe("my.inbox", seen.append)
    memory_bus.publish("nobody", b"", reply="my.inbox")
    await memory_bus.flush()
    assert [m.status for m in seen] == [503]


async def test_max_payload_is_an_option() -> None:
    """A small limit lets a test reach it."""
    bus = MemoryBus(max_payload=3)
    assert bus.max_payload == 3
    bus.publish("it", b"123")
    with pytest.raises(InvalidArgument, match="4 bytes; max_payload is 3"):
        bus.publish("it", b"1234")


async def test_disconnect_loses_what_is_on_its_way(memory_bus: MemoryBus) -> None:
    """Messages not yet delivered are gone, and a flush that waits is told."""
    seen: list[Message] = []
    memory_bus.subscribe("it", seen.append)
    memory_bus.publish("it", b"")
    flush = asyncio.create_task(memory_bus.flush())
    await asyncio.sleep(0)
    memory_bus.publish("it", b"")
    memory_bus.disconnect()
    memory_bus.disconnect()
    memory_bus.reconnect()
    memory_bus.reconnect()
    await memory_bus.flush()
    await asyncio.gather(flush, return_exceptions=True)
    assert len(seen) <= 1


async def test_disconnect_in_a_handler_stops_the_delivery(
    memory_bus: MemoryBus,
) -> None:
    """A handler may pull the plug on the messages behind its own."""
    seen: list[bytes] = []

    def pull(message: Message) -> None:
        seen.append(message.data)
        memory_bus.disconnect()

    memory_bus.subscribe("it", pull)
    memory_bus.publish("it", b"1")
    memory_bus.publish("it", b"2")
    with pytest.raises(Disconnected):
        await memory_bus.flush()
    memory_bus.reconnect()
    await memory_bus.flush()
    assert seen == [b"1"]


async def test_counts_late_replies(memory_bus: MemoryBus) -> None:
    """A reply after the ask was given up is counted, not delivered."""
    asked: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    memory_bus.subscribe("it", asked.set_result)
    task = asyncio.create_task(memory_bus.request("it", b"", 5))
    reply = (await asked).reply
    task.cancel()
    await asyncio.wait([task])
    memory_bus.publish(reply, b"")
    await memory_bus.flush()
    assert memory_bus.late_replies == 1


async def test_stays_closed(memory_bus: MemoryBus) -> None:
    """Nothing opens a closed bus again, and a second `close` is no error."""
    subscription = memory_bus.subscribe("it", lambda _: None)
    memory_bus.disconnect()
    await memory_bus.close()
    await memory_bus.close()
    memory_bus.reconnect()
    subscription.unsubscribe()
    assert not memory_bus.is_connected


async def test_a_refused_request_leaves_nothing(memory_bus: MemoryBus) -> None:
    """An ask that could not be sent does not wait in the table."""
    with pytest.raises(InvalidArgument):
        await memory_bus.request("a b", b"", 5)
    with pytest.raises(NoResponders):
        await memory_bus.request("nobody", b"", 5)
    assert len(memory_bus._asks) == 0
