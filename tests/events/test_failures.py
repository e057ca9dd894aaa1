"""Deliveries that fail: tried again, given up, and dead letters."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar

import pytest

import kitmsg
from kitmsg import Reject, Service, subscribe
from kitmsg.events.attempts import Attempts
from kitmsg.events.dead import dead_stream
from kitmsg.wire import CE_ID, DEAD_ATTEMPTS, DEAD_ERROR, DEAD_REASON, DEAD_SUBJECT
from tests.events.mailer import Mailer, Placed, dead, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from kitmsg import Kit

    Elsewhere = Callable[[], AbstractAsyncContextManager[Kit]]

pytestmark = pytest.mark.anyio


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
