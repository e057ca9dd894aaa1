"""The list of endpoints that gateways build on."""
# the services here are props

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.discovery.catalog import Catalog
from kitmsg.discovery.subject import EndpointInfo, ServiceInfo
from kitmsg.schema.live import document_hash

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Subscription
    from kitmsg.message import Message


class Greeter(Service):
    @endpoint(http="GET /hello/{name}", idempotent=True, timeout=1.5)
    async def hello(self, name: str) -> str:
        """Says hello."""
        return name


class Next(Service):
    name = "greeter"
    version = "0.2.0"

    @endpoint
    async def hello(self, name: str, times: int = 1) -> str:
        return name * times


@pytest.fixture
def changes() -> list[list[str]]:
    return []


@pytest.fixture
async def catalog(kit: Kit, changes: list[list[str]]) -> AsyncIterator[Catalog]:
    def note() -> None:
        changes.append([f"{e.service} {e.version}" for e in found.endpoints])

    found = Catalog(kit.bus, interval=2.0, on_change=note)
    yield found
    await found.stop()


def announce(kit: Kit, name: str, **options: Any) -> Subscription:
    """Answer INFO as a plain micro service does."""
    endpoints = options.pop("endpoints")
    info = ServiceInfo(
        name=name,
        id=options.get("id", name),
        version=options.get("version", "1.0.0"),
        endpoints=endpoints,
    )
    body = msgspec.json.encode(info)
    return kit.bus.subscribe(
        "$SRV.INFO", lambda message: kit.bus.publish(message.reply, body)
    )


async def test_an_endpoint_is_listed_with_its_facts_and_schema(
    kit: Kit, catalog: Catalog, changes: list[list[str]]
) -> None:
    """What INFO says, read; and the schemas that its hash stands for."""
    await kit.serve(Greeter())
    await catalog.start()
    assert catalog.is_ready
    (found,) = catalog.endpoints
    assert (found.service, found.name, found.subject) == (
        "greeter",
        "hello",
        "greeter.hello",
    )
    assert (found.http, found.is_idempotent, found.timeout) == (
        "GET /hello/{name}",
        True,
        1.5,
    )
    assert (found.is_kit, found.wire, found.stream) == (True, "kit", "")
    assert found.description == "Says hello."
    assert found.schema is not None
    assert found.schema["hash"] == found.hash
    assert changes == [["greeter 0.1.0"]]


async def test_schemas_are_asked_for_once(kit: Kit, catalog: Catalog) -> None:
    """A hash that is known is not asked for again, whoever shows it."""
    asked: list[Message] = []
    await kit.serve(Greeter())
    kit.bus.subscribe("greeter._schema", asked.append)
    await catalog.start()
    await kit.serve(Greeter())
    await asyncio.sleep(10)
    assert len(asked) == 1


async def test_a_change_is_told_once_and_only_a_change(
    kit: Kit, catalog: Catalog, changes: list[list[str]]
) -> None:
    """Services that come and go are told of; silence is no news."""
    await catalog.start()
    host = await kit.serve(Greeter())
    await asyncio.sleep(1)
    second = await kit.serve(Greeter())
    await asyncio.sleep(1)
    # First the service, then, with its schema, what it serves.
    assert changes[:2] == [[], ["greeter 0.1.0"]]
    assert [] not in changes[2:]
    for one in (host, second):
        await one.drain()
        kit.hosts.remove(one)
    await asyncio.sleep(10)
    assert changes[-1] == []
    told = len(changes)
    await asyncio.sleep(30)
    assert len(changes) == told


async def test_the_older_version_stays_until_the_newer_one_can_be_read(
    kit: Kit, catalog: Catalog, changes: list[list[str]]
) -> None:
    """There is no moment without the endpoint."""
    await kit.serve(Greeter())
    await catalog.start()
    await Kit(kit.bus).serve(Next())
    await asyncio.sleep(1)
    assert all(change for change in changes)
    assert changes[-1] == ["greeter 0.2.0"]
    assert catalog.services["greeter"].version == "0.2.0"


async def test_a_subject_that_cannot_be_called_is_refused(
    kit: Kit, catalog: Catalog
) -> None:
    """It is said, and the other endpoints are listed."""
    bad = EndpointInfo(name="bad", subject="far.*")
    good = EndpointInfo(name="good", subject="far.good")
    announce(kit, "far", endpoints=[bad, good])
    await catalog.start()
    assert [e.name for e in catalog.endpoints] == ["good"]
    (sentence,) = catalog.refused
    assert "far.bad is not listed" in sentence


async def test_a_failing_callback_is_logged_and_harms_nothing(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """The next change is followed as ever."""

    def fail() -> None:
        raise RuntimeError("boom")

    catalog = Catalog(kit.bus, on_change=fail)
    await catalog.start()
    await kit.serve(Greeter())
    await asyncio.sleep(1)
    assert [e.name for e in catalog.endpoints] == ["hello"]
    assert "could not be followed" in caplog.text
    await catalog.stop()


async def test_a_service_without_an_answer_about_schemas_is_listed_without(
    kit: Kit, catalog: Catalog
) -> None:
    """It is asked again later, and listed with them when it answers."""
    hash_ = document_hash({"request": {}})
    schema = {"request": {}, "hash": hash_}
    metadata = {"kit.schema": hash_}
    announce(
        kit,
        "far",
        endpoints=[EndpointInfo(name="do", subject="far.do", metadata=metadata)],
    )
    await catalog.start()
    assert [e.schema for e in catalog.endpoints] == [None]
    body = msgspec.json.encode({"do": schema})
    kit.bus.subscribe(
        "far._schema", lambda message: kit.bus.publish(message.reply, body)
    )
    await asyncio.sleep(10)
    assert [e.schema for e in catalog.endpoints] == [schema]


async def test_schemas_of_those_that_left_are_not_kept_for_ever(
    kit: Kit, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only so many; those that are shown stay."""
    monkeypatch.setattr("kitmsg.discovery.catalog._MAX_SCHEMAS", 1)
    await catalog.start()
    first = await kit.serve(Greeter())
    await asyncio.sleep(1)
    await Kit(kit.bus).serve(Next())
    await first.drain()
    kit.hosts.remove(first)
    await asyncio.sleep(10)
    (shown,) = catalog.endpoints
    assert shown.schema is not None
    assert catalog._schemas.keys() == {shown.hash}


class Other(Service):
    """Greets by number."""

    name = "greeter"

    @endpoint
    async def hello(self, number: int) -> int:
        return number


async def test_two_classes_of_one_name_are_a_warning_that_names_both(
    kit: Kit, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    """And each endpoint has the instances that serve it as its schema says."""
    mine = await kit.serve(Greeter())
    other = await Kit(kit.bus).serve(Other())
    await catalog.start()
    (sentence,) = catalog.conflicts
    assert mine.id in sentence
    assert f"{other.id} (Greets by number.)" in sentence
    assert sentence in caplog.text
    (hello,) = catalog.endpoints
    (id_,) = hello.instances
    wants_number = "number" in str(hello.schema)
    assert id_ == (other.id if wants_number else mine.id)


async def test_two_versions_of_a_service_are_no_conflict(
    kit: Kit, catalog: Catalog
) -> None:
    """A deployment is under way: any instance may have the call."""
    await kit.serve(Greeter())
    await Kit(kit.bus).serve(Next())
    await catalog.start()
    assert catalog.conflicts == []
    assert catalog.endpoints[0].instances == ()
