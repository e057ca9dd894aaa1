"""Metrics of deliveries: age, lag, redeliveries, dead letters."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Event, Kit, Reject, Service, endpoint, every, subscribe
from kitmsg.bus.memory import MemoryBus
from kitmsg.events.measures import Measures
from kitmsg.metrics.memory import MemoryMetrics

if TYPE_CHECKING:
    from collections.abc import Callable


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str


def counted(kit: Kit, name: str, endpoint: str = "mailer.note") -> float:
    """Return a value of the kit's metrics."""
    assert isinstance(kit.metrics, MemoryMetrics)
    service = endpoint.partition(".")[0]
    return kit.metrics.value(name, service=service, endpoint=endpoint)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_deliveries_are_counted_with_their_age(kit: Kit) -> None:
    """Those that came before, and those that end as dead letters, too."""

    class Mailer(Service):
        @subscribe(Placed, since="first", retries=(0.05,))
        async def note(self, event: Placed) -> None:
            if event.order_id == "bad":
                raise RuntimeError("boom")
            if event.order_id == "worse":
                raise Reject("no")

    await kit.publish_many(map(Placed, ("A1", "bad", "worse", "A2")))
    await kit.serve(Mailer)
    await until(lambda: counted(kit, "kitmsg_events_dead_total") == 2)
    assert counted(kit, "kitmsg_events_age_seconds") == 5
    assert counted(kit, "kitmsg_events_redeliveries_total") == 1
    assert counted(kit, "kitmsg_events_lag") == 0


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.anyio
async def test_the_lag_and_the_age_are_those_of_the_stream(kit: Kit) -> None:
    """Also while nothing new is begun, so that a service that hangs is seen."""

    class Mailer(Service):
        @subscribe(Placed, since="first", concurrency=2)
        async def note(self, event: Placed) -> None:
            await asyncio.sleep(250)

    await kit.publish_many(Placed(f"A{n}") for n in range(10))
    await asyncio.sleep(100)
    await kit.serve(Mailer)
    await until(lambda: counted(kit, "kitmsg_events_age_seconds") == 2)
    assert counted(kit, "kitmsg_events_lag") == 8
    await kit.publish_many(Placed(f"B{n}") for n in range(10))
    await asyncio.sleep(20)
    assert counted(kit, "kitmsg_events_age_seconds") == 2
    # Two are worked on, and two of the others were pulled ahead.
    assert counted(kit, "kitmsg_events_lag") == 16
    assert isinstance(kit.metrics, MemoryMetrics)
    [ages] = [
        family.distributions[0]
        for family in kit.metrics.collect()
        if family.name == "kitmsg_events_age_seconds"
    ]
    assert ages.total == pytest.approx(200, abs=1)


@pytest.mark.anyio
async def test_tells_and_ticks_are_counted_under_their_names(kit: Kit) -> None:
    class Mailer(Service):
        @endpoint(durable=True)
        async def send(self, to: str) -> None: ...

        @every(seconds=1)
        async def tidy(self) -> None: ...

    await kit.serve(Mailer)
    await kit.tell(Mailer).send("ann")
    for name in ("mailer.send", "mailer.tidy"):
        await until(lambda n=name: counted(kit, "kitmsg_events_age_seconds", n) >= 1)  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.anyio
async def test_a_service_without_metrics_counts_nothing() -> None:
    class Quiet(Service):
        off = ("metrics",)

        @subscribe(Placed)
        async def note(self, event: Placed) -> None: ...

        @subscribe(Placed, stored=False)
        async def hear(self, event: Placed) -> None: ...

    metrics = MemoryMetrics()
    kit = Kit(MemoryBus(), metrics=metrics)
    await kit.serve(Quiet)
    await kit.publish(Placed("A1"))
    await asyncio.sleep(1)
    assert [family.name for family in metrics.collect()] == []
    await kit.close()


def test_every_metric_is_listed_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/events.md").read_text()
    table = page.partition("| metric | counts |")[2].partition("\n\n")[0]
    metrics = MemoryMetrics()
    Measures(metrics, "mailer.note", lambda: 0.0)
    listed = set(re.findall(r"`(kitmsg_\w+)`", table))
    assert listed == {family.name for family in metrics.collect()}
