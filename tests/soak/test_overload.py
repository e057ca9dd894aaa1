"""A service offered ten times what it can do: everybody is answered, work goes on.

In virtual time on the in-memory bus, so that it is exact; `benchmarks` measures the same
over a real server.  ``KITMSG_LONG=1`` makes it as long as the promise says.
"""

import asyncio
import os
from collections import Counter

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.errors import KitError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 20.0 if os.environ.get("KITMSG_LONG") else 3.0
TURN = 0.01
PEAK = 4 / TURN


class Busy(Service):
    """Does 400 turns a second, no more."""

    concurrency = 4
    mailbox = 16

    @endpoint
    async def work(self) -> int:
        await asyncio.sleep(TURN)
        return 1


async def offer(kit: Kit, per_second: float, seconds: float) -> Counter[str]:
    """Ask at a steady rate; return how many asks ended how."""
    busy = kit.client(Busy, timeout=1.0)
    ends: Counter[str] = Counter()

    async def ask() -> None:
        try:
            await busy.work()
            ends["ok"] += 1
        except KitError as error:
            ends[error.code.value] += 1

    loop = asyncio.get_running_loop()
    asks = set()
    begin = loop.time()
    for n in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, begin + n / per_second - loop.time()))
        task = asyncio.create_task(ask())
        asks.add(task)
        task.add_done_callback(asks.discard)
    await asyncio.gather(*asks)
    return ends


async def test_goodput_holds_at_ten_times_the_load(kit: Kit) -> None:
    """Every ask is answered, and nine tenths of the peak are still done."""
    await kit.serve(Busy())
    ends = await offer(kit, 10 * PEAK, SECONDS)
    assert set(ends) <= {"ok", "resource_exhausted", "unavailable"}
    assert ends.total() == int(10 * PEAK * SECONDS)
    assert ends["ok"] >= 0.9 * PEAK * SECONDS


async def test_a_second_member_takes_what_the_full_one_does_not(kit: Kit) -> None:
    """While one instance is full, the group's messages go to the one with room."""
    await kit.serve(Busy())
    alone = await offer(kit, 1.8 * PEAK, SECONDS)
    await kit.serve(Busy())
    together = await offer(kit, 1.8 * PEAK, SECONDS)
    assert alone["ok"] < 1.1 * PEAK * SECONDS
    assert together["ok"] >= 0.95 * 1.8 * PEAK * SECONDS
