"""The promises of every registrar, against the system it announces in."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from kitmsg.discovery.backoff import Backoff
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import Registrar, registrar
from tests.bus.proxy import Proxy
from tests.discovery.test_contract import held

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.discovery.systems import Registry
    from tests.discovery.watching import Watching

    Announce = Callable[..., Awaitable[Registrar]]
    Watch = Callable[[str], Awaitable[Watching]]

REGISTRIES = ["consul", "etcd", "zk", "eureka"]

every = pytest.mark.parametrize("system_name", REGISTRIES, indirect=True)

WHERE = "10.1.2.3:8080"


@pytest.fixture
async def announce() -> AsyncIterator[Announce]:
    """Starts registrars, until the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def started(
            address: str, where: str = WHERE, *, wait: bool = True, **facts: object
        ) -> Registrar:
            kept = registrar(address, Instance(address=where, **facts))  # type: ignore[arg-type]
            kept._backoff = Backoff(cap=1.0)  # no long waits
            stack.push_async_callback(kept.stop)
            await kept.start()
            if wait:
                async with asyncio.timeout(20):
                    await kept.announced()
            return kept

        yield started


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


@every
async def test_an_instance_is_found_with_its_facts_and_taken_back(
    system: Registry, watch: Watch, announce: Announce, service: str
) -> None:
    watching = await watch(system.address(service))
    facts = {
        "weight": 3.0,
        "zone": "eu-1",
        "version": "1.4.0",
        "tags": ("blue", "v2"),
        "metadata": {"team": "pay"},
    }
    kept = await announce(system.registration(service), **facts)
    await watching.until({WHERE})
    (found,) = watching.told[-1]
    assert (found.weight, found.zone, found.version) == (3.0, "eu-1", "1.4.0")
    assert found.tags == ("blue", "v2")
    assert found.metadata["team"] == "pay"
    await kept.stop()
    await watching.until(set())


@every
async def test_only_the_own_entry_is_taken_back(
    system: Registry, watch: Watch, announce: Announce, service: str
) -> None:
    others = await system.put(service, 2)
    watching = await watch(system.address(service))
    kept = await announce(system.registration(service))
    await watching.until({*others, WHERE})
    await kept.stop()
    await watching.until(others)
    await kept.stop()  # a second time is nothing
    await kept.start()  # and it may begin anew
    await watching.until({*others, WHERE})


@every
async def test_a_renewed_entry_stays(
    system: Registry, watch: Watch, announce: Announce, service: str
) -> None:
    watching = await watch(system.address(service))
    await announce(system.registration(service))
    await watching.until({WHERE})
    await asyncio.sleep(3.5)  # longer than any entry lives without a renewal
    assert len(watching.told) <= 2  # none, perhaps, and then the one


@every
async def test_a_forgotten_entry_is_announced_again(
    system: Registry, watch: Watch, announce: Announce, service: str
) -> None:
    watching = await watch(system.address(service))
    await announce(system.registration(service))
    await watching.until({WHERE})
    await system.forget(service)
    await watching.until(set())
    await watching.until({WHERE})


@every
async def test_a_system_that_returns_has_the_entry_again(
    system: Registry,
    watch: Watch,
    announce: Announce,
    service: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "kitmsg.discovery")
    kept = await announce(system.registration(service))
    system.program.kill()
    await until(lambda: kept.error is not None)
    await asyncio.to_thread(system.program.start)
    watching = await watch(system.address(service))
    await watching.until({WHERE})
    await until(lambda: kept.error is None)
    lines = [r.getMessage() for r in caplog.records if kept.name in r.getMessage()]
    assert len(lines) == 3, lines  # announced, lost, announced
    await kept.stop()
    await watching.until(set())


@every
async def test_an_entry_outlives_a_partition(
    system: Registry, watch: Watch, announce: Announce, service: str
) -> None:
    watching = await watch(system.address(service))
    async with Proxy(system.port) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        kept = await announce(system.registration(service, port))
        await watching.until({WHERE})
        proxy.drops_up = proxy.drops_down = True
        await until(lambda: kept.error is not None)
        await watching.until(set())  # it expired
        proxy.drops_up = proxy.drops_down = False
        await watching.until({WHERE})
        await kept.stop()
        await watching.until(set())


@every
async def test_a_killed_process_is_gone_when_its_entry_expires(
    system: Registry, watch: Watch, service: str
) -> None:
    watching = await watch(system.address(service))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.discovery.announcer"),
        *(system.registration(service), WHERE),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"announced\n"
    await watching.until({WHERE})
    process.kill()
    await process.wait()
    await watching.until(set())


@every
async def test_a_process_that_comes_back_at_once_has_its_entry(
    system: Registry, watch: Watch, announce: Announce, service: str
) -> None:
    watching = await watch(system.address(service))
    first = await announce(system.registration(service), version="1.0.0")
    await watching.until({WHERE})
    await announce(system.registration(service), version="1.1.0")
    await until(lambda: watching.told[-1] and watching.told[-1][0].version == "1.1.0")
    assert all(told for told in watching.told[1:])  # nobody saw it missing
    assert first.error is None


@every
async def test_a_hanging_system_holds_neither_start_nor_stop_up(
    system: Registry, announce: Announce, service: str
) -> None:
    before = held()
    system.program.freeze()
    kept = await announce(system.registration(service), wait=False)
    await until(lambda: kept.error is not None)
    async with asyncio.timeout(15):
        await kept.stop()
    system.program.thaw()
    assert held() == before
