"""Open events behind an HTTP gateway: on a bus in memory, and on a server of one's own."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID  # noqa: TC003  # the class is read

import pytest

import kitmsg
from kitmsg import Event, Service, Stream, subscribe
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.memory import MemoryBus
from kitmsg.events.declared import Declared, apply, plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg import Kit


class OrderPlaced(Event, subject="orders.placed.{order_id}"):
    """A customer ordered."""

    order_id: str
    total: Decimal = Decimal(1)


class Shipped(Event, subject="orders.shipped.{parcel}"):
    parcel: UUID


class Noted(
    Event, subject="notes.{number}", stream=Stream(max_events=2, full="refuse")
):
    number: int
    text: str = ""


class Orders(Service):
    publishes = (OrderPlaced, Shipped, Noted)


class Mailer(Service):
    def __init__(self) -> None:
        self.got: list[Any] = []
        self.headers: list[Any] = []

    @subscribe(OrderPlaced)
    async def thank(self, event: OrderPlaced) -> None:
        self.got.append(event)
        self.headers.append(kitmsg.current().headers)


async def make_streams(kit: Kit, *classes: type[Event]) -> None:
    declared = Declared()
    for cls in classes:
        declared.event(cls)
    await apply(kit.jetstream, await plan(kit.jetstream, declared))


@pytest.fixture(params=["memory", "nats"])
async def kit(request: pytest.FixtureRequest) -> AsyncIterator[Kit]:
    """A kit with the service that publishes, and the streams of its events."""
    if request.param == "memory":
        async with kitmsg.connect(bus=MemoryBus()) as made:
            yield await _ready(made)
        return
    with EmbeddedServer() as server:
        async with kitmsg.connect(server.url, makes_streams=True) as made:
            yield await _ready(made)


async def _ready(kit: Kit) -> Kit:
    await make_streams(kit, OrderPlaced, Shipped, Noted)
    await kit.serve(Orders)
    return kit


OPEN = ("orders.placed", "orders.shipped", "notes")


@pytest.fixture
async def call(kit: Kit, start: Callable[..., Any]) -> Any:
    """Calls a gateway at which all events are open."""
    return await start(kit, events=OPEN)


def event(order_id: str = "A1", **more: Any) -> dict[str, Any]:
    """Return a CloudEvent in its JSON format."""
    return {
        "specversion": "1.0",
        "id": f"id-{order_id}",
        "source": "/till/1",
        "type": "orders.placed",
        "data": {"order_id": order_id, "total": "9.50"},
        **more,
    }


@pytest.fixture
def post(call: Any) -> Callable[..., Any]:
    """Posts CloudEvents: one, or a list of them as a batch."""

    async def post(what: Any, name: str = "orders.placed", **kwargs: Any) -> Any:
        kind = "-batch" if isinstance(what, list) else ""
        headers = {"Content-Type": f"application/cloudevents{kind}+json"}
        headers |= kwargs.pop("headers", {})
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        path = f"/events/{name}"
        return await call("POST", path, data=body, headers=headers, **kwargs)

    return post
