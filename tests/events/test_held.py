"""Deliveries that wait or run: kept from others' hands, and given back by a drain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest

from kitmsg import Service, subscribe
from tests.events.mailer import Placed, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kitmsg import Kit

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]

pytestmark = pytest.mark.anyio


async def test_drain_finishes_what_runs_and_gives_back_the_rest(
    kit: Kit, elsewhere: Elsewhere
) -> None:
    running, go = asyncio.Event(), asyncio.Event()

    class Slow(Service):
        name = "slow"

        def __init__(self) -> None:
            self.given: list[str] = []

        @subscribe(Placed, concurrency=1)
        async def note(self, event: Placed) -> None:
            self.given.append(event.order_id)
            running.set()
            await go.wait()

    first, second = Slow(), Slow()
    host = await kit.serve(first)
    await kit.publish_many([Placed(f"A{n}") for n in range(3)])
    await running.wait()
    kit.hosts.remove(host)
    draining = asyncio.create_task(host.drain())
    async with elsewhere() as other_kit:
        await other_kit.serve(second)
        # At once: not when the time that the store waits for an ack is over.
        await until(lambda: len(second.given) == 1, 5)
        go.set()
        await draining
        await until(lambda: len(second.given) == 2, 5)
    assert first.given == ["A0"]
    assert sorted(second.given) == ["A1", "A2"]


@pytest.mark.parametrize("kind", ["memory"])
async def test_what_waits_or_runs_stays_out_of_others_hands(
    kit: Kit, elsewhere: Elsewhere
) -> None:
    class Slow(Service):
        def __init__(self) -> None:
            self.given: list[str] = []

        @subscribe(Placed, concurrency=1)
        async def note(self, event: Placed) -> None:
            self.given.append(event.order_id)
            await asyncio.sleep(200)

    one, other = Slow(), Slow()
    await kit.serve(one)
    await kit.publish_many([Placed(f"A{n}") for n in range(3)])
    await until(lambda: one.given)
    async with elsewhere() as second:
        await second.serve(other)
        await asyncio.sleep(650)
        assert sorted([*one.given, *other.given]) == ["A0", "A1", "A2"]


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_batch_that_takes_long_to_gather_stays_out_of_others_hands(
    kit: Kit,
) -> None:
    class Gathers(Service):
        given: ClassVar[list[list[str]]] = []

        @subscribe(Placed, batch=10, within=300.0)
        async def note(self, events: list[Placed]) -> None:
            self.given.append([event.order_id for event in events])

    await kit.serve(Gathers)
    for n in range(3):
        await kit.publish(Placed(f"A{n}"))
        await asyncio.sleep(100)
    await asyncio.sleep(200)
    assert Gathers.given == [["A0", "A1", "A2"]]


class Slowly(Service):
    """Takes each of a batch that failed alone, and long."""

    name = "slowly"

    def __init__(self) -> None:
        self.given: list[list[str]] = []
        self.seconds = 0.0

    @subscribe(
        Placed, batch=3, within=1.0, concurrency=1, retries=(1.0,) * 5, since="first"
    )
    async def note(self, events: list[Placed]) -> None:
        self.given.append([event.order_id for event in events])
        if len(events) > 1:
            raise RuntimeError("boom")
        await asyncio.sleep(self.seconds)


@pytest.mark.parametrize("kind", ["memory"])
async def test_what_waits_for_the_others_of_its_batch_stays_out_of_others_hands(
    kit: Kit,
) -> None:
    slowly = Slowly()
    slowly.seconds = 100.0
    await kit.publish_many([Placed(f"A{n}") for n in range(3)])
    await kit.serve(slowly)
    await asyncio.sleep(1000)
    assert slowly.given == [["A0", "A1", "A2"], ["A0"], ["A1"], ["A2"]]


@pytest.mark.parametrize("kind", ["memory"])
async def test_drain_gives_back_at_once_what_waits_for_the_others_of_its_batch(
    kit: Kit,
    elsewhere: Elsewhere,
) -> None:
    first, second = Slowly(), Slowly()
    first.seconds = 5.0
    await kit.publish_many([Placed(f"A{n}") for n in range(3)])
    host = await kit.serve(first)
    await until(lambda: len(first.given) == 2)
    kit.hosts.remove(host)
    draining = asyncio.create_task(host.drain())
    async with elsewhere() as other:
        await other.serve(second)
        await until(lambda: len(second.given) == 2, 2)
        await draining
    assert [first.given[1:], second.given] == [[["A0"]], [["A1"], ["A2"]]]
