"""``kit.events.v1.Events``: open events, published and followed by grpcio's own client."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

import kitmsg
from kitmsg import Event, Service, subscribe
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import PermissionDenied
from kitmsg.events.declared import Declared, apply, plan
from kitmsg_gateways.grpc.events import FILE, events_file
from kitmsg_gateways.grpc.load import load
from tests.auth.tokens import SECRET, sign

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg import Kit
    from kitmsg.context import Context

PUBLISH = "kit.events.v1.Events/Publish"
WATCH = "kit.events.v1.Events/Watch"
STATIC = Path(__file__).parents[3] / "gateways/kitmsg_gateways/grpc/static"


class Placed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    total: Decimal = Decimal(1)
    count: int = 1


class Orders(Service):
    publishes = (Placed,)


class Mail(Service):
    def __init__(self) -> None:
        self.got: list[tuple[Placed, Any]] = []

    @subscribe(Placed)
    async def thank(self, event: Placed) -> None:
        self.got.append((event, kitmsg.current().headers))


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    """A bus with a service that publishes, and the stream of its event."""
    async with kitmsg.connect(bus=MemoryBus()) as made:
        declared = Declared()
        declared.event(Placed)
        await apply(made.jetstream, await plan(made.jetstream, declared))
        await made.serve(Orders())
        yield made


@pytest.fixture
async def call(kit: Kit, start: Callable[..., Any]) -> Any:
    """A gateway at which the event is open."""
    return await start(kit, events=("orders.placed",))


def event(order_id: str = "A1", **more: Any) -> dict[str, Any]:
    """Return an event as a client publishes it."""
    data = json.dumps({"order_id": order_id, "total": "9.50"})
    return {"id": f"id-{order_id}", "source": "/till/1", "json": data, **more}


async def publish(call: Any, *events: dict[str, Any], **options: Any) -> list[Any]:
    """Publish events; returns what is said of each."""
    answer = await call(PUBLISH, name="orders.placed", events=events, **options)
    return list(answer.stored)


async def read(call: Any, **wanted: Any) -> list[Any]:
    """Return what the log has, to its end."""
    fields = {"name": "orders.placed", "since": "1", "to_end": True, **wanted}
    watch = call.stub(WATCH)(call.request(WATCH, **fields), timeout=20)
    return [one async for one in watch]


def orders(found: list[Any]) -> list[str]:
    """Return the order ids of what was read."""
    return [json.loads(one.event.json)["order_id"] for one in found]


def field_of(error: grpc.aio.AioRpcError) -> str:
    """Return the field that a refusal names."""
    found = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(found).details:
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            return str(bad.field_violations[0].field)
    return ""


async def test_a_published_event_is_stored_and_delivered(kit: Kit, call: Any) -> None:
    """The answer has its number; a service that subscribes gets it with its attributes."""
    mail = Mail()
    await kit.serve(mail)
    (stored,) = await publish(
        call, event(time="2026-11-28T12:00:00Z", attributes={"shop": "north"})
    )
    assert (stored.sequence, stored.duplicate) == (1, False)
    async with asyncio.timeout(20):
        while not mail.got:
            await asyncio.sleep(0.01)
    ((got, headers),) = mail.got
    assert got == Placed("A1", Decimal("9.50"))
    assert headers["ce-id"] == "id-A1"
    assert headers["ce-source"] == "/till/1"
    assert headers["ce-time"] == "2026-11-28T12:00:00Z"
    assert headers["ce-shop"] == "north"


async def test_an_event_that_is_sent_again_is_stored_once(call: Any) -> None:
    """By its id; several are stored in order."""
    first = await publish(call, event("A1"), event("A2"))
    again = await publish(call, event("A2"))
    assert [one.sequence for one in first] == [1, 2]
    assert [(one.sequence, one.duplicate) for one in again] == [(2, True)]
    assert orders(await read(call)) == ["A1", "A2"]


async def test_fields_may_be_values(call: Any) -> None:
    """A Struct has doubles; those that are whole are whole numbers in the event."""
    data = {"order_id": "A1", "total": "9.50", "count": 3}
    await publish(call, {"id": "1", "source": "/x", "fields": data})
    (found,) = await read(call)
    got = json.loads(found.event.json)
    assert got == data
    assert isinstance(got["count"], int)
    (found,) = await read(call, as_fields=True)
    assert dict(found.event.fields) == data


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"id": ""}, "events[1].id"),
        ({"source": ""}, "events[1].source"),
        ({"type": "orders.shipped"}, "events[1].type"),
        ({"time": "noon"}, "events[1].time"),
        ({"json": "{"}, "events[1].json"),
        ({"json": "[]"}, "events[1].json"),
        ({"json": '{"order_id": 7}'}, "events[1].data.order_id"),
        ({"json": '{"total": "1"}'}, "events[1].data.order_id"),
        ({"attributes": {"Shop!": "x"}}, "events[1].Shop!"),
        ({"json": None, "binary": b"x"}, "events[1].binary"),
        ({"json": None, "fields": {"count": float("inf")}}, "events[1].fields"),
    ],
)
async def test_what_does_not_fit_is_refused_by_field(
    call: Any, wrong: dict[str, Any], field: str
) -> None:
    """Nothing is stored, not even the events before it."""
    given = {key: value for key, value in event("A2", **wrong).items() if value != None}  # noqa: E711
    error = await call.failure(
        PUBLISH, name="orders.placed", events=[event("A1"), given]
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field_of(error) == field
    assert await read(call) == []


async def test_a_log_is_read_from_a_place(call: Any) -> None:
    """From a number, behind one, from a time, and by the fields of its subject."""
    await publish(call, *(event(f"A{n}") for n in range(1, 5)))
    assert orders(await read(call, since="3")) == ["A3", "A4"]
    assert orders(await read(call, after=3)) == ["A4"]
    assert orders(await read(call, after=0)) == ["A1", "A2", "A3", "A4"]
    assert orders(await read(call, since="1h")) == ["A1", "A2", "A3", "A4"]
    assert orders(await read(call, where={"order_id": "A2"})) == ["A2"]
    (found,) = await read(call, since="4")
    assert (found.sequence, found.gap) == (4, False)
    assert found.event.id == "id-A4"
    assert found.event.source == "/till/1"
    assert found.event.type == "orders.placed"
    assert found.event.dataschema.startswith("kit:orders.placed:1:")
    assert "sequence" not in found.event.attributes


@pytest.mark.parametrize("as_fields", [False, True])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"order_id":"\xff"}', "binary"),
        (b"\xff\xfe", "binary"),
        (b"[1, 2]", "json"),
        (b'{"order_id":"x","big":1e400}', None),
        (b"{", "binary"),
        (b"", "binary"),
    ],
)
async def test_what_others_store_is_read_on(
    kit: Kit, call: Any, data: bytes, kind: str | None, as_fields: bool
) -> None:
    """Any client of NATS may store anything there; one odd event ends nobody's watch."""
    headers = {"ce-x": "caf\u00e9%FF", "Content-Type": "application/json"}
    await kit.jetstream.publish("event.orders.placed.odd", data, headers)
    await publish(call, event("A2"))
    odd, found = await read(call, as_fields=as_fields)
    assert (odd.event.id, odd.event.type) == ("1", "orders.placed")
    assert kind in (None, odd.event.WhichOneof("data"))
    if kind == "binary":
        assert odd.event.binary == data
    assert found.event.id == "id-A2"


async def test_a_gap_is_told(kit: Kit, call: Any) -> None:
    """To who comes back, and events since have gone."""
    await publish(call, *(event(f"A{n}") for n in range(1, 5)))
    stream = await kit.jetstream.stream("orders")
    await stream.purge(before=4)
    found = await read(call, after=1)
    assert [(one.sequence, one.gap) for one in found] == [(4, True)]


async def test_a_watch_goes_on_with_what_comes(kit: Kit, call: Any) -> None:
    """From the moment at which its metadata came; by any publisher."""
    await publish(call, event("A1"))
    watch = call.stub(WATCH)(call.request(WATCH, name="orders.placed"), timeout=30)
    await watch.initial_metadata()
    await publish(call, event("A2"))
    await kit.publish(Placed("A3"))
    found = [await watch.read(), await watch.read()]
    assert orders(found) == ["A2", "A3"]


async def test_a_watch_that_is_cancelled_leaves_nothing(call: Any) -> None:
    """The last one who follows takes the gateway's reading of the log along."""
    watch = call.stub(WATCH)(call.request(WATCH, name="orders.placed"))
    await watch.initial_metadata()
    assert call.server.events._feeds
    watch.cancel()
    async with asyncio.timeout(20):
        while call.server.events._feeds:
            await asyncio.sleep(0.01)
    assert call.server.metrics.in_flight == 0


async def test_a_watch_ends_at_its_deadline(call: Any) -> None:
    """As any call."""
    watch = call.stub(WATCH)(call.request(WATCH, name="orders.placed"), timeout=0.5)
    assert await watch.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(20):
        while call.server.events._feeds:
            await asyncio.sleep(0.01)


async def test_a_watch_ends_when_the_gateway_stops(kit: Kit, start: Any) -> None:
    """It is told to come back, and the gateway need not wait for it."""
    call = await start(kit, events=("orders.placed",), drain_timeout=60.0)
    watch = call.stub(WATCH)(call.request(WATCH, name="orders.placed"))
    await watch.initial_metadata()
    async with asyncio.timeout(30):
        await call.server.stop()
    assert await watch.code() is grpc.StatusCode.UNAVAILABLE


async def test_only_what_is_open_is_there(kit: Kit, start: Any) -> None:
    """By event, by direction, and none by default."""
    call = await start(kit, events=("orders.placed:read",))
    error = await call.failure(PUBLISH, name="orders.placed", events=[event()])
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    error = await call.failure(PUBLISH, name="orders.secret", events=[event()])
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert await read(call) == []
    closed = await start(kit)
    for path in (PUBLISH, WATCH):
        over = closed.channel.unary_unary(f"/{path}")(b"", timeout=20)
        assert await over.code() is grpc.StatusCode.UNIMPLEMENTED
    hidden = await start(kit, events=("orders.placed",), hide=("orders",))
    error = await hidden.failure(PUBLISH, name="orders.placed", events=[event()])
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_strangers_are_refused(kit: Kit, start: Any, tmp_path: Path) -> None:
    """And who is known is known to those who read the headers."""
    key = tmp_path / "key"
    key.write_text(SECRET)
    call = await start(
        kit, events=("orders.placed",), jwt_key=str(key), jwt_algorithms=("HS256",)
    )
    error = await call.failure(PUBLISH, name="orders.placed", events=[event()])
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    watch = call.stub(WATCH)(call.request(WATCH, name="orders.placed"), timeout=20)
    assert await watch.code() is grpc.StatusCode.UNAUTHENTICATED
    metadata = (("authorization", f"Bearer {sign(SECRET, 'HS256')}"),)
    await publish(call, event(), with_={"metadata": metadata})
    stream = await kit.jetstream.stream("orders")
    assert (await stream.get(1)).headers["ce-authid"] == "ann"


async def test_a_full_gateway_refuses_a_watch(kit: Kit, start: Any) -> None:
    """A watch is a call that runs, so it counts among those at once."""
    call = await start(kit, events=("orders.placed",), max_concurrent=1)
    watch = call.stub(WATCH)(call.request(WATCH, name="orders.placed"))
    await watch.initial_metadata()
    error = await call.failure(PUBLISH, name="orders.placed", events=[event()])
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_calls_are_counted_as_those_of_services(
    call: Any, until: Callable[..., Any]
) -> None:
    """By method and code; an error once its answer is on its way."""
    await publish(call, event())
    await call.failure(PUBLISH, name="orders.placed", events=[event(id="")])
    count = call.server.metrics.count
    assert count(PUBLISH, "ok") == 1
    await until(lambda: count(PUBLISH, "invalid_argument") == 1)


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x02\xff\xff", b"\x12\x05abc"])
async def test_bytes_that_are_no_request_are_refused(call: Any, data: bytes) -> None:
    """Whatever comes, the gateway answers."""
    for path in (PUBLISH, WATCH):
        over = call.channel.unary_unary(f"/{path}")(data, timeout=20)
        assert await over.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_bus_away_is_unavailable(kit: Kit, call: Any) -> None:
    """At once, and nothing is published later."""
    kit.bus.disconnect()  # type: ignore[attr-defined]
    error = await call.failure(PUBLISH, name="orders.placed", events=[event()])
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    kit.bus.reconnect()  # type: ignore[attr-defined]
    assert await read(call) == []


async def test_reflection_and_health_know_the_service(kit: Kit, start: Any) -> None:
    """Where events are open."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    async def asked(call: Any) -> tuple[set[str], int]:
        stub = reflection_pb2_grpc.ServerReflectionStub(call.channel)
        question = reflection_pb2.ServerReflectionRequest(list_services="*")
        answers = [one async for one in stub.ServerReflectionInfo(iter([question]))]
        names = {one.name for one in answers[0].list_services_response.service}
        health = health_pb2_grpc.HealthStub(call.channel)
        request = health_pb2.HealthCheckRequest(service="kit.events.v1.Events")
        try:
            return names, (await health.Check(request)).status
        except grpc.aio.AioRpcError:
            return names, 0

    names, status = await asked(await start(kit, events=("orders.placed",)))
    assert "kit.events.v1.Events" in names
    assert status == health_pb2.HealthCheckResponse.SERVING
    names, status = await asked(await start(kit))
    assert "kit.events.v1.Events" not in names
    assert status == 0


def test_the_descriptor_is_the_compiled_file() -> None:
    """After a change of ``events.proto``: compile it, as this does."""
    compiled = load([str(STATIC / "events.proto")]).files[-1]
    compiled.name = FILE
    assert events_file() == compiled


async def test_middlewares_of_the_gateway_stand_around_its_events(
    kit: Kit, start: Callable[..., Any]
) -> None:
    """As around its calls: they see each request, and may refuse it."""
    seen: list[str] = []

    def noting(endpoint: Any, /) -> Any:
        async def call(ctx: Context, request: Any) -> Any:
            seen.append(f"{ctx.endpoint} {type(request).__name__} {ctx.caller}")
            if len(seen) > 2:
                raise PermissionDenied("enough")
            return await endpoint(ctx, request)

        return call

    call = await start(kit, events=("orders.placed",), middleware=(noting,))
    await publish(call, event())
    assert orders(await read(call)) == ["A1"]
    assert seen == [
        "events.orders.placed Publishing gateway.grpc",
        "events.orders.placed Following gateway.grpc",
    ]
    for refused in (publish(call, event("A2")), read(call)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert caught.value.details() == "enough"
