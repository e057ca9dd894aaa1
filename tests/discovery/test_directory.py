"""The live list of services."""
# the services here are props

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.discovery.directory import Directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus, Subscription

INFO = (
    b'{"name":"foreign","id":"f1","version":"1.0.0","description":"","metadata":{},'
    b'"endpoints":[{"name":"a","subject":"foreign.a"}],'
    b'"type":"io.nats.micro.v1.info_response"}'
)


class Greeter(Service):
    @endpoint
    async def hello(self) -> str:
        return "hello"


class Changes:
    """Counts how often a directory changed."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> None:
        self.n += 1


@pytest.fixture
def changes() -> Changes:
    return Changes()


@pytest.fixture
async def directory(kit: Kit, changes: Changes) -> AsyncIterator[Directory]:
    directory = Directory(kit.bus, interval=2.0, on_change=changes)
    await directory.start()
    yield directory
    await directory.stop()


def names(directory: Directory) -> list[str]:
    return [info.name for info in directory.instances]


def serve_foreign(bus: Bus) -> Subscription:
    """Answer INFO, as a service of another library does, without a word before."""
    return bus.subscribe("$SRV.INFO", lambda m: bus.publish(m.reply, INFO))


async def test_ours_are_known_at_once(
    kit: Kit, directory: Directory, changes: Changes
) -> None:
    """They say when they come and when they go; no round of asking is awaited."""
    host = await kit.serve(Greeter())
    await asyncio.sleep(0.01)
    assert names(directory) == ["greeter"]
    assert directory.instances[0] == host.info
    await host.drain()
    kit.hosts.clear()
    await asyncio.sleep(0.01)
    assert names(directory) == []
    assert changes.n == 2


async def test_nothing_is_kept_of_those_that_left(
    kit: Kit, directory: Directory
) -> None:
    """A service that comes and goes for months costs no memory."""
    for _ in range(3):
        host = await kit.serve(Greeter())
        await host.drain()
    kit.hosts.clear()
    await asyncio.sleep(0.01)
    assert not directory._found
    assert not directory._missed


async def test_those_there_before_are_found(kit: Kit) -> None:
    """The first round is done when `start` returns."""
    await kit.serve(Greeter())
    await kit.serve(Greeter())
    directory = Directory(kit.bus)
    await directory.start()
    assert names(directory) == ["greeter", "greeter"]
    assert sorted(i.id for i in directory.instances) == [
        i.id for i in directory.instances
    ]
    await directory.stop()


async def test_foreign_ones_are_found_by_asking(
    kit: Kit, directory: Directory, changes: Changes
) -> None:
    """Within an interval; and missed after two rounds of silence."""
    foreign = serve_foreign(kit.bus)
    assert names(directory) == []
    await asyncio.sleep(2.5)
    assert names(directory) == ["foreign"]
    foreign.unsubscribe()
    await asyncio.sleep(2.0)
    assert names(directory) == ["foreign"]
    await asyncio.sleep(3.0)
    assert names(directory) == []
    assert changes.n == 2


async def test_no_change_is_no_news(
    kit: Kit, directory: Directory, changes: Changes
) -> None:
    """`on_change` is silent while nothing changes."""
    await kit.serve(Greeter())
    await asyncio.sleep(60)
    assert changes.n == 1


async def test_a_lost_bus_keeps_the_list(
    kit: Kit, directory: Directory, changes: Changes
) -> None:
    """Without a connection nobody is declared gone."""
    await kit.serve(Greeter())
    await asyncio.sleep(0.01)
    kit.bus.disconnect()  # type: ignore[attr-defined]
    await asyncio.sleep(30)
    assert names(directory) == ["greeter"]
    kit.bus.reconnect()  # type: ignore[attr-defined]
    await asyncio.sleep(30)
    assert names(directory) == ["greeter"]
    assert changes.n == 1


async def test_an_unreadable_notice_is_left_out(
    kit: Kit, directory: Directory, changes: Changes
) -> None:
    """Noise on the announcement subjects harms nobody."""
    kit.bus.publish("_kit.up.x", b"noise")
    kit.bus.publish("_kit.down.x", b"\xff")
    await asyncio.sleep(1)
    assert changes.n == 0


async def test_one_that_leaves_during_a_round_stays_gone(
    kit: Kit, directory: Directory
) -> None:
    """An INFO sent before the goodbye, and read after it, does not bring it back."""

    def answer_then_leave(message: object) -> None:
        kit.bus.publish(message.reply, INFO)  # type: ignore[attr-defined]
        kit.bus.publish("_kit.down.foreign", b"f1")

    kit.bus.subscribe("$SRV.INFO", answer_then_leave)
    await directory.refresh()
    assert names(directory) == []


@pytest.mark.parametrize(
    ("subject", "hint"),
    [
        ("greeter.helo", "did you mean 'greeter.hello' (1 instance)?"),
        ("greter.hello", "did you mean 'greeter.hello' (1 instance)?"),
        ("greeter.hello", "it is known, but every instance is full, leaving or gone"),
        ("zzz", "no service on this bus has a name like it"),
    ],
)
async def test_hints(kit: Kit, subject: str, hint: str) -> None:
    """What a caller of nobody is told."""
    await kit.serve(Greeter())
    assert await Directory(kit.bus).hint(subject) == hint


async def test_many_failing_calls_ask_once(kit: Kit) -> None:
    """A hundred hints at once are one question, and again none within a second."""
    await kit.serve(Greeter())
    asked: list[object] = []
    kit.bus.subscribe("$SRV.INFO", asked.append)
    directory = Directory(kit.bus)
    await asyncio.gather(*(directory.hint("greeter.helo") for _ in range(100)))
    await directory.hint("greeter.helo")
    assert len(asked) == 1
    await asyncio.sleep(2)
    await directory.hint("greeter.helo")
    assert len(asked) == 2
