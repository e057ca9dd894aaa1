"""FastStream's subscribers; of JetStream's, in each setting that may be the best one.

``consume`` pulls batches and handles one by one, ``consume-push`` is pushed to, as a member
of a queue group, and ``consume-batch`` is given lists.  More workers are slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from faststream.nats import JStream, NatsBroker, PullSub
from nats.js.api import DeliverPolicy
from pydantic import BaseModel

import kitmsg
from benchmarks.peers.events.flood import HeardMeter, faststream_message
from benchmarks.peers.events.orders import Meter, filled, stored_in
from benchmarks.peers.stream import make_broker
from kitmsg.bus.nats import NatsBus
from kitmsg.jetstream import Outgoing

if TYPE_CHECKING:
    from benchmarks.peers import Setting
    from benchmarks.peers.events.orders import Order
    from benchmarks.peers.trial import Trial

__all__ = ["connect"]

_STREAM: Final = "faststream"
_SUBJECT: Final = f"{_STREAM}.placed"
_BATCH: Final = 256
_SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "consume": {"durable": "bench", "pull_sub": PullSub(_BATCH)},
    "consume-push": {"queue": "bench"},
    "consume-batch": {"durable": "bench", "pull_sub": PullSub(_BATCH, batch=True)},
}


class Placed(BaseModel):
    """The fields of `orders.Order`."""

    order_id: str
    customer: str
    cents: int
    express: bool
    items: list[str]


class _Consume:
    def __init__(self, setting: Setting) -> None:
        self._url = setting.url
        self._variant = setting.variant

    async def prepare(self, in_flight: int, calls: int) -> None:
        async with kitmsg.connect(self._url) as kit:
            await stored_in(kit.jetstream, _STREAM, f"{_SUBJECT}.>")
            # Whole batches: it waits for the last one to be full.
            await filled(kit.jetstream, -(-calls // _BATCH) * _BATCH, _outgoing)

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        meter = Meter(calls)
        broker = make_broker(self._url)
        subscriber = broker.subscriber(
            f"{_SUBJECT}.>",
            stream=JStream(_STREAM, declare=False),
            deliver_policy=DeliverPolicy.ALL,
            no_reply=True,
            **_SETTINGS[self._variant],
        )
        if self._variant == "consume-batch":

            @subscriber
            async def count_all(events: list[Placed]) -> None:
                for _ in events:
                    meter.note()
        else:

            @subscriber
            async def count(event: Placed) -> None:
                meter.note()

        await broker.start()
        found = await meter.wait()
        await broker.stop()
        return found


def _outgoing(given: Order) -> Outgoing:
    data, headers = faststream_message(given)
    return Outgoing(f"{_SUBJECT}.{given.order_id}", data, headers)


class _Hear:
    def __init__(self, setting: Setting) -> None:
        self._url = setting.url

    async def prepare(self, in_flight: int, calls: int) -> None: ...

    async def measure(self, in_flight: int, calls: int) -> dict[str, float]:
        bus = await NatsBus.connect(self._url)
        meter = HeardMeter(bus, "faststream", calls)
        broker: NatsBroker = make_broker(self._url)

        @broker.subscriber("heard.placed.*", no_reply=True)
        async def hear(event: Placed) -> None:
            meter.note()

        await broker.start()
        # Else the flood begins before the server knows of the subscription.
        await (await broker.connect()).flush()
        found = await meter.wait()
        await broker.stop()
        await bus.close()
        return found


async def connect(setting: Setting) -> Trial:
    """Return the trial of the variant."""
    return _Hear(setting) if setting.variant == "hear" else _Consume(setting)
