"""Least rights for services that publish, subscribe, are told and have schedules."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

import kitmsg
from kitmsg import Event, Kit, Service, endpoint, every, outbox, subscribe
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.cli.acl import users_of
from kitmsg.errors import BusDenied, PermissionDenied, Unavailable
from kitmsg.events.declared import apply, plan
from kitmsg.jetstream import ConsumerConfig, StreamConfig
from kitmsg.service.stored import declared_by
from tests.cli.acl.users import administered, configured, connected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str


class Shop(Service):
    publishes = (Placed,)

    def __init__(self, kit: Kit) -> None:
        self.kit = kit

    @endpoint
    async def place(self, order_id: str) -> int:
        return await self.kit.publish(Placed(order_id))


class Biller(Service):
    """Publishes once what it makes of an event."""

    publishes = (Placed,)

    @subscribe(Placed, once=True)
    async def bill(self, event: Placed) -> None: ...


class Mailer(Service):
    given: ClassVar[list[str]] = []

    @subscribe(Placed, retries=(0.05,))
    async def thank(self, event: Placed) -> None:
        self.given.append(event.order_id)
        if event.order_id == "bad":
            raise RuntimeError("boom")

    @subscribe(Placed, each="instance", stored=False)
    async def forget(self, event: Placed) -> None:
        self.given.append(f"forget {event.order_id}")

    @endpoint(durable=True)
    async def send(self, to: str) -> None:
        self.given.append(to)

    @every(1)
    async def digest(self) -> None:
        self.given.append("digest")


USERS = users_of([Shop, Mailer], [("shop", "mailer")], [])


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(config=administered(configured(USERS))) as made:
        yield made


async def until(*wanted: str) -> None:
    async with asyncio.timeout(10):
        while not set(wanted) <= set(Mailer.given):
            await asyncio.sleep(0.01)


async def test_all_of_it_works_with_exactly_these(
    server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Once somebody who may has made the streams and consumers."""
    async with kitmsg.connect(server.url, user="admin", password="admin") as admin:
        await apply(
            admin.jetstream, await plan(admin.jetstream, declared_by(Shop, Mailer))
        )
        async with (
            connected(server, "shop") as shop,
            connected(server, "mailer") as mailer,
        ):
            await shop.serve(Shop)
            await mailer.serve(Mailer)
            async with connected(server, "client") as client:
                await client.client(Shop).place("A1")
            await until("A1", "forget A1", "digest")
            await shop.tell(Mailer).send("a@b.example")
            await shop.tell(Mailer, after=0.2).send("later")
            await until("a@b.example", "later")
            await shop.publish(Placed("bad"))
            dead = await admin.jetstream.stream("dead")
            async with asyncio.timeout(10):
                while not (await dead.info()).messages:
                    await asyncio.sleep(0.05)
            assert Mailer.given.count("bad") == 2
    assert "ermission" not in caplog.text


async def test_the_relay_of_an_outbox_works_with_exactly_these(
    server: EmbeddedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    await outbox.make_tables(engine)
    async with kitmsg.connect(server.url, user="admin", password="admin") as admin:
        await apply(admin.jetstream, await plan(admin.jetstream, declared_by(Shop)))
        async with async_sessionmaker(engine).begin() as session:
            await outbox.add(session, Placed("outbox"))
        async with connected(server, "outbox") as kit:
            relay = asyncio.create_task(outbox.Relay(engine, kit.jetstream).run())
            async for event in admin.events(Placed, follow=True):
                if event.order_id == "outbox":
                    break
            relay.cancel()
            await asyncio.wait((relay,))
    await engine.dispose()
    assert "ermission" not in caplog.text


async def test_without_a_stream_somebody_with_the_least_rights_is_told_so() -> None:
    """And not that he may not ask which streams there are."""
    with EmbeddedServer(config=administered(configured(USERS))) as server:
        async with connected(server, "shop") as kit:
            with pytest.raises(Unavailable, match="no stream takes 'event.orders"):
                await kit.publish(Placed("A1"))


@pytest.mark.parametrize("name", ["shop", "mailer", "client", "outbox"])
async def test_nobody_makes_reads_or_says_what_is_others(
    server: EmbeddedServer, name: str
) -> None:
    async with connected(server, name) as kit:
        for attempt in (
            kit.jetstream.create_stream(StreamConfig(name="all", subjects=("x.>",))),
            kit.jetstream.delete_stream("orders"),
            kit.jetstream.publish("event.other.A1", b"{}", timeout=0.5),
        ):
            with pytest.raises(PermissionDenied):
                await attempt
        for subject in (
            "$JS.API.CONSUMER.CREATE.orders.x",
            "$JS.API.STREAM.PURGE.orders",
            "$JS.API.STREAM.MSG.DELETE.orders",
            "$JS.API.CONSUMER.MSG.NEXT.orders.other",
            "dead.other.x",
            "tell.other.x",
        ):
            with pytest.raises(BusDenied):
                await kit.bus.request(subject, b"{}", 2.0)


async def test_a_consumer_that_is_missing_is_named_with_its_remedy() -> None:
    with EmbeddedServer(config=administered(configured(USERS))) as server:
        async with kitmsg.connect(server.url, user="admin", password="admin") as admin:
            declared = declared_by(Mailer)
            declared.consumers.clear()
            await apply(admin.jetstream, await plan(admin.jetstream, declared))
        async with connected(server, "mailer") as kit:
            with pytest.raises(
                PermissionDenied,
                match=r"no consumer 'mailer-thank'.*`kitmsg streams apply` does",
            ):
                await kit.serve(Mailer)


async def test_a_plan_shows_what_is_missing_and_is_empty_when_it_is_applied(
    server: EmbeddedServer,
) -> None:
    with EmbeddedServer() as own:
        async with kitmsg.connect(own.url) as kit:
            changes = await plan(kit.jetstream, declared_by(Shop, Mailer))
            kinds = {(c.stream, c.consumer): c.kind for c in changes}
            assert set(kinds.values()) == {"create"}
            assert ("orders", "") in kinds
            assert ("orders", "mailer-thank") in kinds
            assert ("tick-mailer", "mailer-digest") in kinds
            assert ("dead", "mailer-send") in kinds
            await apply(kit.jetstream, changes)
            assert await plan(kit.jetstream, declared_by(Shop, Mailer)) == []
            stream = await kit.jetstream.stream("orders")
            await stream.update_consumer(
                ConsumerConfig(
                    name="mailer-thank", filters=("event.orders.x",), deliver="new"
                )
            )
            [change] = await plan(kit.jetstream, declared_by(Mailer))
            assert change.kind == "update"
            assert change.lines == ("filters: event.orders.x -> event.orders.placed.*",)
            await apply(kit.jetstream, [change])
            assert await plan(kit.jetstream, declared_by(Mailer)) == []


def test_a_service_with_once_may_look_for_what_it_published() -> None:
    reads = "$JS.API.DIRECT.GET.orders"
    users = {user.name: user for user in users_of([Biller, Mailer], [], [])}
    assert reads in users["biller"].publish
    assert reads not in users["mailer"].publish
