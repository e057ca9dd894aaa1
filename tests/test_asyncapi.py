"""The AsyncAPI document of the events on a bus."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from kitmsg import Event, Service, Stream, subscribe
from kitmsg.asyncapi import document, generate
from kitmsg.discovery.events import CatalogEvent, merge_events
from kitmsg.discovery.subject import ServiceInfo
from kitmsg.events.envelope import Writer
from kitmsg.service.work import event_schemas, told_by
from tests.asyncapi import check, problems


class Address(msgspec.Struct):
    street: str


class Placed(Event, subject="orders.{region}.placed.{order_id}", version=3):
    """An order was placed.  Its money is reserved.

    Sent once for each order.
    """

    region: str
    order_id: str
    total: Decimal
    to: Address | None = None
    parts: tuple[str, int] = ("a", 1)


class Shipped(Event, subject="orders.shipped", stream=Stream(name="parcels")):
    order_id: str


class Orders(Service):
    version = "1.4.0"
    publishes = (Placed, Shipped)


class Mail(Service):
    @subscribe(Placed)
    async def thank(self, event: Placed) -> None: ...


class Home:
    """Where the other `Address` is."""

    class Address(msgspec.Struct):
        """Another one."""

        city: str


class Moved(Event, subject="movers.moved"):
    to: Address


class Left(Event, subject="movers.left"):
    home: Home.Address


class Movers(Service):
    publishes = (Moved, Left)


def gathered(
    *classes: type[Service],
) -> tuple[list[CatalogEvent], list[ServiceInfo]]:
    """Return the events of classes, and the classes as instances."""
    infos = [
        ServiceInfo(
            name=cls.name, id=cls.name, version=cls.version, metadata=told_by(cls)
        )
        for cls in classes
    ]
    schemas = {d["hash"]: d for cls in classes for d in event_schemas(cls).values()}
    return merge_events([[info] for info in infos], schemas), infos


@pytest.fixture
def found() -> dict[str, Any]:
    """The document of both services."""
    return document(*gathered(Orders, Mail), title="Shop", version="1.0.0")


def test_the_document_is_valid(found: dict[str, Any]) -> None:
    """By the official schema, and its references lead somewhere."""
    check(found)
    assert found["info"]["title"] == "Shop"


@pytest.mark.parametrize("wrong", ["action", "channel", "reference"])
def test_the_check_finds_what_is_wrong(found: dict[str, Any], wrong: str) -> None:
    """Else it would prove nothing."""
    broken = copy.deepcopy(found)
    operation = broken["operations"]["orders.publishes.orders.shipped"]
    if wrong == "action":
        operation["action"] = "shout"
    elif wrong == "channel":
        del operation["channel"]
    else:
        operation["channel"]["$ref"] = "#/channels/none"
    assert problems(broken)


def test_an_event_is_a_channel_at_its_subject(found: dict[str, Any]) -> None:
    """With the fields of the subject as parameters, and the stream that stores it."""
    channel = found["channels"]["orders.placed"]
    assert channel["address"] == "event.orders.{region}.placed.{order_id}"
    assert [*channel["parameters"]] == ["region", "order_id"]
    assert channel["x-stream"] == "orders"
    assert found["channels"]["orders.shipped"]["x-stream"] == "parcels"
    assert found["servers"]["bus"]["protocol"] == "nats"


def test_publishers_send_and_subscribers_receive(found: dict[str, Any]) -> None:
    """One operation for each service and event."""
    said = {
        (each["x-service"], each["action"], each["channel"]["$ref"].rpartition("/")[2])
        for each in found["operations"].values()
    }
    assert said == {
        ("orders", "send", "orders.placed"),
        ("orders", "send", "orders.shipped"),
        ("mail", "receive", "orders.placed"),
    }
    assert [tag["name"] for tag in found["info"]["tags"]] == ["mail", "orders"]


def test_a_message_has_payload_headers_and_an_example(found: dict[str, Any]) -> None:
    """The headers are what a publisher writes."""
    message = found["components"]["messages"]["orders.placed"]
    assert message["payload"] == {"$ref": "#/components/schemas/Placed"}
    assert message["summary"] == "An order was placed"
    properties = message["headers"]["properties"]
    written = Writer(Placed).headers("1", "orders")
    assert {*written} <= {*properties}
    assert {*message["headers"]["required"]} <= {*written}
    assert properties["ce-type"] == {"const": "orders.placed"}
    assert properties["ce-dataschema"]["examples"] == [written["ce-dataschema"]]
    (example,) = message["examples"]
    event = msgspec.convert(example["payload"], Placed, strict=False)
    assert event.total == Decimal("9.99")


def test_types_of_one_name_stay_apart() -> None:
    """Two events may have an ``Address`` each."""
    found = document(*gathered(Movers), title="x", version="1.0.0")
    check(found)
    properties = [
        schema["properties"]
        for name, schema in found["components"]["schemas"].items()
        if "Address" in name
    ]
    assert sorted(map(sorted, properties)) == [["city"], ["street"]]


def test_an_event_without_a_schema_is_listed() -> None:
    """Its service did not tell; the rest is known."""
    (event, *_), infos = gathered(Orders)
    unknown = merge_events([infos], {}, [event.hash])
    found = document(unknown, infos, title="x", version="1.0.0")
    check(found)
    assert "payload" not in found["components"]["messages"][event.name]


def test_the_same_events_give_the_same_text() -> None:
    """Whatever the order in which services are found."""
    events, infos = gathered(Orders, Mail)
    others, reverse = gathered(Mail, Orders)
    assert generate(infos, events) == generate(reverse, others)


def test_one_service_gives_its_name_and_version() -> None:
    """Several are events of several."""
    events, infos = gathered(Orders)
    (text,) = generate(infos, events).values()
    assert msgspec.json.decode(text)["info"]["title"] == "orders"
    assert msgspec.json.decode(text)["info"]["version"] == "1.4.0"
