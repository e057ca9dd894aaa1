"""The promises of every instancer, against the system it is for."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.bus.proxy import Proxy
from tests.discovery.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.discovery.instancer import Instancer
    from tests.discovery.systems import System

    Open = Callable[[str], Awaitable[Instancer]]
    Watch = Callable[[str], Awaitable[Watching]]

ALL = ["dns", "srv", "consul", "etcd", "zk", "eureka", "bus"]
OVER_TCP = ["consul", "etcd", "zk", "eureka"]

every = pytest.mark.parametrize("system_name", ALL, indirect=True)
slow_starters = ["eureka"]  # its own return is tested once
quick = pytest.mark.parametrize(
    "system_name", [each for each in ALL if each not in slow_starters], indirect=True
)
over_tcp = pytest.mark.parametrize("system_name", OVER_TCP, indirect=True)


@every
async def test_the_first_set_comes_at_once_and_each_change_as_a_whole_set(
    system: System, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    watching = await watch(system.address(service))
    await watching.until(two)
    assert len(watching.told) == 1
    state = watching.instancer.state
    assert (state.age, state.error) == (0.0, None)
    await watching.until(await system.put(service, 3))
    await watching.until(await system.put(service, 1))


@every
async def test_an_equal_set_is_not_told_again(
    system: System, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    watching = await watch(system.address(service))
    await watching.until(two)
    await system.put(service, 2)  # written anew, and no different
    await watching.until(await system.put(service, 3))
    assert [len(told) for told in watching.told] == [2, 3]


@every
async def test_a_service_without_instances_is_an_empty_set(
    system: System, watch: Watch, service: str
) -> None:
    await system.put(service, 0)
    watching = await watch(system.address(service))
    await watching.until(set())
    await watching.until(await system.put(service, 1))


@every
async def test_a_killed_system_leaves_the_last_good_set_until_it_returns(
    system: System, watch: Watch, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kitmsg.discovery")
    two = await system.put(service, 2)
    watching = await watch(system.address(service))
    await watching.until(two)
    system.program.kill()
    await watching.until_lost()
    state = watching.instancer.state
    assert {each.address for each in state.instances} == two
    await asyncio.sleep(0.05)
    assert watching.instancer.state.age > state.age
    await asyncio.to_thread(system.program.start)
    await watching.until_found()
    await system.put(service, 2)
    three = await system.put(service, 3)
    if watching.addresses is not None and not two & three:  # ids that it gives out
        three |= two
    await watching.until(three)
    assert all(len(told) >= 2 for told in watching.told)  # nobody was taken away
    lines = [r.getMessage() for r in caplog.records if r.name == "kitmsg.discovery"]
    own = [line for line in lines if watching.instancer.name in line]
    assert len(own) == 2, own
    assert own[0].endswith("; 2 instances of before stay")


@every
async def test_a_frozen_system_is_noticed_and_its_set_stays(
    system: System, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    watching = await watch(system.address(service))
    await watching.until(two)
    system.program.freeze()
    await watching.until_lost()
    assert watching.addresses == two
    system.program.thaw()
    await watching.until_found()
    assert len(watching.told) == 1
    await watching.until(await system.put(service, 3))


@over_tcp
async def test_a_partition_without_a_word_is_noticed_and_heals(
    system: System, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    async with Proxy(system.port) as proxy:  # type: ignore[attr-defined]
        port = int(proxy.url.rpartition(":")[2])
        watching = await watch(system.address(service, port))
        await watching.until(two)
        proxy.drops_up = proxy.drops_down = True
        await watching.until_lost()
        assert watching.addresses == two
        three = await system.put(service, 3)
        proxy.drops_up = proxy.drops_down = False
        await watching.until(three)
        assert watching.instancer.state.error is None
        await watching.instancer.close()


@quick
async def test_a_system_that_comes_later_is_found(
    system: System, opened: Open, service: str
) -> None:
    instancer = await opened(system.address(service))
    system.program.kill()
    try:
        watching = Watching(instancer)
        await watching.until_lost()
        assert watching.told == []
    finally:
        await asyncio.to_thread(system.program.start)
    await watching.until(await system.put(service, 2))


@every
@pytest.mark.parametrize("trouble", ["well", "frozen"])
async def test_close_ends_tasks_threads_and_sockets(
    system: System, opened: Open, service: str, trouble: str
) -> None:
    two = await system.put(service, 2)
    instancer = await opened(system.address(service))
    before = held()
    watching = Watching(instancer)
    await watching.until(two)
    if trouble == "frozen":
        system.program.freeze()
        await watching.until_lost()
    await instancer.close()
    now = held()  # less of it when the bus's own connection is lost meanwhile
    assert all(a <= b for a, b in zip(now, before, strict=True)), (now, before)
    assert instancer.state.instances == ()


def held() -> tuple[int, int, int]:
    """Return how many tasks, threads and sockets this process has."""
    sockets = psutil.Process(os.getpid()).net_connections(kind="inet")
    return len(asyncio.all_tasks()), threading.active_count(), len(sockets)
