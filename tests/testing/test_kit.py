"""The kit of the fixtures: what was published, what is dead, when all is done."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg import Event, Reject, Service, endpoint, every, subscribe
from kitmsg.testing import DeadLetter, FixtureKit


class Placed(Event, subject="fixture.placed.{order_id}"):
    order_id: str


class Thanked(Event, subject="fixture.thanked.{order_id}"):
    order_id: str


class Mailer(Service):
    name = "fixture_mailer"

    def __init__(self, kit: FixtureKit) -> None:
        self.kit = kit
        self.given: list[str] = []

    @subscribe(Placed)
    async def thank(self, event: Placed) -> None:
        await asyncio.sleep(1)
        self.given.append(event.order_id)
        if event.order_id == "bad":
            raise Reject("no such customer")
        if event.order_id == "late" and self.given.count("late") < 5:
            raise RuntimeError("boom")
        await self.kit.publish(Thanked(event.order_id))

    @subscribe(Thanked)
    async def note(self, event: Thanked) -> None: ...

    @endpoint(durable=True)
    async def send(self, to: str) -> None:
        self.given.append(to)

    @every(days=7)
    async def weekly(self) -> None:
        self.given.append("weekly")


async def test_all_is_done_when_it_is_settled(kit: FixtureKit) -> None:
    mailer = Mailer(kit)
    await kit.serve(mailer)
    for name in ("A1", "bad", "A2"):
        await kit.publish(Placed(name))
    await kit.tell(Mailer).send("ann")
    await kit.settled()
    assert sorted(mailer.given) == ["A1", "A2", "ann", "bad"]
    assert await kit.published(Thanked) == [Thanked("A1"), Thanked("A2")]
    assert await kit.published(Thanked, where={"order_id": "A2"}) == [Thanked("A2")]
    assert await kit.dead() == [
        DeadLetter(
            name="fixture_mailer.thank",
            reason="no such customer",
            attempts=1,
            subject="event.fixture.placed.bad",
            data=b'{"order_id":"bad"}',
        )
    ]


async def test_minutes_and_weeks_take_no_time(kit: FixtureKit) -> None:
    mailer = Mailer(kit)
    await kit.serve(mailer)
    await kit.publish(Placed("late"))
    await kit.settled()
    assert mailer.given == ["late"]
    await asyncio.sleep(400)
    assert mailer.given.count("late") == 5
    await asyncio.sleep(7 * 86_400)
    assert mailer.given.count("weekly") == 1


async def test_nothing_was_published_and_nothing_is_dead(kit: FixtureKit) -> None:
    assert await kit.published(Placed) == []
    assert await kit.dead() == []
    await kit.settled()


@pytest.mark.parametrize("number", [1, 2])
async def test_a_server_forgets_the_streams_of_a_test(
    kit_nats: FixtureKit, number: int
) -> None:
    assert await kit_nats.published(Placed) == []
    await kit_nats.serve(Mailer(kit_nats))
    await kit_nats.publish(Placed(f"A{number}"))
    await kit_nats.settled()
    assert await kit_nats.published(Thanked) == [Thanked(f"A{number}")]
