"""Detached work outlives the call it began in."""
# the services here are props

from __future__ import annotations

import asyncio
import logging

import pytest

import kitmsg
from kitmsg import Kit, Service, current, endpoint
from kitmsg.errors import DeadlineExceeded


class Ledger(Service):
    """Takes notes."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.left: list[float | None] = []

    @endpoint
    async def note(self) -> None:
        self.ids.append(current().request_id)


class Shop(Service):
    """Answers, and does the rest later."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.go = asyncio.Event()
        self.seen: list[object] = []
        self.task: asyncio.Task[None] | None = None

    async def later(self) -> None:
        self.seen.append(current().deadline)
        await self.go.wait()
        await self.ledger.note()

    @endpoint
    async def order(self) -> str:
        self.task = kitmsg.detached(self.later())
        return current().request_id

    @endpoint
    async def slow(self) -> None:
        self.task = kitmsg.detached(self.later())
        await asyncio.sleep(60)


async def test_it_has_no_deadline_and_the_same_request_id(kit: Kit) -> None:
    """Long after the call was answered, its own calls can be found under that id."""
    ledger = Ledger()
    await kit.serve(ledger)
    shop = Shop(kit.client(Ledger))
    await kit.serve(shop)
    id_ = await kit.client(Shop, timeout=1.0).order()
    await asyncio.sleep(30)
    shop.go.set()
    assert shop.task is not None
    await shop.task
    assert ledger.ids == [id_]
    assert shop.seen == [None]


async def test_it_is_not_cancelled_with_its_call(kit: Kit) -> None:
    """A caller that gives up ends the method, and not what was detached."""
    ledger = Ledger()
    await kit.serve(ledger)
    shop = Shop(kit.client(Ledger))
    await kit.serve(shop)
    with pytest.raises(DeadlineExceeded):
        await kit.client(Shop, timeout=0.5).slow()
    shop.go.set()
    assert shop.task is not None
    await shop.task
    assert len(ledger.ids) == 1


async def test_its_failure_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else hears of it."""

    async def fails() -> None:
        raise RuntimeError("no paper")

    with caplog.at_level(logging.ERROR, "kitmsg.service"):
        await asyncio.wait([kitmsg.detached(fails())])
    assert "fails failed: no paper" in caplog.text


def test_it_takes_a_coroutine() -> None:
    """A function that was not called is a mistake with a sentence."""
    with pytest.raises(TypeError, match="call the async function"):
        kitmsg.detached(Shop.later)  # type: ignore[arg-type]
