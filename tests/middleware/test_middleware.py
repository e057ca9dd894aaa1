"""What all middlewares promise together."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry

from kitmsg import Service, endpoint, middleware
from kitmsg.bus.memory import MemoryBus
from kitmsg.context import Context, current
from kitmsg.endpoints import Middleware, chain
from kitmsg.errors import Code, KitError, NotFound, ResourceExhausted, Unavailable
from kitmsg.middleware import log, rate_limit, retry, timeout
from kitmsg.service import Kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ALL: dict[str, Middleware] = {
    "breaker": middleware.breaker(),
    "bulkhead": middleware.bulkhead(8),
    "log": middleware.log(),
    "metrics": middleware.metrics(CollectorRegistry()),
    "rate_limit": middleware.rate_limit(1000),
    "retry": middleware.retry(),
    "timeout": middleware.timeout(1.0),
}


async def parse(_ctx: Context, request: str) -> int:
    if not request:
        raise NotFound("nothing to parse")
    return int(request)


@pytest.mark.parametrize("name", ALL)
async def test_passes_request_response_and_error_unchanged(name: str) -> None:
    """Around a healthy endpoint a middleware is not noticed."""
    wrapped = ALL[name](parse)
    assert await wrapped(Context(), "7") == 7
    with pytest.raises(NotFound, match="nothing to parse") as caught:
        await wrapped(Context(), "")
    assert not hasattr(caught.value, "__notes__")


async def test_all_of_them_compose() -> None:
    """A chain of every middleware still answers."""
    assert await chain(*ALL.values())(parse)(Context(), "7") == 7


def test_importing_them_imports_no_extra() -> None:
    """Whoever does not use the breaker or the metrics does not load their packages."""
    code = (
        "import sys, kitmsg.middleware; "
        "print({'aiobreaker', 'prometheus_client'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"


class Stock(Service):
    """Counts things, after a while."""

    def __init__(self) -> None:
        self.seen: list[float | None] = []
        self.failures: list[KitError] = []

    @endpoint
    async def count(self, sku: str) -> int:
        """Fail as told, else answer."""
        self.seen.append(current().remaining(asyncio.get_running_loop().time()))
        if self.failures:
            raise self.failures.pop(0)
        return len(sku)


class Shop(Service):
    """Asks the stock."""

    middleware: Sequence[Middleware] = (log(), timeout(2.0))

    def __init__(self, stock: Stock) -> None:
        self.stock = stock

    @endpoint(middleware=[rate_limit(0.5, burst=1)])
    async def offer(self, sku: str) -> int:
        """Return how many there are."""
        return await self.stock.count(sku)


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    """Services and clients on a bus in memory."""
    kit = Kit(MemoryBus(seed=1))
    yield kit
    await kit.close()


async def test_a_services_timeout_reaches_the_services_it_calls(kit: Kit) -> None:
    """Two hops on, what is left is bounded by the `timeout` of the first service."""
    stock = Stock()
    await kit.serve(stock)
    await kit.serve(Shop(kit.client(Stock)))
    assert await kit.client(Shop, timeout=60.0).offer("abc") == 3
    (left,) = stock.seen
    assert left is not None
    assert left <= 2.0


async def test_a_limit_is_told_to_the_caller_with_the_time(kit: Kit) -> None:
    """`retry_after` of a limited service crosses the bus, and a client's retry obeys."""
    await kit.serve(Stock())
    await kit.serve(Shop(kit.client(Stock)))
    await kit.client(Shop).offer("abc")
    with pytest.raises(ResourceExhausted) as caught:
        await kit.client(Shop).offer("abc")
    assert caught.value.retry_after == pytest.approx(2.0, abs=0.1)
    patient = retry(on={Code.RESOURCE_EXHAUSTED})
    assert await kit.client(Shop, middleware=[patient]).offer("abc") == 3
    assert asyncio.get_running_loop().time() >= 2.0


async def test_a_clients_retry_hides_a_passing_failure(kit: Kit) -> None:
    """A client with `retry` does not see a service that is just starting."""
    client = kit.client(Stock, middleware=[retry()])
    counting = asyncio.create_task(client.count("abc"))
    await asyncio.sleep(0)  # it found nobody
    stock = Stock()
    await kit.serve(stock)
    assert await counting == 3
    assert len(stock.seen) == 1


async def test_what_a_method_raised_is_not_repeated(kit: Kit) -> None:
    """Its work has begun, whatever the code; only who says `idempotent` has it again."""
    stock = Stock()
    stock.failures = [Unavailable("draining")]
    await kit.serve(stock)
    with pytest.raises(Unavailable, match="draining"):
        await kit.client(Stock, middleware=[retry()]).count("abc")
    assert len(stock.seen) == 1
    stock.failures = [Unavailable("draining")]
    again = kit.client(Stock, middleware=[retry(idempotent=True)])
    assert await again.count("abc") == 3


async def test_a_clients_timeout_is_over_all_attempts(kit: Kit) -> None:
    """Attempts and the waits between them share one deadline, as the option says."""
    stock = Stock()
    stock.failures = [Unavailable("busy", retry_after=0.4)] * 2
    await kit.serve(stock)
    patient = retry(idempotent=True, jitter=lambda _: 0.0)
    client = kit.client(Stock, timeout=0.7, middleware=[patient])
    with pytest.raises(Unavailable, match="busy"):
        await client.count("abc")
    assert asyncio.get_running_loop().time() < 0.7
    first, second = stock.seen
    assert first is not None
    assert second is not None
    assert first > 0.6
    assert second <= 0.3
