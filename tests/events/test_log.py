"""The log of an event: read from a time or a sequence, and followed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Event, upcast
from kitmsg.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from kitmsg import Kit

pytestmark = pytest.mark.anyio


class Placed(Event, subject="orders.{region}.placed.{order_id}"):
    region: str
    order_id: str


class OldPriced(Event, subject="prices.set.{item}"):
    item: str
    price: float


class Priced(Event, subject="prices.set.{item}", version=3):
    item: str
    cents: int
    currency: str = "EUR"

    @upcast(1)
    @staticmethod
    def in_cents(old: dict[str, Any]) -> dict[str, Any]:
        return {"item": old["item"], "cents": round(old["price"] * 100)}


async def test_the_log_is_read_in_order_to_its_end(kit: Kit) -> None:
    sent = [Placed("eu", f"A{n}") for n in range(600)]
    await kit.publish_many(sent)
    assert [event async for event in kit.events(Placed)] == sent
    log = kit.events(Placed, since=599)
    assert [event async for event in log] == sent[598:]
    assert log.sequence == 600
    assert log.envelope is not None
    assert (log.envelope.type, log.envelope.version) == ("orders.placed", 1)


async def test_the_log_begins_at_a_time(kit: Kit) -> None:
    await kit.publish(Placed("eu", "A1"))
    await asyncio.sleep(0.05)
    between = datetime.fromtimestamp(kit.jetstream.now(), UTC)
    await asyncio.sleep(0.05)
    await kit.publish(Placed("eu", "A2"))
    found = [event.order_id async for event in kit.events(Placed, since=between)]
    assert found == ["A2"]


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("year", [1, 1600, 1969])
async def test_a_log_that_begins_in_the_far_past_is_whole(
    kit: Kit, year: int, follow: bool
) -> None:
    await kit.publish(Placed("eu", "A1"))
    since = datetime(year, 1, 1, tzinfo=UTC)
    log = kit.events(Placed, since=since, follow=follow)
    assert await anext(log) == Placed("eu", "A1")
    await log.aclose()


@pytest.mark.parametrize("follow", [False, True])
async def test_a_log_cannot_begin_at_a_time_that_nats_cannot_hold(
    kit: Kit, follow: bool
) -> None:
    await kit.publish(Placed("eu", "A1"))
    log = kit.events(Placed, since=datetime(9999, 12, 31, tzinfo=UTC), follow=follow)
    with pytest.raises(InvalidArgument, match="no time that NATS can hold"):
        await anext(log)


async def test_the_log_is_filtered_by_fields_of_the_subject(kit: Kit) -> None:
    for region in ("eu", "us", "e.u"):
        await kit.publish(Placed(region, "A1"))
    found = [event async for event in kit.events(Placed, where={"region": "e.u"})]
    assert found == [Placed("e.u", "A1")]
    with pytest.raises(InvalidArgument, match="'colour' is no field of the subject"):
        kit.events(Placed, where={"colour": "eu"})


async def test_a_log_that_is_followed_goes_on_with_what_comes(kit: Kit) -> None:
    await kit.publish(Placed("eu", "A1"))
    log = kit.events(Placed, follow=True)
    assert await anext(log) == Placed("eu", "A1")
    for n in range(2, 50):
        await kit.publish(Placed("eu", f"A{n}"))
        assert await anext(log) == Placed("eu", f"A{n}")
    await log.aclose()
    assert await (await kit.jetstream.stream("orders")).consumers() == []


async def test_a_log_that_is_followed_from_a_time_has_nothing_older(kit: Kit) -> None:
    """Also where nothing younger is stored yet."""
    await kit.publish(Placed("eu", "A1"))
    await asyncio.sleep(0.05)
    now = datetime.fromtimestamp(kit.jetstream.now(), UTC)
    log = kit.events(Placed, since=now, follow=True)
    coming = asyncio.ensure_future(anext(log))
    await asyncio.sleep(0.05)
    await kit.publish(Placed("eu", "A2"))
    assert await coming == Placed("eu", "A2")
    await log.aclose()


async def test_an_old_event_is_brought_up_to_date(kit: Kit) -> None:
    await kit.publish(OldPriced("tea", 2.5))
    await kit.publish(Priced("milk", 120, "CHF"))
    found = [event async for event in kit.events(Priced)]
    assert found == [Priced("tea", 250, "EUR"), Priced("milk", 120, "CHF")]


async def test_fields_that_nobody_knows_are_ignored(kit: Kit) -> None:
    await kit.publish(Placed("eu", "A1"))
    more = b'{"region":"eu","order_id":"A2","note":"new"}'
    await kit.jetstream.publish("event.orders.eu.placed.A2", more)
    assert [event.order_id async for event in kit.events(Placed)] == ["A1", "A2"]


async def test_an_event_that_does_not_fit_is_named_by_its_sequence(kit: Kit) -> None:
    await kit.publish(Placed("eu", "A1"))
    await kit.jetstream.publish("event.orders.eu.placed.A2", b'{"region":"eu"}')
    await kit.publish(Placed("eu", "A3"))
    log = kit.events(Placed)
    assert await anext(log) == Placed("eu", "A1")
    with pytest.raises(
        InvalidArgument, match="event 2 of the stream 'orders': .*order_id"
    ):
        await anext(log)
    assert await anext(log) == Placed("eu", "A3")


async def test_a_log_that_is_not_there_is_named(kit: Kit) -> None:
    with pytest.raises(NotFound, match=r"no stream stores 'orders\.placed'"):
        await anext(kit.events(Placed))
