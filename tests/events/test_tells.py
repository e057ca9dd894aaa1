"""Tells: stored calls, now and later, carried out until they are done."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Service, endpoint
from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.wire import DEAD_REASON

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg import Kit

pytestmark = pytest.mark.anyio

WEST = timezone(timedelta(hours=-5))


class Mailer(Service):
    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.fails: list[Exception] = []

    @endpoint(durable=True)
    async def send(self, to: str, text: str = "") -> None:
        self.sent.append((to, text))
        if self.fails:
            raise self.fails.pop(0)

    @endpoint
    async def ask(self) -> int:
        return 1


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_tell_is_carried_out(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    await kit.tell(Mailer).send("a@b.example", "hi")
    await until(lambda: mailer.sent == [("a@b.example", "hi")])
    stream = await kit.jetstream.stream("tell-mailer")

    async def is_gone() -> bool:
        return (await stream.info()).messages == 0

    async with asyncio.timeout(10):
        while not await is_gone():
            await asyncio.sleep(0.01)


async def test_a_durable_endpoint_can_be_asked_too(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    await kit.client(Mailer).send("a", "b")
    assert mailer.sent == [("a", "b")]


async def test_what_is_told_while_nobody_is_there_is_done_later(kit: Kit) -> None:
    host = await kit.serve(Mailer())
    await host.drain()
    kit.hosts.remove(host)
    await kit.tell(Mailer).send("a")
    mailer = Mailer()
    await kit.serve(mailer)
    await until(lambda: mailer.sent == [("a", "")])


async def test_a_tell_that_fails_is_tried_again(kit: Kit) -> None:
    mailer = Mailer()
    mailer.fails = [RuntimeError("boom")]
    await kit.serve(mailer)
    await kit.tell(Mailer).send("a")
    await until(lambda: len(mailer.sent) == 2)


async def test_a_tell_for_later_waits_and_is_never_early(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    begun = kit.jetstream.now()
    await kit.tell(Mailer, after=1.0).send("after")
    at = datetime.fromtimestamp(begun + 1.0, UTC)
    await kit.tell(Mailer, at=at).send("at")
    await until(lambda: mailer.sent)
    assert kit.jetstream.now() - begun >= 1.0
    await until(lambda: len(mailer.sent) == 2)


async def test_a_tell_for_later_is_cancelled_by_its_id(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    await kit.tell(Mailer, after=1.0, id="welcome 7").send("a")
    await kit.tell(Mailer, after=1.0, id="welcome 8").send("b")
    assert await kit.cancel_tell(Mailer, "welcome 7")
    assert not await kit.cancel_tell(Mailer, "welcome 7")
    await until(lambda: mailer.sent)
    await asyncio.sleep(0.5)
    assert mailer.sent == [("b", "")]


async def test_a_tell_of_one_id_is_stored_once(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    for _ in range(3):
        await kit.tell(Mailer, id="welcome-7").send("a")
    await kit.tell(Mailer, id="end").send("b")
    await until(lambda: ("b", "") in mailer.sent)
    assert mailer.sent.count(("a", "")) == 1


async def test_a_tell_that_does_not_fit_is_refused_here(kit: Kit) -> None:
    await kit.serve(Mailer())
    with pytest.raises(TypeError, match="missing a required argument: 'to'"):
        await kit.tell(Mailer).send()  # type: ignore[call-arg]
    with pytest.raises(InvalidArgument, match="to"):
        await kit.tell(Mailer).send(7)  # type: ignore[arg-type]


async def test_only_durable_endpoints_can_be_told(kit: Kit) -> None:
    with pytest.raises(
        AttributeError, match=r"Mailer\.ask cannot be told; write @endpoint"
    ):
        await kit.tell(Mailer).ask()
    with pytest.raises(
        AttributeError, match="no endpoint 'sned'; it may be told: send"
    ):
        await kit.tell(Mailer).sned()  # type: ignore[attr-defined]


async def test_a_missing_stream_is_named(kit: Kit) -> None:
    with pytest.raises(
        FailedPrecondition, match=r"no stream stores 'tell\.mailer\.send'"
    ):
        await kit.tell(Mailer).send("a")


@pytest.mark.parametrize("kind", ["memory"])
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"after": -1}, "from 0 to ten years"),
        ({"after": 1, "at": datetime.now(UTC)}, "not both"),
        ({"at": datetime.now()}, "has no time zone"),
        ({"at": datetime(2262, 4, 12, tzinfo=UTC)}, "up to 2262-04-11"),
        ({"at": datetime.max.replace(tzinfo=WEST)}, "up to 2262-04-11"),
    ],
)
async def test_a_time_that_cannot_be_is_refused(
    kit: Kit, options: Any, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        kit.tell(Mailer, **options)


@pytest.mark.parametrize("kind", ["memory"])
async def test_the_last_failure_of_a_tell_is_a_dead_letter(kit: Kit) -> None:
    mailer = Mailer()
    mailer.fails = [RuntimeError(f"boom {n}") for n in range(5)]
    await kit.serve(mailer)
    begun = kit.jetstream.now()
    await kit.tell(Mailer).send("a")
    await until(lambda: len(mailer.sent) == 5, 1000)
    assert kit.jetstream.now() - begun >= 1 + 5 + 30 + 300
    await asyncio.sleep(1)
    letter = await (await kit.jetstream.stream("dead")).last("dead.mailer.send")
    assert letter.headers[DEAD_REASON] == "boom 4"


@pytest.mark.parametrize("kind", ["memory"])
async def test_a_tell_for_next_month_takes_no_time_to_test(kit: Kit) -> None:
    mailer = Mailer()
    await kit.serve(mailer)
    await kit.tell(Mailer, after=timedelta(days=30).total_seconds()).send("a")
    await asyncio.sleep(30 * 86_400 - 1)
    assert mailer.sent == []
    await asyncio.sleep(2)
    assert mailer.sent == [("a", "")]
