"""``kitmsg_client_...``: every client counts the calls that it makes."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.errors import NotFound, Unavailable
from kitmsg.metrics.calls import MOST_SERIES, OTHER
from kitmsg.metrics.clients import CLIENTS, ClientCounts
from kitmsg.metrics.families import PROCESS, joined
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.prometheus import render
from kitmsg.middleware import metrics
from kitmsg.middleware.retry import retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus.memory import MemoryBus


class Sold(Exception):
    """There is none left."""


class Shop(Service):
    """Its name is another in each test: the counts are the process's."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.is_open = asyncio.Event()

    @endpoint(raises=[Sold], idempotent=True)
    async def buy(self) -> int:
        if self.failures:
            raise self.failures.pop()
        return 1

    @endpoint
    async def wait(self) -> None:
        await self.is_open.wait()

    @endpoint
    async def watch(self, fails: bool) -> AsyncIterator[int]:
        yield 1
        await self.is_open.wait()
        if fails:
            raise NotFound("no more")


@pytest.fixture
def shop() -> type[Shop]:
    return type("Shop", (Shop,), {"name": f"shop{uuid.uuid4().hex[:8]}"})


@pytest.fixture
def kit(memory_bus: MemoryBus) -> Kit:
    return Kit(memory_bus)


async def test_a_call_is_counted_by_its_code(kit: Kit, shop: type[Shop]) -> None:
    """Those of the service's errors, declared ones too, and that of nobody there."""
    client, service = kit.client(shop), shop()
    with pytest.raises(Unavailable):
        await client.buy()
    await kit.serve(service)
    service.failures = [NotFound("none"), Sold()]
    assert [type(await _caught(client.buy())) for _ in range(3)] == [
        *(Sold, NotFound),
        int,
    ]
    counts = CLIENTS.of(f"{shop.name}.buy")
    codes = ("ok", "not_found", "failed_precondition", "unavailable")
    assert [counts.count(code) for code in codes] == [1, 1, 1, 1]
    assert counts.in_flight == 0


async def test_a_call_is_in_flight_until_its_caller_gives_up(
    kit: Kit, shop: type[Shop]
) -> None:
    await kit.serve(shop())
    counts = CLIENTS.of(f"{shop.name}.wait")
    call = asyncio.ensure_future(kit.client(shop).wait())
    async with asyncio.timeout(10):
        while not counts.in_flight:
            await asyncio.sleep(0)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert (counts.in_flight, counts.count("cancelled")) == (0, 1)


async def test_a_stream_is_a_call_until_its_end(kit: Kit, shop: type[Shop]) -> None:
    """That of its own error, or that of a reader who leaves."""
    service = shop()
    await kit.serve(service)
    client: Any = kit.client(shop)
    counts = CLIENTS.of(f"{shop.name}.watch")
    left = await client.watch(fails=False)
    assert (counts.in_flight, counts.count("cancelled")) == (1, 0)
    await left.aclose()
    assert (counts.in_flight, counts.count("cancelled")) == (0, 1)
    stream = await client.watch(fails=False)
    assert counts.in_flight == 1
    service.is_open.set()
    assert [item async for item in stream] == [1]
    assert (counts.in_flight, counts.count("ok")) == (0, 1)
    with pytest.raises(NotFound):
        [item async for item in client.watch(fails=True)]
    assert (counts.in_flight, counts.count("not_found")) == (0, 1)


async def test_each_attempt_of_a_retry_is_a_call(kit: Kit, shop: type[Shop]) -> None:
    """Because each is one for the service."""
    service = shop()
    await kit.serve(service)
    service.failures = [Unavailable("soon").before(f"{shop.name}.buy")]
    assert await kit.client(shop, middleware=(retry(base=0.001),)).buy() == 1
    counts = CLIENTS.of(f"{shop.name}.buy")
    assert (counts.count("unavailable"), counts.count("ok")) == (1, 1)


async def test_a_middleware_that_counts_does_it_alone(
    kit: Kit, shop: type[Shop]
) -> None:
    """So nothing is counted twice; around a retry, it counts calls."""
    service, provider = shop(), MemoryMetrics()
    await kit.serve(service)
    service.failures = [Unavailable("soon").before(f"{shop.name}.buy")]
    around = (metrics(provider, side="client"), retry(base=0.001))
    await kit.client(shop, middleware=around).buy()
    name = f"{shop.name}.buy"
    labels = {"service": shop.name, "endpoint": name, "code": "ok"}
    assert provider.value("kitmsg_client_requests_total", **labels) == 1
    assert CLIENTS.of(name).begun == 0
    await kit.client(shop).buy()
    text = render(joined([*PROCESS.collect(), *provider.collect()]))
    lines = [line for line in text.splitlines() if f'endpoint="{name}"' in line]
    assert len(lines) == len({line.partition("}")[0] for line in lines})
    series = f'service="{shop.name}",endpoint="{name}",code="ok"'
    assert f"kitmsg_client_requests_total{{{series}}} 2.0\n" in text
    assert f"kitmsg_client_duration_seconds_count{{{series}}} 2\n" in text


def test_names_are_bounded() -> None:
    """Those that come from requests are counted together."""
    counts = ClientCounts()
    for number in range(MOST_SERIES + 2):
        counts.of(f"a.b{number}").begun += 1
    assert counts.of(OTHER).begun == 2
    assert counts.of("a.b0").begun == 1


def test_nothing_is_shown_of_a_process_that_calls_nobody() -> None:
    assert list(ClientCounts().collect()) == []


async def _caught(call: Any) -> Any:
    try:
        return await call
    except Exception as error:  # noqa: BLE001  # told by its type
        return error
