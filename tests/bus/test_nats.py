"""NatsBus when servers die, hang and come back.

What it promises while all is well is in `test_contract`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    ResourceExhausted,
)
from tests.bus.links import Changes, ask_in_flight, echo

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer


async def test_recovers_from_a_killed_server(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """Asks fail at once, new ones fail fast, and all works when the server is back."""
    bus.subscribe("echo", echo(bus), "q")
    asks = [await ask_in_flight(bus, f"hang.{i}") for i in range(3)]
    changes = Changes(bus)
    server.kill()
    for error in await asyncio.gather(*asks, return_exceptions=True):
        assert isinstance(error, Disconnected)
        assert error.sent
        assert str(error) == "the connection to the bus was lost"
    with pytest.raises(Disconnected) as info:
        await bus.request("echo", b"", 30)
    assert not info.value.sent
    server.restart()
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    assert bus.stats.reconnects == 1


async def test_asks_under_load_end_when_the_server_dies(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """Every one of many asks gets its reply or an error; none hangs."""
    bus.subscribe("echo", echo(bus), "q")
    answered = asyncio.Event()

    async def ask() -> None:
        while True:
            await bus.request("echo", b"", 30)
            answered.set()

    asks = [asyncio.create_task(ask()) for _ in range(100)]
    await answered.wait()
    server.kill()
    ends = await asyncio.gather(*asks, return_exceptions=True)
    assert {type(end) for end in ends} == {Disconnected}
    assert len(bus._connection.asks) == 0


async def test_finds_a_silent_server(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A half-open link ends after two unanswered life signs, and heals.

    Callers may be strangers: only the log says where the bus is, and why it was lost.
    """
    bus = await NatsBus.connect(server.url, ping_interval=0.05, connect_timeout=0.2)
    bus.subscribe("echo", echo(bus), "q")
    ask = await ask_in_flight(bus)
    changes = Changes(bus)
    server.pause()
    with pytest.raises(Disconnected, match=r"^the connection to the bus was lost$"):
        await ask
    assert "127.0.0.1" in caplog.text
    assert "stale connection" in caplog.text
    server.resume()
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    await bus.close()


async def test_flush_has_a_deadline(server: EmbeddedServer, bus: NatsBus) -> None:
    """A flush gives up in time; the answer that comes late harms nobody."""
    changes = Changes(bus)
    server.pause()
    with pytest.raises(DeadlineExceeded, match=r"in 0\.05 s"):
        await bus.flush(0.05)
    server.resume()
    await bus.flush()
    assert changes.seen == []


async def test_flush_ends_when_the_link_is_lost(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """A flush that waits is told, not left to its deadline."""
    server.pause()
    flush = asyncio.create_task(bus.flush(30))
    await asyncio.sleep(0)
    server.kill()
    with pytest.raises(Disconnected):
        await flush


async def test_bounds_what_waits_to_be_written(server: EmbeddedServer) -> None:
    """A server that takes nothing makes `publish` refuse, naming the limit."""
    bus = await NatsBus.connect(server.url, max_pending=64 << 10)
    server.pause()

    async def flood() -> None:
        for _ in range(100_000):
            bus.publish("it", bytes(32 << 10))
            await asyncio.sleep(0)

    with pytest.raises(ResourceExhausted, match="max_pending is 65536"):
        await flood()
    with pytest.raises(ResourceExhausted):
        await bus.request("it", b"", 5)
    assert len(bus._connection.asks) == 0
    server.resume()
    await bus.flush()
    bus.publish("it", b"")
    await bus.close()


async def test_close_does_not_hang_on_a_silent_server(server: EmbeddedServer) -> None:
    """Bytes that cannot leave are given up; `close` neither waits long nor raises."""
    bus = await NatsBus.connect(server.url)
    server.pause()
    for _ in range(200):
        bus.publish("it", bytes(32 << 10))
    async with asyncio.timeout(10):
        await bus.close()
    assert not bus.is_connected


async def test_close_of_a_dead_link(server: EmbeddedServer, bus: NatsBus) -> None:
    """A bus that is busy connecting again can be closed."""
    changes = Changes(bus)
    server.kill()
    await changes.until(False)
    await bus.close()
    await bus.close()
    with pytest.raises(Disconnected, match="the bus is closed"):
        bus.publish("it", b"")


async def test_a_dead_reader_is_replaced(bus: NatsBus) -> None:
    """The watchdog finds a reader that ended without a word."""
    bus.subscribe("echo", echo(bus), "q")
    changes = Changes(bus)
    reader = bus.client._reading_task
    assert reader is not None
    reader.cancel()
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"


async def test_a_dead_reconnection_is_restarted(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """The watchdog also looks after the task that connects again."""
    changes = Changes(bus)
    server.kill()
    await changes.until(False)
    task = bus.client._reconnection_task
    assert task is not None
    task.cancel()
    server.restart()
    await changes.until(False, True)


async def test_can_be_told_not_to_reconnect(server: EmbeddedServer) -> None:
    """With ``reconnect=False`` a lost link closes the bus for good."""
    bus = await NatsBus.connect(server.url, reconnect=False)
    ask = await ask_in_flight(bus)
    server.kill()
    with pytest.raises(Disconnected):
        await ask
    with pytest.raises(Disconnected, match="lost"):
        bus.publish("it", b"")
    server.restart()
    await bus.close()
    assert not bus.is_connected


async def test_counts_what_it_threw_away(bus: NatsBus) -> None:
    """A message accepted in the turn in which the link broke is counted.

    The first of a turn is with the socket at once.
    """
    bus.publish("it", b"")
    bus.publish("it", b"")
    await bus.client.force_reconnect()
    assert bus.stats.dropped == 1


async def test_is_busy_long_before_it_is_full(nats_server: EmbeddedServer) -> None:
    """What can wait hears it at a quarter, so that the rest is left for what cannot."""
    bus = await NatsBus.connect(nats_server.url, max_pending=4 << 20)
    sent = 0

    def is_busy() -> bool:
        return bus.is_busy

    while not is_busy():
        bus.publish("test.nobody", b"x" * 500_000)
        sent += 1
    assert sent
    bus.publish("test.nobody", b"x" * 500_000)
    await bus.flush()
    assert not is_busy()
    await bus.close()
