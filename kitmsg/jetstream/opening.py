"""Finds the store behind a bus."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from kitmsg.bus.memory import MemoryBus
from kitmsg.jetstream.memory import MemoryJetStream
from kitmsg.jetstream.nats import NatsJetStream

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.jetstream import JetStream

__all__ = ["jetstream_of"]

# A bus in memory has what it keeps as long as it is there itself.
_in_memory: weakref.WeakKeyDictionary[MemoryBus, MemoryJetStream] = (
    weakref.WeakKeyDictionary()
)


def jetstream_of(bus: Bus) -> JetStream:
    """Return the store behind `bus`: the server's, or for a `MemoryBus` one in memory.

    No message is sent yet: whether there is a store shows when it is used.
    """
    if not isinstance(bus, MemoryBus):
        return NatsJetStream(bus)
    found = _in_memory.get(bus)
    if found is None:
        found = _in_memory[bus] = MemoryJetStream(weakref.proxy(bus))
    return found
