"""Discovery proposes, the operator disposes: a hostile peer takes nothing from others."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.nats import NatsBus
from kitmsg.discovery.catalog import Catalog
from kitmsg.discovery.claims import Claims, SubjectPolicy
from kitmsg.discovery.limits import MAX_ENDPOINTS, MAX_SERVICES
from kitmsg.discovery.subject import EndpointInfo, ServiceInfo, find_services
from kitmsg.errors import InvalidArgument
from kitmsg.schema.live import document_hash
from tests.flood import flood

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus.embedded import EmbeddedServer

HOSTILE = 10_000


class Orders(Service):
    """Takes orders."""

    @endpoint(http="GET /orders/{order}")
    async def get(self, order: str) -> str:
        """Return it."""
        return order


def info(name: str, instance: str, *subjects: str, **metadata: str) -> ServiceInfo:
    """Return the INFO of an instance that serves some subjects."""
    endpoints = [
        EndpointInfo(name=f"e{n}", subject=subject, metadata=metadata)
        for n, subject in enumerate(subjects)
    ]
    return ServiceInfo(name=name, id=instance, version="1.0.0", endpoints=endpoints)


class Mallory:
    """Somebody hostile on the bus."""

    def __init__(self, bus: NatsBus) -> None:
        self.bus = bus

    def claim(self, *infos: ServiceInfo) -> None:
        """Answer INFO and PING for instances that nobody runs, and announce them."""
        bodies = [msgspec.json.encode(one) for one in infos]

        def answer(message: Any) -> None:
            for body in bodies:
                self.bus.publish(message.reply, body)

        self.bus.subscribe("$SRV.INFO", answer)
        for one, body in zip(infos, bodies, strict=True):
            self.bus.publish(f"_kit.up.{one.name}", body)


@pytest.fixture
async def mallory(nats_server: EmbeddedServer) -> AsyncIterator[Mallory]:
    bus = await NatsBus.connect(nats_server.url)
    yield Mallory(bus)
    await bus.close()


@pytest.fixture
async def kit(nats_server: EmbeddedServer) -> AsyncIterator[Kit]:
    kit = Kit(await NatsBus.connect(nats_server.url))
    yield kit
    await kit.close()


@pytest.fixture
async def follow(
    nats_server: EmbeddedServer,
) -> AsyncIterator[Callable[..., Any]]:
    """Start catalogs on connections of their own, and wait until services are listed."""
    started: list[tuple[NatsBus, Catalog]] = []

    async def start(*services: str, **options: Any) -> Catalog:
        bus = await NatsBus.connect(nats_server.url)
        catalog = Catalog(bus, interval=0.2, **options)
        started.append((bus, catalog))
        await catalog.start()
        # An answer that comes late is one of the next round.
        await until(lambda: {*services} <= {*listed(catalog).values()})
        await until(lambda: not catalog._fetching)
        return catalog

    yield start
    for bus, catalog in started:
        await catalog.stop()
        await bus.close()


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def listed(catalog: Catalog) -> dict[str, str]:
    """Return the services by the subjects that they are called at."""
    return {each.subject: each.service for each in catalog.endpoints}


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("$JS.API.STREAM.DELETE.LEDGER", "of NATS or kitmsg itself"),
        ("_kit.cancel.orders", "of NATS or kitmsg itself"),
        ("_INBOX.kit_x.17", "of NATS or kitmsg itself"),
        ("orders.get", "'orders' has its subject 'orders.get'"),
        ("orders.other", "is below 'orders', another service"),
        ("a.*", "wildcard"),
    ],
)
async def test_an_info_leads_to_no_subject_of_others(
    kit: Kit, mallory: Mallory, follow: Callable[..., Any], subject: str, why: str
) -> None:
    """The first owner keeps it; a sentence names both."""
    await kit.serve(Orders())
    catalog = await follow("orders")
    assert listed(catalog) == {"orders.get": "orders"}
    mallory.claim(info("evil", "e1", subject, "evil.fine"))
    await until(lambda: "evil.fine" in listed(catalog))
    assert listed(catalog) == {"orders.get": "orders", "evil.fine": "evil"}
    (sentence,) = catalog.refused
    assert sentence.startswith("evil.e0 is not listed: ")
    assert why in sentence


async def test_a_foreign_service_keeps_subjects_that_do_not_carry_its_name(
    mallory: Mallory, follow: Callable[..., Any]
) -> None:
    """As those of nats.go do, be there a service of that name later."""
    mallory.claim(info("calc", "c1", "plus", "math.minus"))
    catalog = await follow("calc")
    assert listed(catalog) == {"plus": "calc", "math.minus": "calc"}
    mallory.claim(info("plus", "p1", "plus.one"), info("math", "m1", "math.minus"))
    await until(lambda: "plus.one" in listed(catalog))
    assert listed(catalog)["math.minus"] == listed(catalog)["plus"] == "calc"
    assert "math.e0" in str(catalog.refused)
    assert "'calc' has its subject" in str(catalog.refused)


async def test_strictly_a_service_is_called_below_its_name(
    mallory: Mallory, follow: Callable[..., Any]
) -> None:
    """And where the operator says so."""
    policy = SubjectPolicy.of(strict=True, allowed=["calc=math.>"])
    mallory.claim(info("calc", "c1", "plus", "math.minus", "calc.times"))
    catalog = await follow("calc", policy=policy)
    assert set(listed(catalog)) == {"math.minus", "calc.times"}
    (sentence,) = catalog.refused
    assert "--allow-subject 'calc=plus'" in sentence


@pytest.mark.parametrize("text", ["calc", "calc=", "a b=x", "=x", "calc=a..b"])
def test_an_allowance_is_checked(text: str) -> None:
    """A mistake is a sentence at the start."""
    with pytest.raises(InvalidArgument, match="SERVICE=PATTERN"):
        SubjectPolicy.of(strict=False, allowed=[text])


def test_a_claim_outlives_its_service_for_a_while() -> None:
    """Between two lives of a service nobody takes what it had; in the end it is free."""
    claims = Claims(SubjectPolicy())
    claims.settle(["orders"], 0.0)
    assert claims.take("orders", "orders.get", 0.0) == ""
    claims.settle(["evil"], 60.0)
    assert "'orders' has its subject" in claims.take("evil", "orders.get", 60.0)
    assert "below 'orders'" in claims.take("evil", "orders.put", 60.0)
    claims.settle(["evil", "orders"], 120.0)
    assert claims.take("orders", "orders.get", 120.0) == ""
    claims.settle(["evil"], 1000.0)
    assert claims.take("evil", "orders.get", 1000.0) == ""
    assert len(claims) == 2


async def test_what_claims_remember_is_bounded() -> None:
    """A flood of names makes it forget those that left, not grow."""
    claims = Claims(SubjectPolicy())
    for n in range(100):
        names = [f"s{n}x{i}" for i in range(1000)]
        claims.settle(names, float(n * 2))
        for name in names:
            claims.take(name, f"{name}.e", float(n * 2))
    assert len(claims) < 25_000


async def test_a_goodbye_is_confirmed_by_a_ping(
    kit: Kit, mallory: Mallory, follow: Callable[..., Any]
) -> None:
    """Nobody is gone because somebody says so; who says so of himself is, at once."""
    host = await kit.serve(Orders())
    catalog = await follow("orders")
    seen: list[set[str]] = []
    catalog._on_change = lambda: seen.append(set(listed(catalog)))
    for name in ("orders", "evil"):
        for _ in range(50):
            mallory.bus.publish(f"_kit.down.{name}", host.id.encode())
    await mallory.bus.flush()
    await asyncio.sleep(0.5)
    assert seen == []
    await host.drain()
    await until(lambda: not catalog.endpoints)


async def test_presence_speaks_for_its_own_name_only(
    kit: Kit, mallory: Mallory, follow: Callable[..., Any]
) -> None:
    """Neither on another's subject, nor with another's id."""
    host = await kit.serve(Orders())
    catalog = await follow("orders")
    stolen = msgspec.json.encode(info("evil", host.id, "evil.x"))
    mallory.bus.publish("_kit.up.evil", stolen)
    other = msgspec.json.encode(info("evil", "e1", "evil.x"))
    mallory.bus.publish("_kit.up.orders", other)
    many = [f"evil.{n}" for n in range(MAX_ENDPOINTS + 1)]
    mallory.bus.publish("_kit.up.evil", msgspec.json.encode(info("evil", "e2", *many)))
    mallory.claim(info("fine", "f1", "fine.x"))
    await until(lambda: "fine.x" in listed(catalog))
    assert set(listed(catalog)) == {"orders.get", "fine.x"}


async def test_noise_in_a_round_takes_nobody_from_the_list(
    kit: Kit, mallory: Mallory, follow: Callable[..., Any], monkeypatch: Any
) -> None:
    """One that is not heard among many is asked by itself before it is gone."""
    await kit.serve(Orders())
    catalog = await follow("orders")
    seen: list[set[str]] = []
    catalog._on_change = lambda: seen.append(set(listed(catalog)))
    monkeypatch.setattr("kitmsg.discovery.subject._MOST_REPLIES", 0)
    await asyncio.sleep(1.0)
    assert seen == []
    assert set(listed(catalog)) == {"orders.get"}


async def test_ten_thousand_instances_that_are_not_there(
    nats_server: EmbeddedServer, kit: Kit, follow: Callable[..., Any]
) -> None:
    """Real ones stay, callers see no error, and what is listed is bounded."""
    await kit.serve(Orders())
    catalog = await follow("orders")
    answers = 0

    async def call() -> None:
        nonlocal answers
        while True:
            assert await kit.client(Orders).get("a") == "a"
            answers += 1
            await asyncio.sleep(0.005)

    calling = asyncio.create_task(call())
    async with flood(nats_server.url, HOSTILE):
        await until(lambda: len(catalog.services) > 100)
        await asyncio.sleep(1.5)
    assert not calling.done(), calling.result()
    calling.cancel()
    assert answers > 20
    assert listed(catalog)["orders.get"] == "orders"
    assert len(catalog.services) <= MAX_SERVICES
    assert len(catalog.refused) <= 101


BOMB: dict[str, Any] = {
    "request": {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}] * 12}},
    }
}
CHAIN: dict[str, Any] = {
    "request": {
        "$defs": {
            f"A{n}": {"anyOf": [{"$ref": f"#/$defs/A{n + 1}"}] * 2} for n in range(2000)
        }
    }
}
WIDE: dict[str, Any] = {"request": {"enum": list(range(30_000))}}


def deep(levels: int) -> dict[str, Any]:
    """Return a schema of many levels."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"items": found}
    return {"request": found}


@pytest.mark.parametrize(
    "schema", [CHAIN, WIDE, deep(200)], ids=["chain", "wide", "deep"]
)
async def test_a_schema_over_its_budget_is_read_by_nobody(
    kit: Kit,
    mallory: Mallory,
    follow: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    schema: dict[str, Any],
) -> None:
    """Its endpoint counts as one without a schema, and one log line says why."""
    await kit.serve(Orders())
    serve_schema(mallory, schema, document_hash(schema))
    with caplog.at_level(logging.WARNING):
        catalog = await follow("orders", "evil")
    assert {e.subject: e.schema is None for e in catalog.endpoints} == {
        "evil.x": True,
        "orders.get": False,
    }
    assert caplog.text.count("counts as one without") == 1


@pytest.mark.parametrize("schema", [{"request": {"type": "object"}}, BOMB])
async def test_a_schema_is_believed_under_its_own_hash_only(
    mallory: Mallory, follow: Callable[..., Any], schema: dict[str, Any]
) -> None:
    """Else one service says what another takes: schemas are asked for by hash."""
    serve_schema(mallory, schema, "0123456789abcdef")
    catalog = await follow("evil")
    assert [each.schema for each in catalog.endpoints] == [None]


async def test_a_schema_that_nobody_asked_for_is_not_kept(
    kit: Kit, mallory: Mallory, follow: Callable[..., Any]
) -> None:
    """A service tells its own."""
    mine = {"request": {"type": "object"}}
    many = [{"request": {"title": f"{n}"}} for n in range(100)]
    serve_schema(mallory, mine, document_hash(mine), *many)
    catalog = await follow("evil")
    assert [each.schema for each in catalog.endpoints] == [
        {**mine, "hash": document_hash(mine)}
    ]
    assert len(catalog._schemas) == 1


def serve_schema(
    mallory: Mallory, schema: dict[str, Any], hash_: str, *others: dict[str, Any]
) -> None:
    """Have somebody hostile serve an endpoint with a schema, and say its hash."""
    said = {"x": {**schema, "hash": hash_}}
    said |= {f"o{n}": {**o, "hash": document_hash(o)} for n, o in enumerate(others)}
    body = msgspec.json.encode(said)
    mallory.bus.subscribe("evil._schema", lambda m: mallory.bus.respond(m, body))
    one = msgspec.json.encode({**schema, "hash": hash_})
    mallory.bus.subscribe("_kit.schema.>", lambda m: mallory.bus.respond(m, one))
    mallory.claim(info("evil", "e1", "evil.x", **{"kit.schema": hash_}))


async def test_what_a_peer_says_of_itself_moves_no_terminal(
    mallory: Mallory, kit: Kit
) -> None:
    """Descriptions, metadata and names, wherever they are shown."""
    evil = "\x1b[2Jall is well\u202e\x9b"
    one = ServiceInfo(
        name="evil",
        id="e1",
        version="1.0.0",
        description=evil,
        metadata={evil: evil},
        endpoints=[EndpointInfo(name=evil, subject="evil.x", metadata={"a": evil})],
    )
    mallory.claim(one)
    await mallory.bus.flush()
    (found,) = await find_services(kit.bus)
    shown = msgspec.json.encode(found).decode()
    assert "all is well" in shown
    assert not any(mark in shown for mark in ("\\u001b", "\x9b", "\u202e"))
