"""Many asks, at once and one after the other, over a real server.

``KITMSG_LONG=1`` makes the sequence as long as the promise says.
"""

import asyncio
import gc
import os
from collections import Counter

import pytest

from kitmsg import Kit, Service, endpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SEQUENCE = 100_000 if os.environ.get("KITMSG_LONG") else 3_000
AT_ONCE = 10_000


class Add(Service):
    """Adds."""

    @endpoint
    async def sum(self, a: int, b: int) -> int:
        return a + b

    @endpoint
    async def slow_sum(self, a: int, b: int) -> int:
        await asyncio.sleep(0.001)
        return a + b


class Patient(Add):
    """Refuses nobody: all may come in one read, before the first of them is done."""

    name = "add"
    mailbox = AT_ONCE
    off = ("shedding",)


async def test_ten_thousand_in_flight_are_all_answered(kit_nats: Kit) -> None:
    """One client with 10,000 asks at once gets 10,000 right answers, if all may wait."""
    await kit_nats.serve(Patient())
    add = kit_nats.client(Add, timeout=60.0)
    sums = await asyncio.gather(*(add.sum(n, 1) for n in range(AT_ONCE)))
    assert sums == [n + 1 for n in range(AT_ONCE)]


async def test_a_long_sequence_leaves_nothing_behind(kit_nats: Kit) -> None:
    """After thousands of calls there are no more objects than after a hundred."""
    await kit_nats.serve(Add())
    add = kit_nats.client(Add)

    async def calls(n: int) -> Counter[str]:
        for i in range(n):
            assert await add.sum(i, 1) == i + 1
        gc.collect()
        return Counter(type(thing).__name__ for thing in gc.get_objects())

    before = await calls(200)
    after = await calls(SEQUENCE)
    grown = {name: n - before[name] for name, n in after.items()}
    assert {name: n for name, n in grown.items() if n > 50} == {}
