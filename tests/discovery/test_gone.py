"""Systems that are gone: waiting for them costs nothing, and is known at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from kitmsg.discovery.address import instancer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar

GONE = [
    "dns://x.test:80?resolver=127.0.0.1:1&timeout=0.2",
    "srv://x.test?resolver=127.0.0.1:1&timeout=0.2",
    "consul://127.0.0.1:1/pay",
    "etcd://127.0.0.1:1/pay/",
    "zk://127.0.0.1:1/pay",
    "eureka://127.0.0.1:1/eureka/PAY",
]
REGISTRIES = [each for each in GONE if "resolver" not in each]


async def test_a_system_that_is_gone_costs_nothing_to_wait_for() -> None:
    """No library behind one spins, for those who look and for those who announce."""
    watched = [instancer(each) for each in GONE]
    entries = [registrar(each, Instance(address="a:1")) for each in REGISTRIES]
    for each in watched:
        each.watch(lambda _: None)
    for entry in entries:
        await entry.start()
    try:
        states = await asyncio.gather(*(each.settled() for each in watched))
        assert all(state.error is not None for state in states)
        await asyncio.sleep(1.0)  # the first attempts, which come soon
        began = time.process_time()
        await asyncio.sleep(2.0)
        used = time.process_time() - began
    finally:
        for each in watched:
            await each.close()
        for entry in entries:
            await entry.stop()
    assert used < 0.3  # of all ten together; one that spins has more than a second


@pytest.mark.parametrize("address", GONE)
async def test_that_nobody_answers_is_known_at_once(address: str) -> None:
    """Where the machine says so, no time limit has to pass."""
    made = instancer(address)
    made.watch(lambda _: None)
    async with asyncio.timeout(4):  # less than the 5 s that an answer may take
        state = await made.settled()
    await made.close()
    assert state.error is not None
