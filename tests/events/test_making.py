"""Streams that are made where they are first needed, by many at once."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from kitmsg import Event

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    import pytest

    from kitmsg import Kit


class Placed(Event, subject="orders.placed"):
    """An order came."""

    number: int


class Paid(Event, subject="orders.paid"):
    """It was paid."""

    number: int


async def test_many_publish_first(
    kit: Kit, elsewhere: Callable[[], AbstractAsyncContextManager[Kit]]
) -> None:
    """In one process or in several: all are stored, whoever made the stream."""
    async with elsewhere() as other, elsewhere() as third:
        sequences = await asyncio.gather(
            *(
                each.publish(cls(number=number))
                for number in range(10)
                for each in (kit, other, third)
                for cls in (Placed, Paid)
            )
        )
    assert sorted(sequences) == list(range(1, 61))


async def test_a_stream_that_is_made_meanwhile_is_no_other(
    kit: Kit, elsewhere: Callable[[], AbstractAsyncContextManager[Kit]]
) -> None:
    """It is looked at again where it was missing a moment ago."""
    async with elsewhere() as other:
        for _ in range(5):
            await asyncio.gather(
                *(each.publish(Placed(number=1)) for each in (kit, other))
            )
            await kit.jetstream.delete_stream("orders")


async def test_a_stream_that_is_made_while_it_is_looked_for(
    kit: Kit,
    elsewhere: Callable[[], AbstractAsyncContextManager[Kit]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody answered, and then there is one: the event is stored after all."""
    async with elsewhere() as other:
        await kit.publish(Placed(number=1))
        await kit.jetstream.delete_stream("orders")
        look, looks = type(kit.jetstream).streams, itertools.count()

        async def late(store: Any, *subjects: str) -> Any:
            if next(looks) == 0:
                await other.publish(Placed(number=2))
            return await look(store, *subjects)

        monkeypatch.setattr(type(kit.jetstream), "streams", late)
        assert await kit.publish(Placed(number=3)) == 2
