"""Deliveries: to each service once, filtered, in batches, to every instance."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import kitmsg
from kitmsg import Context, Event, Service, endpoint, subscribe
from kitmsg.wire import DEAD_SUBJECT
from tests.events.mailer import Mailer, Paid, Placed, dead, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kitmsg import Kit

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]

pytestmark = pytest.mark.anyio


async def test_an_event_reaches_a_subscriber_once(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    assert await kit.publish(Placed("A1", Decimal("9.50"))) == 1
    assert await kit.publish(Placed("A2")) == 2
    await until(lambda: len(mailer.given) == 2)
    assert mailer.given == [Placed("A1", Decimal("9.50")), Placed("A2")]
    consumer = await (await kit.jetstream.stream("orders")).consumer("mailer-thank")

    async def is_acked() -> bool:
        return (await consumer.info()).ack_floor == 2

    async with asyncio.timeout(10):
        while not await is_acked():
            await asyncio.sleep(0.01)


async def test_each_service_gets_each_event_on_one_instance(
    kit: Kit, elsewhere: Elsewhere
) -> None:
    class Ledger(Service):
        given: ClassVar[list[str]] = []

        @subscribe(Placed)
        async def note(self, event: Placed) -> None:
            self.given.append(event.order_id)

    one, ledger = Mailer(), Ledger()
    await kit.serve(one)
    await kit.serve(ledger)
    async with elsewhere() as other_kit:
        other = Mailer()
        await other_kit.serve(other)
        wanted = [f"A{n}" for n in range(50)]
        await kit.publish_many([Placed(name) for name in wanted])
        await until(lambda: len(one.given) + len(other.given) == 50)
        await until(lambda: len(ledger.given) == 50)
    given = [event.order_id for event in (*one.given, *other.given)]  # type: ignore[attr-defined]
    assert sorted(given) == sorted(wanted)
    assert sorted(ledger.given) == sorted(wanted)


async def test_a_subscriber_that_comes_later_finds_what_it_missed(kit: Kit) -> None:
    mailer = Mailer()
    host = await kit.serve(mailer)
    await kit.publish(Placed("A1"))
    await until(lambda: len(mailer.given) == 1)
    await host.drain()
    kit.hosts.remove(host)
    await kit.publish(Placed("A2"))
    again = Mailer()
    await kit.serve(again)
    await until(lambda: len(again.given) == 1)
    assert again.given == [Placed("A2")]


async def test_a_subscriber_may_begin_in_the_far_past(kit: Kit) -> None:
    """Before 1678 is no time for a server; a second instance finds the same consumer."""
    begun = datetime(1600, 1, 1, tzinfo=UTC)

    class Archive(Service):
        found: ClassVar[list[str]] = []

        @subscribe(Placed, since=begun)
        async def keep(self, event: Placed) -> None:
            self.found.append(event.order_id)

    await kit.publish(Placed("A1"))
    await kit.serve(Archive())
    await kit.serve(Archive())
    await until(lambda: Archive.found == ["A1"])


async def test_a_filter_passes_over_other_values(kit: Kit) -> None:
    class Picky(Service):
        given: ClassVar[list[str]] = []

        @subscribe(Placed, where={"order_id": "a.b"})
        async def note(self, event: Placed) -> None:
            self.given.append(event.order_id)

    await kit.serve(Picky)
    for name in ("a", "a.b", "a.c"):
        await kit.publish(Placed(name))
    await until(lambda: Picky.given == ["a.b"])


async def test_one_method_takes_several_events_of_a_stream(kit: Kit) -> None:
    class Both(Service):
        given: ClassVar[list[Event]] = []

        @subscribe(Placed, Paid)
        async def note(self, ctx: Context, event: Placed | Paid) -> None:
            assert ctx.endpoint == "both.note"
            self.given.append(event)

    await kit.serve(Both)
    await kit.publish(Placed("A1"))
    await kit.publish(Paid("A1"))
    await until(lambda: len(Both.given) == 2)
    assert {type(event) for event in Both.given} == {Placed, Paid}


async def test_a_batch_is_given_and_done_together(kit: Kit) -> None:
    class Batches(Service):
        given: ClassVar[list[list[str]]] = []

        @subscribe(Placed, batch=10, within=0.2, retries=(0.05,), since="first")
        async def note(self, events: list[Placed]) -> None:
            self.given.append([event.order_id for event in events])
            if any(event.order_id == "A3" for event in events):
                raise RuntimeError("boom")

    await kit.publish_many([Placed(f"A{n}") for n in range(10)])
    await kit.serve(Batches)
    [letter] = await dead(kit)
    first, *rest = Batches.given
    assert first == [f"A{n}" for n in range(10)]
    # One poisons its batch once; alone it harms nobody.
    assert sorted(rest) == [[f"A{n}"] for n in range(10)]
    assert letter.headers[DEAD_SUBJECT] == "event.orders.placed.A3"


async def test_every_instance_gets_what_happens(kit: Kit, elsewhere: Elsewhere) -> None:
    class Cache(Service):
        def __init__(self) -> None:
            self.given: list[str] = []

        @subscribe(Placed, each="instance", stored=False)
        async def forget(self, event: Placed) -> None:
            self.given.append(event.order_id)

    await kit.publish(Placed("A0"))
    one, other = Cache(), Cache()
    await kit.serve(one)
    async with elsewhere() as other_kit:
        await other_kit.serve(other)
        await kit.publish(Placed("A1"))
        await until(lambda: one.given == other.given == ["A1"])


async def test_a_blocking_handler_runs_in_a_thread(kit: Kit) -> None:
    class Blocking(Service):
        threads: ClassVar[list[str]] = []

        @subscribe(Placed)
        def note(self, event: Placed) -> None:
            self.threads.append(threading.current_thread().name)

    await kit.serve(Blocking)
    await kit.publish(Placed("A1"))
    await until(lambda: Blocking.threads)
    assert Blocking.threads[0].startswith("kitmsg-blocking")


async def test_middleware_stands_around_a_delivery(kit: Kit) -> None:
    seen: list[tuple[str, str, Any]] = []

    def noting(name: str) -> Any:
        def wrap(inner: Any) -> Any:
            async def call(ctx: Context, request: Any) -> Any:
                seen.append((name, ctx.endpoint, request))
                return await inner(ctx, request)

            return call

        return wrap

    class Wrapped(Service):
        middleware = (noting("outer"),)

        @subscribe(Placed, middleware=[noting("inner")])
        async def note(self, event: Placed) -> None: ...

    await kit.serve(Wrapped)
    await kit.publish(Placed("A1"))
    await until(lambda: len(seen) == 2)
    assert seen == [
        ("outer", "wrapped.note", Placed("A1")),
        ("inner", "wrapped.note", Placed("A1")),
    ]


async def test_a_service_with_calls_and_events_has_both(kit: Kit) -> None:
    class Shop(Service):
        def __init__(self, kit: kitmsg.Kit) -> None:
            self.kit = kit
            self.seen: list[str] = []

        @endpoint
        async def order(self, order_id: str) -> int:
            return await self.kit.publish(Placed(order_id))

        @subscribe(Placed)
        async def note(self, event: Placed) -> None:
            self.seen.append(event.order_id)

    host = await kit.serve(Shop)
    assert await kit.client(Shop).order("A1") == 1
    await until(lambda: host.service.seen == ["A1"])  # type: ignore[attr-defined]
