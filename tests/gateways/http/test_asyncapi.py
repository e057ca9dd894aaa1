"""``/asyncapi.json`` and the events on the docs page."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Event, Service, endpoint, subscribe
from tests.asyncapi import check
from tests.gateways.http.browser import open_tab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import kitmsg


class Placed(Event, subject="orders.placed.{order_id}"):
    """An order was <b>placed</b>."""

    order_id: str
    cents: int = 0


class Renamed(Event, subject="orders.placed.{order_id}"):
    order_id: str
    euros: int = 0


class Counted(Event, subject="ledger.counted"):
    total: int


class Orders(Service):
    publishes = (Placed,)

    @endpoint
    async def place(self, order_id: str) -> Placed:
        return Placed(order_id)


class Mail(Service):
    @subscribe(Placed, stored=False)
    async def thank(self, event: Placed) -> None: ...


class Ledger(Service):
    publishes = (Counted,)

    @subscribe(Renamed, stored=False)
    async def note(self, event: Renamed) -> None: ...


def sides(document: dict[str, Any]) -> set[str]:
    """Return the operations of a document: service, verb and event."""
    return set(document["operations"])


async def test_the_events_on_the_bus_are_described(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Valid AsyncAPI, of services that subscribe only too."""
    call = await start(hub)
    response, found = await call("GET", "/asyncapi.json")
    check(found)
    assert response.headers["Content-Type"] == "application/json"
    assert found["channels"] == {}
    await hub.serve(Orders())
    await hub.serve(Mail())
    async with asyncio.timeout(20):
        while len(sides(found)) < 2:
            _, found = await call("GET", "/asyncapi.json")
    check(found)
    assert found["info"]["title"] == "Services"
    assert sides(found) == {
        "orders.publishes.orders.placed",
        "mail.subscribes.orders.placed",
    }


async def test_hidden_services_are_in_no_document(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Neither their events, nor what they say of others'."""
    for service in (Orders(), Mail(), Ledger()):
        await hub.serve(service)
    call = await start(hub, hide=("ledger",))
    _, found = await call("GET", "/asyncapi.json")
    check(found)
    assert "ledger" not in str(found)
    assert "orders.publishes.orders.placed" in sides(found)
    call = await start(hub, only=("ledger",))
    _, found = await call("GET", "/asyncapi.json")
    assert sides(found) == {"ledger.publishes.ledger.counted"}
    assert "orders" not in str(found)


async def test_services_that_disagree_are_named(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """In the document, as routes that clash are in OpenAPI's."""
    for service in (Orders(), Ledger()):
        await hub.serve(service)
    call = await start(hub)
    _, found = await call("GET", "/asyncapi.json")
    check(found)
    (sentence,) = found["x-conflicts"]
    assert "the event 'orders.placed' version 1 different schemas" in sentence


async def test_there_is_none_without_openapi(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """One switch for what describes the services."""
    call = await start(hub, openapi=False)
    assert (await call("GET", "/asyncapi.json"))[0].status == 404


async def test_the_page_shows_events_and_both_sides(
    hub: kitmsg.Kit, start: Callable[..., Any], chromium: str, tmp_path: Path
) -> None:
    """Text of a service is text; the filter and the index know events."""
    for service in (Orders(), Mail(), Ledger()):
        await hub.serve(service)
    call = await start(hub)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('event:orders.placed')")
        view = "document.getElementById('event:orders.placed')"
        await tab.run(f"{view}.open = true")
        text = await tab.run(f"return {view}.innerText")
        assert "An order was <b>placed</b>" in text
        assert "Published by: orders" in text
        assert "Subscribed to by: ledger, mail" in text
        assert "subject event.orders.placed.{order_id}" in text
        assert "order_id: string" in text
        assert "cents?: integer = 0" in text
        index = await tab.run("return document.querySelector('nav').innerText")
        assert "ledger.counted" in index
        note = await tab.run("return document.querySelector('.note').innerText")
        assert "different schemas" in note
        script = """
        const filter = document.getElementById("filter");
        filter.value = "ledger.counted";
        filter.dispatchEvent(new Event("input"));
        return [...document.querySelectorAll("details")].map((one) => one.id);
        """
        assert await tab.run(script) == ["event:ledger.counted"]
        assert tab.faults == []


@pytest.mark.parametrize("public", [(), ("/asyncapi.json",)])
async def test_the_page_works_where_events_are_for_others(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    chromium: str,
    tmp_path: Path,
    public: tuple[str, ...],
) -> None:
    """A client who may see the endpoints and not the events sees the endpoints."""
    await hub.serve(Orders())
    keys = tmp_path / "keys"
    keys.write_text(f"app:$sha256${'0' * 64}\n")
    paths = ("/docs", "/openapi.json", *public)
    call = await start(hub, api_keys=str(keys), auth_public=paths)
    async with open_tab(chromium, tmp_path, f"{call.server.url}/docs") as tab:
        await tab.until("document.getElementById('orders.place')")
        shown = "return !!document.getElementById('event:orders.placed')"
        assert await tab.run(shown) is bool(public)
