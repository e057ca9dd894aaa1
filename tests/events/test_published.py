"""Publishing: what does not fit, a stream that is missing, and ids that make it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

import kitmsg
from kitmsg import Service, endpoint, subscribe
from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.events.attempts import Attempts
from kitmsg.jetstream import ConsumerConfig
from kitmsg.wire import CE_ID, DEAD_ATTEMPTS
from tests.events.mailer import Mailer, Paid, Placed, dead, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kitmsg import Kit
    from kitmsg.bus.embedded import EmbeddedServer

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]

pytestmark = pytest.mark.anyio


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
