"""``kitmsg_upstream_...``: the calls that went to a server elsewhere, and how they ended."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg_gateways.grpc
import kitmsg_gateways.http
import kitmsg_gateways.thrift
from kitmsg import Service, endpoint
from kitmsg.context import Context
from kitmsg.errors import NotFound
from kitmsg.message import Message, encode_headers
from kitmsg.metrics.families import PROCESS
from kitmsg.middleware.cache import cache
from kitmsg.schema.calls import StreamRequest
from kitmsg_gateways.grpc.upstream import Upstream as GrpcUpstream
from kitmsg_gateways.http.upstream import Upstream as HttpUpstream
from kitmsg_gateways.thrift.upstream import Upstream as ThriftUpstream
from kitmsg_gateways.upstream import Hooks
from kitmsg_gateways.upstream.counts import UPSTREAMS
from tests.gateways.upstream.test_client import Wire, client, method

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import kitmsg

KINDS: dict[str, tuple[Any, Any]] = {
    "http": (kitmsg_gateways.http, HttpUpstream),
    "grpc": (kitmsg_gateways.grpc, GrpcUpstream),
    "thrift": (kitmsg_gateways.thrift, ThriftUpstream),
}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Store(Service):
    """Stands behind a gateway, as a server elsewhere does."""

    @endpoint(http="GET /items/{key}", idempotent=True)
    async def item(self, key: str) -> str:
        if key == "none":
            raise NotFound("no such item")
        return key


@contextlib.asynccontextmanager
async def behind(kind: str, hub: kitmsg.Kit, **options: Any) -> AsyncIterator[Any]:
    """Serve `Store` by a gateway, and give an upstream to it."""
    await hub.serve(Store())
    gateway, upstream = KINDS[kind]
    server = await gateway.serve(hub, gateway.GatewayOptions(port=0, drain_timeout=0.5))
    address = f"127.0.0.1:{server.port}"
    try:
        where = f"http://{address}" if kind == "http" else address
        async with upstream(where, Store, **options) as made:
            yield made
    finally:
        await server.stop()


def counts(name: str) -> dict[str, int]:
    """Return the calls of an endpoint by code, of this process so far."""
    codes = ("ok", "not_found", "invalid_argument", "cancelled")
    return {code: UPSTREAMS.count(name, code) for code in codes}


def since(name: str, before: dict[str, int]) -> dict[str, int]:
    """Return the calls that came since, without codes that did not."""
    now = counts(name)
    return {code: now[code] - before[code] for code in now if now[code] > before[code]}


@pytest.mark.parametrize("kind", ["http", "grpc", "thrift"])
async def test_a_call_is_counted_by_endpoint_and_code(
    hub: kitmsg.Kit, kind: str
) -> None:
    """Whatever its protocol; here in this process, without a service on the bus."""
    before = counts("store.item")
    async with behind(kind, hub) as upstream:
        item = upstream.endpoint("item")
        assert await item(Context(), {"key": "x"}) == "x"
        with pytest.raises(NotFound):
            await item(Context(), {"key": "none"})
    assert since("store.item", before) == {"ok": 1, "not_found": 1}
    assert UPSTREAMS.in_flight == 0


async def test_what_a_cache_answers_never_went_there(hub: kitmsg.Kit) -> None:
    """So it is not counted as a call of the server."""
    before = counts("store.item")
    async with behind("http", hub, middleware=[cache(ttl=60)]) as upstream:
        item = upstream.endpoint("item")
        for _ in range(3):
            assert await item(Context(), {"key": "x"}) == "x"
    assert since("store.item", before) == {"ok": 1}


async def test_a_stream_is_counted_at_its_end() -> None:
    """In flight until then; one that its reader leaves was cancelled."""
    wire, one = Wire([]), method([], gives_items=True)
    name = f"toy.{one.declaration.name}"
    call, before = client(wire).endpoint(one), counts(name)
    items = await call(Context(), StreamRequest({"text": "a b"}, None))
    assert (since(name, before), UPSTREAMS.in_flight) == ({}, 1)
    assert [item async for item in items] == ["a", "b"]
    assert (since(name, before), UPSTREAMS.in_flight) == ({"ok": 1}, 0)
    items = await call(Context(), StreamRequest({"text": "a b"}, None))
    assert await anext(items) == "a"
    await items.aclose()
    assert since(name, before) == {"ok": 1, "cancelled": 1}


@pytest.mark.parametrize("leave", ["closed", "dropped"])
@pytest.mark.parametrize("items_read", [0, 1])
async def test_a_stream_that_nobody_reads_on_is_not_in_flight_for_ever(
    leave: str, items_read: int
) -> None:
    """Its connection is closed, too: also where not one item was asked for."""
    seen: list[str] = []
    wire, one = Wire(seen), method([], gives_items=True)
    name, error = f"toy.{one.declaration.name}", asyncio.Future[str]()
    given: Hooks[Any, Any] = Hooks(
        finalizer=[lambda _, why: error.set_result(repr(why))]
    )
    call, before = client(wire, given=given).endpoint(one), counts(name)
    items = await call(Context(), StreamRequest({"text": "a b"}, None))
    for _ in range(items_read):
        await anext(items)
    assert (since(name, before), UPSTREAMS.in_flight) == ({}, 1)
    if leave == "closed":
        await items.aclose()
    del items
    async with asyncio.timeout(10):
        assert await error == "GeneratorExit()"
        while UPSTREAMS.in_flight:
            await asyncio.sleep(0)
    assert since(name, before) == {"cancelled": 1}
    assert seen == ["close"]


def test_a_stream_may_outlive_its_event_loop() -> None:
    """It is counted all the same."""
    wire, one = Wire([]), method([], gives_items=True)
    name = f"toy.{one.declaration.name}"
    call, before = client(wire).endpoint(one), counts(name)

    async def opened() -> Any:
        return await call(Context(), StreamRequest({"text": "a b"}, None))

    items = asyncio.run(opened())
    assert UPSTREAMS.in_flight == 1
    del items
    assert (since(name, before), UPSTREAMS.in_flight) == ({"cancelled": 1}, 0)


async def test_its_durations_lead_to_the_trace_that_came() -> None:
    """Also where nothing is traced here."""
    one = method([])
    call = client(Wire([])).endpoint(one)
    block = encode_headers({"b3": f"{TRACE}-{PARENT}-1"})
    ctx = Context(message=Message("a.b", b"", "", block))
    for _ in range(200):  # of one in 16 that took about as long
        await call(ctx, {"text": "tea"})
    (times,) = (f for f in UPSTREAMS.collect() if f.kind == "histogram")
    name = f"toy.{one.declaration.name}"
    found = [
        exemplar
        for series in times.distributions
        if series.labels == {"service": "toy", "endpoint": name, "code": "ok"}
        for exemplar in series.exemplars.values()
    ]
    assert (TRACE, PARENT) in {(each.trace_id, each.span_id) for each in found}


def test_the_process_shows_them() -> None:
    """On every page and push loop, beside what workers and gateways count."""
    names = {family.name for family in PROCESS.collect()}
    assert {
        "kitmsg_upstream_requests_total",
        "kitmsg_upstream_duration_seconds",
        "kitmsg_upstream_in_flight",
    } <= names
