"""Publisher of what is heard and not stored, in a process of its own.

The hearer says each time that it has handled another `_STEP` messages, so that there are
never more than `_AHEAD` under way: nobody drops one.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.peers.events.orders import Meter, Order, order
from kitmsg.bus.nats import NatsBus
from kitmsg.events.envelope import Writer, new_event_id
from kitmsg.message import encode_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers import Setting
    from kitmsg.bus import Bus
    from kitmsg.message import Message

__all__ = ["HeardMeter", "faststream_message", "serve"]

_STEP: Final = 250
_AHEAD: Final = 1000

_Heard = tuple[str, bytes, bytes]


class HeardMeter(Meter):
    """Counts what is heard, and tells the publisher.

    Args:
        bus: Where the publisher is.
        name: Its variant.
        calls: How many are published.
    """

    def __init__(self, bus: Bus, name: str, calls: int) -> None:
        super().__init__(calls)
        self._bus = bus
        self._name = name
        self._wanted = calls

    def note(self) -> int:
        """Count one; returns how many there were."""
        count = super().note()
        if not count % _STEP:
            self._bus.publish(f"flood.{self._name}.heard", b"")
        return count

    async def wait(self) -> dict[str, float]:
        """Have them published, and return what was measured."""
        self._bus.publish(f"flood.{self._name}.begin", b"%d" % self._wanted)
        return await super().wait()


class _Flood:
    def __init__(self, bus: Bus, made: Callable[[int], _Heard]) -> None:
        self._bus = bus
        self._made = made
        self._left: list[_Heard] = []
        self._room = 0

    def begin(self, message: Message) -> None:
        self._left = [self._made(n) for n in range(int(message.data))]
        self._room = _AHEAD
        self._go_on()

    def heard(self, _: Message) -> None:
        self._room += _STEP
        self._go_on()

    def _go_on(self) -> None:
        while self._left and self._room:
            subject, data, block = self._left.pop()
            self._bus.publish(subject, data, "", block)
            self._room -= 1


def _of_kitmsg() -> Callable[[int], _Heard]:
    from benchmarks.peers.events.kit import Placed, placed

    writer = Writer(Placed)

    def made(number: int) -> _Heard:
        event = placed(order(number))
        block = encode_headers(writer.headers(new_event_id(), "bench"))
        return writer.subject(event), writer.payload(event), block

    return made


def faststream_message(given: Order) -> tuple[bytes, dict[str, str]]:
    """Return payload and headers of an order, as FastStream publishes them."""
    headers = {
        "content-type": "application/json",
        "correlation_id": str(uuid.uuid4()),
    }
    return msgspec.json.encode(given), headers


def _of_faststream(number: int) -> _Heard:
    data, headers = faststream_message(order(number))
    return f"heard.placed.{number}", data, encode_headers(headers)


async def serve(setting: Setting) -> Bus:
    """Publish whenever the hearer wants it."""
    bus = await NatsBus.connect(setting.url)
    made = _of_kitmsg() if setting.variant == "kit" else _of_faststream
    flood = _Flood(bus, made)
    bus.subscribe(f"flood.{setting.variant}.begin", flood.begin)
    bus.subscribe(f"flood.{setting.variant}.heard", flood.heard)
    await bus.flush()
    return bus
