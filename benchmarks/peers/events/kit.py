"""kitmsg as its users write it, every option at its default."""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final

import msgspec

import kitmsg
from benchmarks.peers.events.flood import HeardMeter
from benchmarks.peers.events.orders import Meter, Order, ended, order
from benchmarks.peers.kit import Calculator
from benchmarks.peers.trial import Calls, repeat
from kitmsg import Event, Service, endpoint, every, subscribe
from kitmsg.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.peers import Setting
    from benchmarks.peers.trial import Trial
    from kitmsg import Kit

__all__ = ["Placed", "connect", "placed", "serve"]

_BATCH: Final = 256
_STREAMS: Final = ("bench", "tell-mailer")


class Placed(Event, subject="bench.placed.{order_id}"):
    """The fields of `orders.Order`."""

    order_id: str
    customer: str
    cents: int
    express: bool
    items: list[str]


class Consumer(Service):
    """Counts orders."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @subscribe(Placed, since="first")
    async def count(self, event: Placed) -> None:
        """Count one."""
        self._meter.note()


class BatchConsumer(Service):
    """Counts orders in lists."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    @subscribe(Placed, since="first", batch=_BATCH)
    async def count(self, events: list[Placed]) -> None:
        """Count each."""
        for _ in events:
            self._meter.note()


class Taker(Service):
    """Says that an order came."""

    def __init__(self, came: Callable[[], None]) -> None:
        self._came = came

    @subscribe(Placed)
    async def take(self, event: Placed) -> None:
        """Say so."""
        self._came()


class Hearer(Service):
    """Counts orders as they happen."""

    def __init__(self, meter: HeardMeter) -> None:
        self._meter = meter

    @subscribe(Placed, each="instance", stored=False)
    async def hear(self, event: Placed) -> None:
        """Count one."""
        self._meter.note()


class Subscriber(Calculator):
    """Adds numbers, and has work of each kind beside."""

    @subscribe(Placed)
    async def take(self, event: Placed) -> None:
        """Take an order, which never comes."""

    @endpoint(durable=True)
    async def send(self, to: str) -> None:
        """Send a letter, which nobody asks for."""

    @every(hours=24)
    async def tidy(self) -> None:
        """Tidy up, tomorrow."""


class Mailer(Service):
    """Takes what it is told, when somebody serves it."""

    @endpoint(durable=True)
    async def send(self, to: str, text: str) -> None:
        """Send a letter."""


def placed(given: Order) -> Placed:
    """Return an order as an event."""
    return Placed(*msgspec.structs.astuple(given))


class _Trial:
    """A trial with a kit of its own, whose streams are made anew for each measurement."""

    def __init__(self, setting: Setting) -> None:
        self._url = setting.url
        self.kit: Kit

    async def prepare(self, in_flight: int, calls: int) -> None:
        """Begin anew."""
        if hasattr(self, "kit"):
            await self.kit.close()
        self.kit = await kitmsg.connect(self._url, makes_streams=True)
        for stream in _STREAMS:
            with contextlib.suppress(NotFound):
                await self.kit.jetstream.delete_stream(stream)


class _Consume(_Trial):
    consumer: type[Consumer | BatchConsumer] = Consumer

    async def prepare(self, in_flight: int, calls: int) -> None:
        await super().prepare(in_flight, calls)
        # Whole batches, as the last one would wait to be full.
        count = -(-calls // _BATCH) * _BATCH
        await self.kit.publish_many(placed(order(n)) for n in range(count))

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        meter = Meter(calls)
        host = await self.kit.serve(self.consumer(meter))
        found = await meter.wait()
        await host.drain()
        return found


class _Batches(_Consume):
    consumer = BatchConsumer


class _Publish(_Trial):
    async def prepare(self, in_flight: int, calls: int) -> None:
        await super().prepare(in_flight, calls)
        await self.kit.publish(placed(order(0)))

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        orders = iter([placed(order(n)) for n in range(calls)])
        return await repeat(lambda: self.kit.publish(next(orders)), in_flight, calls)


class _Many(_Publish):
    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        orders = [placed(order(n)) for n in range(calls)]
        begun, cpu = perf_counter(), process_time()
        await self.kit.publish_many(orders)
        seconds, cpu = perf_counter() - begun, process_time() - cpu
        return {**ended([seconds / calls], cpu / calls), "calls": calls}


class _Deliver(_Publish):
    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        came = asyncio.Event()
        times: list[float] = []
        begun = 0.0

        def take() -> None:
            times.append(perf_counter() - begun)
            came.set()

        host = await self.kit.serve(Taker(take))
        cpu = process_time()
        for number in range(calls):
            came.clear()
            begun = perf_counter()
            await self.kit.publish(placed(order(number)))
            await came.wait()
        cpu = process_time() - cpu
        await host.drain()
        return ended(times, cpu)


class _Tell(_Trial):
    async def prepare(self, in_flight: int, calls: int) -> None:
        await super().prepare(in_flight, calls)
        host = await self.kit.serve(Mailer())  # which makes the stream
        await host.drain()

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        def tell() -> Awaitable[None]:
            return self.kit.tell(Mailer).send("ann@example.org", "thank you")

        return await repeat(tell, in_flight, calls)


class _Hear(_Trial):
    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        meter = HeardMeter(self.kit.bus, "kit", calls)
        host = await self.kit.serve(Hearer(meter))
        found = await meter.wait()
        await host.drain()
        return found


_TRIALS: Final[dict[str, Callable[[Setting], Trial]]] = {
    "consume": _Consume,
    "batches": _Batches,
    "publish": _Publish,
    "many": _Many,
    "deliver": _Deliver,
    "tell": _Tell,
    "hear": _Hear,
}


async def serve(setting: Setting) -> Kit:
    """Serve sum, by a service with a subscription or without."""
    kit = await kitmsg.connect(setting.url, makes_streams=True)
    await kit.serve(_calculator(setting)())
    return kit


def _calculator(setting: Setting) -> type[Calculator]:
    return Subscriber if setting.variant == "rpc-events" else Calculator


async def _rpc(setting: Setting) -> Trial:
    kit = await kitmsg.connect(setting.url)
    client = kit.client(_calculator(setting))
    return Calls(lambda: client.sum(1, 2))


async def connect(setting: Setting) -> Trial:
    """Return the trial of the variant."""
    if setting.variant.startswith("rpc"):
        return await _rpc(setting)
    return _TRIALS[setting.variant](setting)
