"""nats-py's JetStream, with msgspec for JSON, and nothing on it.

The variant ``publish-id`` is ``publish`` with a message id, without which a retry may store
an event twice.
"""

from __future__ import annotations

import asyncio
from itertools import count
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final

import msgspec
import nats
from nats.errors import TimeoutError as NothingCame

import kitmsg
from benchmarks.peers.events.orders import Meter, Order, ended, filled, order, stored_in
from benchmarks.peers.trial import repeat
from kitmsg.jetstream import Outgoing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.client import Client
    from nats.js.api import PubAck
    from nats.js.client import JetStreamContext

    from benchmarks.peers import Setting
    from benchmarks.peers.trial import Trial

__all__ = ["connect"]

_BATCH: Final = 256
_MANY: Final = 1024
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Order).decode


class _Trial:
    """A trial with a stream of its own, which is made anew for each measurement."""

    def __init__(self, setting: Setting) -> None:
        self._url = setting.url
        self._variant = setting.variant
        self._stream = f"nats-{setting.variant}"
        self._client: Client | None = None
        self._js: JetStreamContext

    async def prepare(self, in_flight: int, calls: int) -> None:
        """Begin anew."""
        async with kitmsg.connect(self._url) as kit:
            await stored_in(kit.jetstream, self._stream, f"{self._stream}.>")
            await self._fill(kit, calls)
        if self._client is None:
            self._client = await nats.connect(self._url)
            self._js = self._client.jetstream(publish_async_max_pending=_MANY)

    async def _fill(self, kit: kitmsg.Kit, calls: int) -> None: ...

    def _subject(self, given: Order) -> str:
        return f"{self._stream}.{given.order_id}"


class _Consume(_Trial):
    async def _fill(self, kit: kitmsg.Kit, calls: int) -> None:
        await filled(
            kit.jetstream, calls, lambda o: Outgoing(self._subject(o), _encode(o))
        )

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        meter = Meter(calls)
        pulled = await self._js.pull_subscribe(f"{self._stream}.>", "bare")
        left = calls
        while left:
            for message in await pulled.fetch(min(left, _BATCH), 5.0):
                _decode(message.data)
                meter.note()
                await message.ack()
                left -= 1
        found = await meter.wait()
        await pulled.unsubscribe()
        return found


class _Publish(_Trial):
    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        orders = iter([order(n) for n in range(calls)])
        ids = count()
        has_id = self._variant.endswith("-id")

        def publish() -> Awaitable[PubAck]:
            given = next(orders)
            headers = {"Nats-Msg-Id": f"id{next(ids)}"} if has_id else None
            return self._js.publish(
                self._subject(given), _encode(given), headers=headers
            )

        return await repeat(publish, in_flight, calls)


class _Many(_Trial):
    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        orders = [order(n) for n in range(calls)]
        begun, cpu = perf_counter(), process_time()
        acks = [
            await self._js.publish_async(
                self._subject(given), _encode(given), wait_stall=5.0
            )
            for given in orders
        ]
        await self._js.publish_async_completed()
        for ack in acks:
            ack.result()
        seconds, cpu = perf_counter() - begun, process_time() - cpu
        return {**ended([seconds / calls], cpu / calls), "calls": calls}


class _Deliver(_Trial):
    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        came = asyncio.Event()
        times: list[float] = []
        begun = 0.0

        async def pull() -> None:
            pulled = await self._js.pull_subscribe(f"{self._stream}.>", "bare")
            ready.set()
            while True:
                try:
                    found = await pulled.fetch(1, 5.0)
                except NothingCame:
                    continue
                for message in found:
                    _decode(message.data)
                    times.append(perf_counter() - begun)
                    came.set()
                    await message.ack()

        ready = asyncio.Event()
        pulling = asyncio.create_task(pull())
        await ready.wait()
        cpu = process_time()
        for number in range(calls):
            given = order(number)
            came.clear()
            begun = perf_counter()
            await self._js.publish(self._subject(given), _encode(given))
            await came.wait()
        cpu = process_time() - cpu
        pulling.cancel()
        return ended(times, cpu)


_TRIALS: Final[dict[str, Callable[[Setting], Trial]]] = {
    "consume": _Consume,
    "publish": _Publish,
    "publish-id": _Publish,
    "many": _Many,
    "deliver": _Deliver,
}


async def connect(setting: Setting) -> Trial:
    """Return the trial of the variant."""
    return _TRIALS[setting.variant](setting)
