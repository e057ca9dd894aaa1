"""Rules that say which instances of a service get a gateway's calls."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import Kit, Service, endpoint
from kitmsg.balance import sticky
from kitmsg.codec import JSON, MSGPACK, RAW
from kitmsg.discovery.catalog import Catalog
from kitmsg.errors import InvalidArgument, Unavailable
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import hedge, retry
from kitmsg.wire import REQUEST_ID
from kitmsg_gateways.edge.calls import Callers
from kitmsg_gateways.edge.given import GivenContext
from kitmsg_gateways.edge.options import CallOptions
from kitmsg_gateways.edge.routes import parse_rule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus.memory import MemoryBus
    from kitmsg.codec import Codec
    from kitmsg.context import Context
    from kitmsg.discovery.catalog import CatalogEndpoint


class Orders(Service):
    """An order book, which says who it is."""

    def __init__(self, me: str = "") -> None:
        self.me = me
        self.calls = self.failures = 0
        self.delay = 0.0

    @endpoint(idempotent=True)
    async def get(self, order: str = "") -> str:
        """Return who answers."""
        self.calls += 1
        await asyncio.sleep(self.delay)
        return self.me

    @endpoint
    async def place(self) -> str:
        """Return who answers."""
        self.calls += 1
        await asyncio.sleep(0.01)
        return self.me

    @endpoint
    async def flaky(self) -> str:
        """Fail once."""
        self.failures += 1
        if self.failures == 1:
            raise Unavailable("not yet")
        return self.me

    @endpoint
    async def watch(self, order: str = "") -> AsyncIterator[str]:
        """Yield who answers."""
        yield self.me


def of_version(number: str) -> Service:
    """Return an instance at another version, which says that."""
    made: type[Orders] = type(
        "Orders", (Orders,), {"version": number, "name": "orders"}
    )
    return made(number)


async def serve(kit: Kit, *services: Service) -> None:
    """Serve instances on the bus of `kit`, each as a process of its own would."""
    for service in services:
        await Kit(kit.bus).serve(service)


class Door:
    """The common part of all doors: the catalogue, and calls by it."""

    def __init__(self, bus: Any, catalog: Catalog, **options: Any) -> None:
        self.callers = Callers(bus, "test", CallOptions(**options))
        self._catalog = catalog

    def endpoint(self, name: str) -> CatalogEndpoint:
        """Return an endpoint as it was found."""
        return next(each for each in self._catalog.endpoints if each.name == name)

    def context(self, name: str, codec: Codec = JSON, **headers: str) -> Context:
        """Return the context of a client's call that has such headers."""
        sent = {key.replace("_", "-"): [value] for key, value in headers.items()}
        given = self.callers.given(lambda key: sent.get(key, []))
        caller = self.callers.of(self.endpoint(name))
        fields = {REQUEST_ID: "id-1"}
        return self.callers.context(caller, codec, 20.0, fields, None, given)

    async def ask(
        self,
        name: str = "get",
        request: Any = None,
        codec: Codec = JSON,
        **headers: str,
    ) -> Any:
        """Return the answer to a client's call."""
        caller = self.callers.of(self.endpoint(name))
        ctx = self.context(name, codec, **headers)
        reply = await caller.ask(ctx, codec.encoder()(request or {}))
        return codec.decoder()(reply.data)


@pytest.fixture
async def kit(memory_bus: MemoryBus) -> AsyncIterator[Kit]:
    """A kit on the in-memory bus, on the real clock."""
    async with kitmsg.connect(bus=memory_bus) as made:
        yield made


@pytest.fixture
async def door(kit: Kit) -> AsyncIterator[Any]:
    """Give a function that returns a door with such options."""
    made: list[Door] = []
    catalogs: list[Catalog] = []

    async def begin(*rules: str, **options: Any) -> Door:
        catalog = Catalog(kit.bus)
        await catalog.start()
        catalogs.append(catalog)
        made.append(Door(kit.bus, catalog, route=rules, **options))
        return made[-1]

    yield begin
    for each in made:
        await each.callers.close()
    for catalog in catalogs:
        await catalog.stop()


def fallbacks() -> float:
    """Return how many calls of routes went to the queue group."""
    return sum(
        value
        for family in RESILIENCE.collect()
        if family.name == "kitmsg_route_fallbacks_total"
        for labels, value in family.samples
        if labels["endpoint"] == "orders.get"
    )


# -- the language


@pytest.mark.parametrize(
    ("text", "service", "endpoint_", "header", "spec"),
    [
        ("direct", "", "", "", "direct"),
        ("*=direct", "", "", "", "direct"),
        ("orders=direct", "orders", "", "", "direct"),
        ("orders.*=direct", "orders", "", "", "direct"),
        ("orders.get=sticky:id", "orders", "get", "", "sticky:id"),
        ("orders=sticky:@X-User", "orders", "", "x-user", "sticky:@x-user"),
        ("version:~=1.4", "", "", "", "version:~=1.4"),
        ("orders=version:>=1.4,<2", "orders", "", "", "version:>=1.4,<2"),
        ("orders=version:==1.4.1", "orders", "", "", "version:==1.4.1"),
        ("orders=version:@X-Kit-Version", "orders", "", "x-kit-version", None),
        ("split:1.4=95,1.5=5", "", "", "", "split:1.4=95,1.5=5"),
        ("my-orders=split:1.4=95,1.5=5", "my-orders", "", "", "split:1.4=95,1.5=5"),
    ],
)
def test_a_rule_is_read(
    text: str, service: str, endpoint_: str, header: str, spec: str | None
) -> None:
    """Where it holds, what it goes by, and the route."""
    rule = parse_rule(text)
    assert (rule.service, rule.endpoint, rule.header) == (service, endpoint_, header)
    assert (rule.route and rule.route.spec) == spec


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no route; write direct"),
        ("orders", "is no route"),
        ("orders=", "is no route"),
        ("orders.get.x=direct", "is no route"),
        ("orders=sticky", "is no route"),
        ("orders=version:new", "is no version specifier"),
        ("orders=split:1.4", "is no VERSION=SHARE"),
        ("orders=split:1.4=0", "shares over 0"),
        ("orders=split:@x", "only sticky and version go by a header"),
        ("orders=sticky:@", "is no name of a header"),
        ("orders=version:@a b", "is no name of a header"),
    ],
)
def test_what_is_no_rule_is_one_sentence(text: str, said: str) -> None:
    """The option's, before anything is served."""
    with pytest.raises(ValueError, match=said) as caught:
        CallOptions(route=(text,))
    assert repr(text) in str(caught.value)


# -- the calls


async def test_a_version_by_rule(kit: Kit, door: Any) -> None:
    """Others of the same name get nothing."""
    await serve(kit, of_version("1.4.0"), of_version("1.5.0"))
    made = await door("orders=version:~=1.4.0")
    assert {await made.ask() for _ in range(20)} == {"1.4.0"}


async def test_a_version_by_header(kit: Kit, door: Any) -> None:
    """A call without it goes on to the next rule."""
    await serve(kit, of_version("1.4.0"), of_version("1.5.0"))
    made = await door("orders=version:@x-kit-version", "orders=version:1.4")
    assert {await made.ask() for _ in range(20)} == {"1.4.0"}
    assert {await made.ask(x_kit_version="1.5") for _ in range(20)} == {"1.5.0"}
    assert await made.ask(x_kit_version=">=1.5,<2") == "1.5.0"


async def test_a_call_that_no_rule_fits_goes_to_the_queue_group(
    kit: Kit, door: Any
) -> None:
    """Rules for other services or endpoints are not for it."""
    await serve(kit, of_version("1.4.0"))
    made = await door("shop=version:9", "orders.watch=version:9", "version:@v")
    assert await made.ask() == "1.4.0"
    with pytest.raises(
        Unavailable, match=r"no instance of orders for version:9; .*1\.4"
    ):
        await made.ask(v="9")


@pytest.mark.parametrize("value", ["new", "1.4; drop", "9" * 65, "@"])
async def test_a_version_that_is_none_is_the_clients_mistake(
    kit: Kit, door: Any, value: str
) -> None:
    """It is named, cut short, and nothing is called."""
    await serve(kit, of_version("1.4.0"))
    made = await door("orders=version:@x-kit-version")
    with pytest.raises(InvalidArgument, match="header x-kit-version must be a version"):
        await made.ask(x_kit_version=value)


async def test_a_header_comes_once(kit: Kit, door: Any) -> None:
    """Or it is not clear what counts; what is no text cannot be compared."""
    made = await door("version:@v")
    for values in (["1.4", "1.5"], ["1\n4"], ["é"]):
        with pytest.raises(InvalidArgument, match="header v must come once"):
            made.callers.given(lambda _, values=values: values)


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
async def test_one_instance_for_a_field(kit: Kit, door: Any, codec: Codec) -> None:
    """Whatever the request is encoded in, and whoever else calls."""
    await serve(kit, *(Orders(name) for name in "abc"))
    made = await door("orders.get=sticky:order")
    client = kit.client(Orders, route=sticky("order"))
    for number in range(12):
        request = {"order": f"A{number}"}
        found = {await made.ask("get", request, codec) for _ in range(3)}
        assert found == {await client.get(**request)}


async def test_one_instance_for_a_header(kit: Kit, door: Any) -> None:
    """All that a user asks goes there, and users are spread."""
    await serve(kit, *(Orders(name) for name in "abc"))
    made = await door("sticky:@x-user")
    found = {
        user: {await made.ask("get", x_user=user) for _ in range(5)}
        for user in ("ann", "bob", "cy", "dan", "eve", "flo", "gus", "hal")
    }
    assert all(len(each) == 1 for each in found.values())
    assert len(set.union(*found.values())) > 1


async def test_what_cannot_be_read_has_no_key(kit: Kit, door: Any) -> None:
    """The service says what is wrong with it."""
    await serve(kit, Orders("a"))
    made = await door("sticky:order")
    caller = made.callers.of(made.endpoint("get"))
    for codec, data in ((JSON, b"{"), (MSGPACK, b"\xc1"), (RAW, b"x")):
        with pytest.raises(InvalidArgument):
            await caller.ask(made.context("get", codec), data)


async def test_shares_of_versions(kit: Kit, door: Any) -> None:
    """A canary gets its part."""
    await serve(kit, of_version("1.4.0"), of_version("1.5.0"))
    made = await door("split:1.4=50,1.5=50")
    found = [await made.ask() for _ in range(100)]
    assert 20 < found.count("1.5.0") < 80


async def test_streams_are_routed(kit: Kit, door: Any) -> None:
    """Their openings are calls like others."""
    await serve(kit, of_version("1.4.0"), of_version("1.5.0"))
    made = await door("version:@v")
    caller = made.callers.of(made.endpoint("watch"))
    for _ in range(10):
        stream = await caller.open(made.context("watch", v="1.5"), b"{}")
        assert [JSON.decoder()(item.data) async for item in stream] == ["1.5.0"]


async def test_what_nobody_waits_for_is_routed(kit: Kit, door: Any) -> None:
    """It reaches the instances that a rule allows, and says so when there is none."""
    got: list[str] = []

    class Noted(Orders):
        name = "orders"

        @endpoint
        async def get(self, order: str = "") -> str:
            got.append(f"{self.version} {order}")
            return ""

    for number in ("1.4.0", "1.5.0"):
        await serve(kit, type("Orders", (Noted,), {"version": number})())
    made = await door("version:@v")
    caller = made.callers.of(made.endpoint("get"))
    for count in range(10):
        data = JSON.encoder()({"order": str(count)})
        await caller.publish(made.context("get", v="1.5"), data)
    await made.ask(v="1.4")
    assert got == [*(f"1.5.0 {count}" for count in range(10)), "1.4.0 "]
    with pytest.raises(Unavailable, match="no instance of orders"):
        await caller.publish(made.context("get", v="2"), b"{}")


async def test_middlewares_stand_around_routes(kit: Kit, door: Any) -> None:
    """A second attempt is routed too, by the same header."""
    await serve(kit, of_version("1.4.0"), of_version("1.5.0"))
    again = retry(2, idempotent=True, base=0.0)
    made = await door("version:@v", middleware=(again,))
    assert await made.ask("flaky", v="1.5") == "1.5.0"


async def test_a_hedge_goes_to_another_instance(kit: Kit, door: Any) -> None:
    """Without a rule too, and of idempotent endpoints only."""
    slow, fast = Orders("slow"), Orders("fast")
    await serve(kit, slow, fast)
    made = await door(middleware=(hedge(0.5, budget=1.0),))
    for _ in range(40):
        await made.ask()
    slow.delay = 0.5
    assert {await made.ask() for _ in range(10)} == {"fast"}
    calls = slow.calls + fast.calls
    for _ in range(10):
        await made.ask("place")
    assert slow.calls + fast.calls == calls + 10


async def test_a_copy_of_a_context_keeps_the_headers() -> None:
    """Middlewares change its deadline, say."""
    ctx = GivenContext(given={"v": "1.5"}).evolve(deadline=1.0)
    assert isinstance(ctx, GivenContext)
    assert (ctx.given, ctx.deadline) == ({"v": "1.5"}, 1.0)


async def test_what_is_stale_falls_back_and_is_counted(kit: Kit, door: Any) -> None:
    """The queue group has the calls when nobody can be asked who is there."""
    await serve(kit, Orders("a"))
    made = await door("direct")
    assert await made.ask() == "a"
    before = fallbacks()
    (fleet,) = made.callers._routes._fleets.values()
    source = fleet._instancer._source
    await fleet._instancer.close()

    async def broken() -> AsyncIterator[Any]:
        nobody: tuple[Any, ...] = ()
        for each in nobody:
            yield each
        raise Unavailable("nobody may be asked")

    source.sets = broken
    made.callers._callers.clear()  # as when endpoints have changed
    assert await made.ask() == "a"
    assert fallbacks() == before + 1


async def test_versions_that_clients_ask_for_are_bounded(kit: Kit, door: Any) -> None:
    """A flood of them is not kept."""
    await serve(kit, of_version("1.4.0"))
    made = await door("version:@v")
    for number in range(200):
        assert await made.ask(v=f">=1.0.{number}") == "1.4.0"
    routed = made.callers.of(made.endpoint("get"))._routed
    assert len(routed._calls) <= 64
    assert len(routed._callers) == 1


async def test_a_service_that_has_gone_is_followed_no_more(kit: Kit, door: Any) -> None:
    """Or it would be asked for as long as the gateway runs."""
    await serve(kit, Orders("a"))
    made = await door("direct")
    assert await made.ask() == "a"
    fleets = made.callers._routes._fleets
    (source,) = [each._instancer for each in fleets.values()]
    made.callers.keep([made.endpoint("get")])
    gc.collect()
    assert source._running is not None
    made.callers.keep([])
    gc.collect()
    await asyncio.sleep(0)
    assert source._running is None
    assert not fleets


async def test_the_end_stops_following(kit: Kit, door: Any) -> None:
    """No task and no subscription is left of it."""
    await serve(kit, Orders("a"))
    made = await door("direct")
    assert await made.ask() == "a"
    (fleet,) = made.callers._routes._fleets.values()
    assert fleet._instancer._running is not None
    await made.callers.close()
    assert fleet._instancer._running is None
