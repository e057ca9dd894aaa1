"""Events that services announce, merged and compared."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg import Event, Kit, Service, Stream, endpoint, subscribe
from kitmsg.cli.ls import warn_of_conflicts
from kitmsg.discovery.catalog import Catalog
from kitmsg.discovery.events import announced_events, event_conflicts
from kitmsg.discovery.subject import ServiceInfo, find_services
from kitmsg.events.envelope import Writer
from kitmsg.wire import CE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Placed(Event, subject="orders.placed.{order_id}"):
    """An order was placed."""

    order_id: str
    cents: int = 0


class Shipped(Event, subject="orders.shipped", stream=Stream(name="parcels")):
    order_id: str


class Orders(Service):
    publishes = (Placed, Shipped)

    @endpoint
    async def place(self, order_id: str) -> None: ...


class Mail(Service):
    @subscribe(Placed, stored=False)
    async def thank(self, event: Placed) -> None: ...


class Other(Event, subject="orders.placed.{order_id}"):
    order_id: str


class Audit(Service):
    @subscribe(Other, stored=False)
    async def note(self, event: Other) -> None: ...


@pytest.fixture
async def catalog(kit: Kit) -> AsyncIterator[Catalog]:
    found = Catalog(kit.bus)
    yield found
    await found.stop()


def instance(
    name: str,
    event: dict[str, Any] | None = None,
    *,
    id_: str = "",
    version: str = "1.0.0",
) -> ServiceInfo:
    """Return an instance that announces one event."""
    plain = {
        "name": "orders.placed",
        "version": 1,
        "subject": "orders.placed.{order_id}",
        "stream": "orders",
        "schema": "a" * 16,
        "role": "publish",
    }
    text = msgspec.json.encode([{**plain, **(event or {})}]).decode()
    metadata = {"kit.events": text}
    return ServiceInfo(name=name, id=id_ or name, version=version, metadata=metadata)


async def test_an_event_is_listed_with_its_schema_and_both_sides(
    kit: Kit, catalog: Catalog
) -> None:
    """Publishers and subscribers, and the schema under the hash that events carry."""
    await kit.serve(Mail())
    await kit.serve(Orders())
    await catalog.start()
    placed, shipped = catalog.events
    assert (placed.name, placed.version, placed.subject, placed.stream) == (
        *("orders.placed", 1),
        *("orders.placed.{order_id}", "orders"),
    )
    assert placed.fields == ("order_id",)
    assert placed.publishers == ("orders",)
    assert placed.subscribers == ("mail",)
    assert placed.schema is not None
    assert "hash" not in placed.schema
    assert placed.schema["$defs"]["Placed"]["description"] == "An order was placed."
    headers = Writer(Placed).headers("1", "orders")
    assert headers[CE_SCHEMA] == f"kit:orders.placed:1:{placed.hash}"
    assert (shipped.stream, shipped.subscribers) == ("parcels", ())
    assert catalog.event_conflicts == []


async def test_a_schema_is_served_by_its_hash_too(kit: Kit) -> None:
    """An event that was stored carries the hash, by which its schema is found."""
    await kit.serve(Mail())
    (info,) = await find_services(kit.bus)
    (event,) = announced_events(info)
    by_hash = await kit.bus.request(f"_kit.schema.mail.{event.schema}", b"", 1)
    all_ = await kit.bus.request("mail._schema", b"", 1)
    found = msgspec.json.decode(by_hash.data)
    assert found["hash"] == event.schema
    assert msgspec.json.decode(all_.data) == {"event.orders.placed": found}


async def test_an_event_that_comes_is_told_of(kit: Kit) -> None:
    """Subscribers have no endpoint, and are listed all the same."""
    seen: list[list[str]] = []
    found = Catalog(
        kit.bus, on_change=lambda: seen.append([e.name for e in found.events])
    )
    await found.start()
    await kit.serve(Mail())
    await asyncio.sleep(1)
    await found.stop()
    assert seen[-1] == ["orders.placed"]


async def test_the_definition_is_that_of_the_publisher(
    kit: Kit, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscriber with a class of its own does not change what the event is."""
    await kit.serve(Audit())
    await kit.serve(Orders())
    with caplog.at_level(logging.WARNING, "kitmsg.discovery"):
        await catalog.start()
    placed = catalog.events[0]
    assert placed.schema is not None
    assert "Placed" in placed.schema["$defs"]
    assert placed.subscribers == ("audit",)
    assert "audit has" in caplog.text
    (sentence,) = catalog.event_conflicts
    assert "the event 'orders.placed' version 1 different schemas" in sentence


def test_ls_warns_of_services_that_disagree(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with the services and what each says."""
    warn_of_conflicts(
        [
            instance("orders"),
            instance("mail", {"role": "subscribe", "schema": "b" * 16}),
        ]
    )
    out, err = capsys.readouterr()
    assert out == ""
    assert f"mail has '{'b' * 16}'" in err
    assert f"orders has '{'a' * 16}'" in err


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"schema": "b" * 16}, "different schemas"),
        ({"subject": "orders.placed.{id}"}, "different subjects"),
        ({"stream": "other"}, "different streams"),
        ({"stream": "other", "version": 2}, "different streams"),
        ({"schema": "b" * 16, "version": 2}, ""),
        ({}, ""),
    ],
)
def test_a_difference_is_said(other: dict[str, Any], said: str) -> None:
    """Another version of an event may have another schema, and no other place."""
    found = event_conflicts([instance("orders"), instance("mail", other)])
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_a_deployment_under_way_is_no_conflict() -> None:
    """The newest instance of a service says what the service says."""
    old = instance("orders", id_="z", version="1.0.0")
    new = instance("orders", {"schema": "b" * 16}, id_="a", version="1.1.0")
    mail = instance("mail", {"schema": "b" * 16, "role": "subscribe"})
    assert event_conflicts([new, old, mail]) == []


@pytest.mark.parametrize(
    "event",
    [
        {"subject": "orders.placed.>"},
        {"subject": "{order_id}", "name": ""},
        {"subject": "orders.{a}.{a}", "name": "orders"},
        {"name": "payments"},
        {"version": 0},
        {"stream": "a.b"},
        {"schema": "b"},
        {"role": "owner"},
        {"subject": "a." * 40 + "a", "name": "a." * 40 + "a"},
    ],
)
def test_an_announcement_that_cannot_be_is_not_read(event: dict[str, Any]) -> None:
    """A peer writes whatever it likes there."""
    assert announced_events(instance("orders", event)) == ()


@pytest.mark.parametrize("text", ["", "[", "{}", "[" * 5000, "[1]", " " * 200_000])
def test_text_that_is_no_list_of_events_is_none(text: str) -> None:
    """It harms nobody else."""
    info = ServiceInfo(name="x", id="x", version="1.0.0", metadata={"kit.events": text})
    assert announced_events(info) == ()
