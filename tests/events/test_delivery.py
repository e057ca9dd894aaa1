"""Deliveries: acknowledged when they are done, tried again, given up, given back."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

import kitmsg
from kitmsg import Context, Event, Reject, Service, endpoint, subscribe
from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.events.attempts import Attempts
from kitmsg.events.dead import dead_stream
from kitmsg.jetstream import ConsumerConfig
from kitmsg.wire import CE_ID, DEAD_ATTEMPTS, DEAD_ERROR, DEAD_REASON, DEAD_SUBJECT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.jetstream import Stored

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]

pytestmark = pytest.mark.anyio


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    total: Decimal = Decimal(0)


class Paid(Event, subject="orders.paid.{order_id}"):
    order_id: str


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def dead(kit: Kit, count: int = 1) -> list[Stored]:
    """Return the dead letters, once there are so many."""
    stream = await kit.jetstream.stream("dead")
    async with asyncio.timeout(10):
        while (await stream.info()).messages < count:
            await asyncio.sleep(0.01)
    return [letter async for letter in stream.read("dead.>")]


class Mailer(Service):
    """Notes what it was given, and fails as it is told."""

    def __init__(self) -> None:
        self.given: list[Event] = []
        self.fails: dict[str, list[Exception]] = {}

    @subscribe(Placed, retries=(0.05, 0.05), since="first")
    async def thank(self, event: Placed) -> None:
        self.given.append(event)
        failures = self.fails.get(event.order_id)
        if failures:
            raise failures.pop(0)


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


async def test_a_failure_is_tried_again(kit: Kit) -> None:
    mailer = Mailer()
    mailer.fails["A1"] = [RuntimeError("boom"), kitmsg.errors.Unavailable("later")]
    await kit.serve(mailer)
    await kit.publish(Placed("A1"))
    await until(lambda: len(mailer.given) == 3)
    assert (await (await kit.jetstream.stream("dead")).info()).messages == 0


async def test_the_last_failure_is_followed_by_a_dead_letter(kit: Kit) -> None:
    mailer = Mailer()
    mailer.fails["A1"] = [RuntimeError(f"boom {n}\nand more") for n in range(3)]
    await kit.serve(mailer)
    await kit.publish(Placed("A1", Decimal(7)), id="mine")
    await kit.publish(Placed("A2"))
    [letter] = await dead(kit)
    assert letter.subject == "dead.mailer.thank"
    assert letter.data == b'{"order_id":"A1","total":"7"}'
    assert letter.headers[DEAD_REASON] == "boom 2 and more"
    assert letter.headers[DEAD_ERROR] == "RuntimeError"
    assert letter.headers[DEAD_ATTEMPTS] == "3"
    assert letter.headers[DEAD_SUBJECT] == "event.orders.placed.A1"
    assert letter.headers[CE_ID] == "mine"
    assert [e.order_id for e in mailer.given].count("A2") == 1  # type: ignore[attr-defined]


async def test_a_rejection_is_a_dead_letter_at_once(kit: Kit) -> None:
    mailer = Mailer()
    mailer.fails["A1"] = [Reject("no such customer")]
    await kit.serve(mailer)
    await kit.publish(Placed("A1"))
    [letter] = await dead(kit)
    assert letter.headers[DEAD_REASON] == "no such customer"
    assert letter.headers[DEAD_ATTEMPTS] == "1"


async def test_an_event_that_does_not_fit_is_a_dead_letter_with_the_field(
    kit: Kit,
) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    await kit.jetstream.publish(
        "event.orders.placed.A1", b'{"order_id":"A1","total":"x"}'
    )
    await kit.publish(Placed("A2"))
    [letter] = await dead(kit)
    assert letter.headers[DEAD_REASON].startswith("field 'total': ")
    await until(lambda: mailer.given == [Placed("A2")])


async def test_a_replay_goes_to_the_subscription_that_failed(kit: Kit) -> None:
    class Ledger(Service):
        given: ClassVar[list[str]] = []

        @subscribe(Placed)
        async def note(self, event: Placed) -> None:
            self.given.append(event.order_id)

    mailer = Mailer()
    mailer.fails["A1"] = [Reject("no")]
    await kit.serve(mailer)
    await kit.serve(Ledger)
    await kit.publish(Placed("A1"))
    [letter] = await dead(kit)
    headers = {k: v for k, v in letter.headers.items() if not k.startswith("Nats-")}
    await kit.jetstream.publish("replay.mailer.thank", letter.data, headers)
    await until(lambda: len(mailer.given) == 2)
    assert Ledger.given == ["A1"]


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


async def test_a_timeout_is_a_failed_attempt(kit: Kit) -> None:
    class Stuck(Service):
        begun = 0

        @subscribe(Placed, timeout=0.1, retries=(0.05,))
        async def note(self, event: Placed) -> None:
            type(self).begun += 1
            await asyncio.sleep(60)

    await kit.serve(Stuck)
    await kit.publish(Placed("A1"))
    [letter] = await dead(kit)
    assert letter.headers[DEAD_REASON] == "it took more than 0.1 s"
    assert Stuck.begun == 2


async def test_an_event_that_does_not_fit_is_not_published(kit: Kit) -> None:
    await kit.publish(Placed("A1"))
    with pytest.raises(InvalidArgument, match="total"):
        await kit.publish(Placed("A2", "x"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="order_id: a subject holds"):
        await kit.publish(Placed("x" * 300))
    with pytest.raises(InvalidArgument, match="id='a b': up to 256 printable"):
        await kit.publish(Placed("A2"), id="a b")
    stream = await kit.jetstream.stream("orders")
    assert (await stream.info()).messages == 1


async def test_an_event_that_is_published_twice_is_stored_once(kit: Kit) -> None:
    assert await kit.publish(Placed("A1"), id="one") == 1
    assert await kit.publish(Placed("A1"), id="one") == 1
    assert await kit.publish(Placed("A1"), id="two") == 2


@pytest.mark.parametrize("kind", ["nats"])
async def test_a_missing_stream_is_named_with_its_remedy(
    server: EmbeddedServer,
) -> None:
    async with kitmsg.connect(server.url) as kit:
        with pytest.raises(
            FailedPrecondition, match="no stream stores 'event.orders.placed"
        ):
            await kit.publish(Placed("A1"))
        with pytest.raises(
            FailedPrecondition, match=r"Mailer needs the stream 'orders'"
        ):
            await kit.serve(Mailer)


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


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_dead_letter_that_finds_no_room_says_later_why_it_died(
    kit: Kit,
) -> None:
    mailer = Mailer()
    mailer.fails["A1"] = [RuntimeError("boom")] * 3
    await kit.serve(mailer)
    await kit.jetstream.publish("dead.somebody.else", b"")
    full = replace(dead_stream(), max_messages=1, discard="new")
    await kit.jetstream.update_stream(full)
    await kit.publish(Placed("A1"))
    await asyncio.sleep(60)
    await kit.jetstream.update_stream(dead_stream())
    _, letter = await dead(kit, 2)
    assert letter.headers[DEAD_REASON] == "boom"
    assert letter.headers[DEAD_ATTEMPTS] == "3"
    assert len(mailer.given) == 3


@pytest.mark.parametrize("kind", ["memory"])
async def test_what_is_given_back_before_it_begins_is_no_attempt(kit: Kit) -> None:
    """However often instances come and go, an event keeps its attempts."""
    mailer = Mailer()
    mailer.fails["A1"] = [RuntimeError("boom 1"), RuntimeError("boom 2")]
    host = await kit.serve(mailer)
    await host.drain()
    kit.hosts.remove(host)
    await kit.publish(Placed("A1"))
    consumer = await (await kit.jetstream.stream("orders")).consumer("mailer-thank")
    for _ in range(20):
        async with consumer.messages() as messages:
            (await anext(messages)).nak()
    await kit.serve(mailer)
    await until(lambda: len(mailer.given) >= 2, 60)
    await asyncio.sleep(1)
    # The first delivery may have begun for all that anybody knows; no other one.
    assert len(mailer.given) == 2


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_delivery_that_ends_every_process_dies_at_last(kit: Kit) -> None:
    mailer = Mailer()
    host = await kit.serve(mailer)
    await host.drain()
    kit.hosts.remove(host)
    await kit.publish(Placed("A1"))
    attempts = Attempts(kit.jetstream)
    consumer = await (await kit.jetstream.stream("orders")).consumer("mailer-thank")
    for number in (1, 2, 3):
        async with consumer.messages() as messages:
            delivery = await anext(messages)
            assert await attempts.begin(delivery) == number
            delivery.nak()  # as the store does when nobody says a word
    await kit.serve(mailer)
    [letter] = await dead(kit)
    assert letter.headers[DEAD_REASON] == "3 attempts began and none ended"
    assert mailer.given == []


async def test_what_is_done_once_is_passed_over_when_its_ack_was_lost(kit: Kit) -> None:
    class Once(Service):
        given: ClassVar[list[str]] = []

        @subscribe(Placed, once=True, since="first")
        async def note(self, event: Placed) -> None:
            self.given.append(event.order_id)

    await kit.publish(Placed("A0"))
    stream = await kit.jetstream.stream("orders")
    config = ConsumerConfig(name="once-note", filters=("event.orders.placed.*",))
    consumer = await stream.create_consumer(config)
    async with consumer.messages() as messages:
        delivery = await anext(messages)
        # An attempt did its work, and its process died before the ack.
        await Attempts(kit.jetstream).done(delivery)
        delivery.nak()
    await kit.serve(Once)
    await kit.publish(Placed("A1"))
    await until(lambda: Once.given == ["A1"])


async def test_what_an_attempt_publishes_again_is_stored_once(kit: Kit) -> None:
    class Twice(Service):
        attempts: ClassVar[list[int]] = []

        def __init__(self, kit: kitmsg.Kit) -> None:
            self.kit = kit

        @subscribe(Placed, once=True, retries=(0.05,))
        async def note(self, event: Placed) -> None:
            self.attempts.append(await self.kit.publish(Paid(event.order_id)))
            if len(self.attempts) == 1:
                raise RuntimeError("boom")

    await kit.serve(Twice)
    await kit.publish(Placed("A1"))
    await until(lambda: len(Twice.attempts) == 2)
    assert Twice.attempts == [2, 2]


async def test_calls_after_an_attempt_publish_under_ids_of_their_own(kit: Kit) -> None:
    class Both(Service):
        def __init__(self, kit: kitmsg.Kit) -> None:
            self.kit = kit
            self.ids: list[str] = []

        async def publish(self, order_id: str) -> None:
            sequence = await self.kit.publish(Paid(order_id))
            stream = await self.kit.jetstream.stream("orders")
            self.ids.append((await stream.get(sequence)).headers[CE_ID])

        @subscribe(Placed, once=True)
        async def note(self, event: Placed) -> None:
            await self.publish(event.order_id)

        @endpoint
        async def pay(self, order_id: str) -> None:
            await self.publish(order_id)

    both = Both(kit)
    await kit.serve(both)
    await kit.publish(Placed("A1"))
    await until(lambda: both.ids)
    await kit.client(Both).pay("A2")
    of_event, of_call = both.ids
    assert of_event.startswith("both-note.orders.")
    assert not of_call.startswith("both-note.orders.")


async def test_a_stream_made_again_has_nothing_to_do_with_the_one_before(
    kit: Kit,
) -> None:
    """Its numbers begin anew: what was done, tried and buried under one is another event."""

    class Tries(Service):
        tried: ClassVar[list[str]] = []

        @subscribe(Placed, once=True, retries=(0.05,))
        async def note(self, event: Placed) -> None:
            self.tried.append(event.order_id)
            is_bad = event.order_id.startswith("bad")
            if is_bad or self.tried.count(event.order_id) == 1:
                raise RuntimeError("boom")

    async def live(life: int) -> None:
        for name in ("shaky", "bad"):
            await kit.publish(Placed(f"{name}{life}"))
        await until(lambda: len(Tries.tried) == life * 4)
        await dead(kit, life)

    await kit.serve(Tries)
    await live(1)
    await kit.jetstream.delete_stream("orders")
    await live(2)
    assert [letter.headers[DEAD_ATTEMPTS] for letter in await dead(kit)] == ["2", "2"]
    ids = [f"{name}{life}" for name in ("shaky", "bad") for life in (1, 2)]
    assert sorted(Tries.tried) == sorted(ids * 2)


@pytest.mark.parametrize("kind", ["memory"])
async def test_what_an_attempt_publishes_again_is_stored_once_an_hour_later(
    kit: Kit,
) -> None:
    """Long after the stream forgot the ids."""

    class Late(Service):
        attempts: ClassVar[list[list[int]]] = []

        def __init__(self, kit: kitmsg.Kit) -> None:
            self.kit = kit

        @subscribe(Placed, once=True, retries=(3600.0,))
        async def note(self, event: Placed) -> None:
            paid = Paid(event.order_id)
            found = [await self.kit.publish(paid)]
            found += await self.kit.publish_many([paid, paid])
            if self.attempts:
                found += await self.kit.publish_many([paid])
            self.attempts.append(found)
            if len(self.attempts) == 1:
                raise RuntimeError("boom")

    await kit.serve(Late)
    await kit.publish(Paid("A1"))
    await kit.publish(Placed("A1"))
    await until(lambda: len(Late.attempts) == 2, 4000)
    assert Late.attempts == [[3, 4, 5], [3, 4, 5, 6]]


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
