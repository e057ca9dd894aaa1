"""A push loop: its interval, a receiver that is gone and back, a bounded memory."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.push import Pusher
from tests.metrics.receivers.carbon import Carbon, GraphiteReceiver
from tests.metrics.receivers.collector import Collector, OtlpReceiver
from tests.metrics.receivers.exporter import DogStatsDReceiver, StatsDExporter
from tests.metrics.receivers.influx import InfluxDB, InfluxReceiver
from tests.metrics.receivers.pushed import Pushed
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kitmsg.metrics.families import Family

RECEIVERS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "udp": (StatsDExporter, DogStatsDReceiver),
    "tcp": (Carbon, GraphiteReceiver),
    "http": (InfluxDB, InfluxReceiver),
    "grpc": (Collector, OtlpReceiver),
}


@pytest.fixture(params=RECEIVERS)
def server_and_receiver(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """A server of the test's own, which it may kill, and a receiver there."""
    make, receive = RECEIVERS[request.param]
    server = make()
    yield server, receive(server)
    server.program.kill()


async def test_a_receiver_that_is_gone_is_said_once_and_gets_it_all_later(
    server_and_receiver: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One line when it goes, one when it is back, and not an addition lost."""
    server, receiver = server_and_receiver
    caplog.set_level(logging.INFO)
    counter = receiver.metrics.counter("c")
    counter.add(5)
    await receiver.flush()
    assert await receiver.counter("c_total", {}) == 5
    server.program.kill()
    while await receiver.pusher.flush():  # TCP hears of it at the second write
        counter.add()
    for _ in range(3):
        counter.add(7)
        assert not await receiver.pusher.flush()
    said = [record for record in caplog.records if record.name == "kitmsg.metrics"]
    assert [record.levelname for record in said] == ["WARNING"]
    assert "takes no metrics" in said[0].getMessage()
    before = receiver.metrics.value("c_total")
    server.program.start()
    while not await receiver.pusher.flush():
        await asyncio.sleep(0.05)
    await receiver.flush()
    # A receiver that forgets at its end has what was counted since the flush before it.
    wanted = {before, before - 5}
    assert await receiver.counter("c_total", {}) in wanted
    said = [record for record in caplog.records if record.name == "kitmsg.metrics"]
    assert [record.levelname for record in said] == ["WARNING", "INFO"]
    assert "takes metrics again" in said[1].getMessage()
    others = [r for r in caplog.records if r.name.startswith("opentelemetry")]
    assert others == []
    await receiver.pusher.close()


async def test_receivers_that_are_gone_are_each_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Repeated lines of one kind are folded, and these are of two."""
    for _ in range(2):
        receiver = Pushed(f"graphite://127.0.0.1:{free_port()}")
        assert not await receiver.pusher.flush()
        await receiver.close()
    kinds = {record.msg for record in caplog.records}
    assert len(kinds) == len(caplog.records) == 2


async def test_memory_does_not_grow_for_a_receiver_that_is_gone() -> None:
    """However long it is gone, and however much is counted meanwhile."""
    server = StatsDExporter()
    receiver = DogStatsDReceiver(server)
    histogram = receiver.metrics.histogram("h", labels=("n",))
    series = [histogram.labels(n=str(number)) for number in range(50)]

    async def count(flushes: int) -> None:
        for _ in range(flushes):
            for each in series:
                for value in range(30):
                    each.observe(value)
            await receiver.pusher.flush()

    await count(2)
    server.program.kill()
    await count(5)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await count(30)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert not receiver.pusher.is_well
    assert grown < 50 * 30 * 30 * 8  # less than a number for each observation
    await receiver.pusher.close()


class Recorder:
    """A backend that notes when it is pushed to, and can hang or fail."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.hangs = False
        self.error: Exception | None = None
        self.is_closed = False

    async def push(self, families: Iterable[Family], /) -> None:
        list(families)
        self.times.append(asyncio.get_running_loop().time())
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        self.is_closed = True


def pusher(backend: Recorder, interval: float = 10.0) -> Pusher:
    return Pusher(backend, MemoryMetrics().collect, name="toy://h", interval=interval)


async def test_flushes_are_an_interval_apart_and_one_is_at_the_end(kit: Any) -> None:
    """In virtual time."""
    backend = Recorder()
    loop = pusher(backend)
    start = asyncio.get_running_loop().time()
    loop.start()
    await asyncio.sleep(35)
    await loop.close()
    assert [round(at - start) for at in backend.times] == [10, 20, 30, 35]
    assert backend.is_closed


async def test_a_receiver_that_hangs_is_given_up_and_does_not_hold_the_end(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A flush ends after 10 s, the last one after 2, so that a drain ends."""
    backend = Recorder()
    backend.hangs = True
    loop = pusher(backend)
    start = asyncio.get_running_loop().time()
    loop.start()
    await asyncio.sleep(21)
    await loop.close()
    assert asyncio.get_running_loop().time() - start == pytest.approx(23, abs=0.1)
    assert len([r for r in caplog.records if r.levelname == "WARNING"]) == 1


async def test_a_backend_with_a_bug_ends_no_loop(
    kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    backend = Recorder()
    backend.error = KeyError("bug")
    loop = pusher(backend)
    loop.start()
    await asyncio.sleep(25)
    backend.error = None
    await asyncio.sleep(10)
    assert loop.is_well
    assert len(backend.times) == 3
    await loop.close()
