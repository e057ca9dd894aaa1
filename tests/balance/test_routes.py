"""Routes on the bus: which instances of a service get a client's calls."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.balance import direct, split, sticky, version
from kitmsg.balance.routes import parse_route
from kitmsg.bus.memory import MemoryBus
from kitmsg.discovery.subject import EndpointInfo, Responder, ServiceInfo, ServiceReport
from kitmsg.errors import (
    DeadlineExceeded,
    NoResponders,
    NotFound,
    Unavailable,
    Unimplemented,
)
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import hedge
from kitmsg.wire import direct_subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.balance import Route
    from kitmsg.message import Message


class Orders(Service):
    """An order book, which says who it is."""

    def __init__(self, name: str = "", delay: float = 0.0) -> None:
        self.me = name
        self.delay = delay
        self.calls = 0
        self.cancelled = 0

    @endpoint(idempotent=True)
    async def get(self, order: str = "") -> str:
        """Return who answers."""
        self.calls += 1
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return self.me

    @endpoint
    async def place(self, order: str = "") -> str:
        """Return who answers."""
        self.calls += 1
        await asyncio.sleep(self.delay)
        return self.me

    @endpoint
    async def fail(self) -> str:
        """Fail where it is `b`."""
        if self.me == "b":
            raise NotFound("b has none")
        return self.me

    @endpoint
    async def watch(self, order: str = "") -> AsyncIterator[str]:
        """Yield who answers."""
        yield self.me


def of_version(number: str) -> type[Orders]:
    """Return the class at another version."""
    return type("Orders", (Orders,), {"version": number, "name": "orders"})


@pytest.fixture
async def kit() -> AsyncIterator[Kit]:
    """A kit on a bus in memory."""
    async with Kit(MemoryBus()) as made:
        yield made


async def serve(kit: Kit, *services: Service) -> None:
    """Serve instances on the bus of `kit`, each as a process of its own would."""
    for service in services:
        other = Kit(kit.bus)
        await other.serve(service)


def fallbacks(route: str) -> float:
    """Return how many calls of a route went to the queue group."""
    return sum(
        value
        for family in RESILIENCE.collect()
        if family.name == "kitmsg_route_fallbacks_total"
        for labels, value in family.samples
        if labels == {"part": route, "endpoint": "orders.get"}
    )


# -- what is wrong


async def test_a_field_that_no_request_has_is_told(kit: Kit) -> None:
    """Or a slip of the pen would spread the keys over all instances."""
    with pytest.raises(
        ValueError,
        match="sticky:ordr: no endpoint of orders takes 'ordr'; they take order",
    ):
        kit.client(Orders, route=sticky("ordr"))


# -- direct


async def test_direct_leaves_an_instance_that_is_slow(kit: Kit) -> None:
    """Nearly all calls go where they wait least."""
    fast, slow = Orders("fast", 0.01), Orders("slow", 0.1)
    await serve(kit, fast, slow)
    orders = kit.client(Orders, route=direct())
    for _ in range(200):
        await orders.get()
    assert slow.calls < 6
    assert fast.calls > 190


async def test_a_dead_instance_costs_no_call(kit: Kit) -> None:
    """Nobody hears what is sent to it, so another one gets the call."""
    await serve(kit, Orders("one"))
    host = await Kit(kit.bus).serve(Orders("other"))
    orders = kit.client(Orders, route=direct())
    assert {await orders.get() for _ in range(20)} == {"one", "other"}
    for subscription in [*host.intake._own, *host.intake._group]:
        subscription.unsubscribe()  # as after kill -9: it says no goodbye
    before = fallbacks("direct")
    assert {await orders.get() for _ in range(20)} == {"one"}
    assert fallbacks("direct") == before


async def test_an_instance_that_joins_gets_calls(kit: Kit) -> None:
    """Services of kitmsg say when they come and go."""
    await serve(kit, Orders("a"))
    orders = kit.client(Orders, route=direct())
    assert await orders.get() == "a"
    await serve(kit, Orders("b"))
    assert {await orders.get() for _ in range(20)} == {"a", "b"}


async def test_streams_are_routed_too(kit: Kit) -> None:
    """The instance is picked when a stream opens."""
    await serve(kit, Orders("a"), Orders("b"))
    orders = kit.client(Orders, route=direct())
    found = [item for _ in range(20) async for item in orders.watch()]
    assert set(found) == {"a", "b"}


async def test_the_errors_are_those_of_a_plain_client(kit: Kit) -> None:
    """An answer is an answer, whoever gave it."""
    await serve(kit, Orders("b"))
    with pytest.raises(NotFound, match="b has none"):
        await kit.client(Orders, route=direct()).fail()


async def test_without_any_instance_it_is_said_as_without_a_route(kit: Kit) -> None:
    """The queue group has nobody either."""
    with pytest.raises(NoResponders):
        await kit.client(Orders, route=direct()).get()


async def test_what_is_stale_is_not_used_and_counted(kit: Kit) -> None:
    """While the bus does not say who is there, the queue group takes the calls."""
    await serve(kit, Orders("a"))
    orders = kit.client(Orders, route=direct())
    assert await orders.get() == "a"
    before = fallbacks("direct")
    instancer: Any = kit.fleet("orders")._instancer
    instancer._lost(OSError("gone"))
    await asyncio.sleep(0.2)
    assert await orders.get() == "a"
    assert fallbacks("direct") == before + 1


async def test_a_client_that_is_gone_follows_nothing(kit: Kit) -> None:
    """Clients may be made for one call."""
    await serve(kit, Orders("a"))
    assert await kit.client(Orders, route=direct()).get() == "a"
    instancer: Any = kit.fleet("orders")._instancer
    gc.collect()
    await asyncio.sleep(0)
    assert not instancer._observers


# -- sticky


async def test_sticky_calls_the_same_instance_for_the_same_field(kit: Kit) -> None:
    """Clients agree on it."""
    await serve(kit, *(Orders(name) for name in "abcd"))
    one, other = (kit.client(Orders, route=sticky("order")) for _ in range(2))
    found = {key: await one.get(key) for key in map(str, range(40))}
    assert {key: await other.get(key) for key in found} == found
    assert set(found.values()) == {*"abcd"}


async def test_sticky_takes_a_function_of_the_request(kit: Kit) -> None:
    """Keys that begin alike go to one instance."""
    await serve(kit, *(Orders(name) for name in "abcd"))
    orders = kit.client(Orders, route=sticky(lambda request: request.order[:2]))
    found = {await orders.get(f"eu{number}") for number in range(20)}
    assert len(found) == 1


async def test_sticky_without_the_field_goes_where_a_call_waits_least(kit: Kit) -> None:
    """An endpoint that has none is not tied to one instance."""
    await serve(kit, Orders("a"), Orders("c"))
    orders = kit.client(Orders, route=sticky("order"))
    assert {await orders.fail() for _ in range(20)} == {"a", "c"}


# -- version and split


async def test_version_calls_matching_instances_only(kit: Kit) -> None:
    """A canary is called by those who ask for it."""
    await serve(kit, of_version("1.4.2")("old"), of_version("1.5.0-rc.1")("new"))
    for spec, who in (("~=1.4,<1.5.dev0", "old"), ("1.4", "old"), ("1.5", "new")):
        orders = kit.client(Orders, route=version(spec))
        assert {await orders.get() for _ in range(10)} == {who}


async def test_a_version_that_is_not_there_is_refused_with_those_that_are(
    kit: Kit,
) -> None:
    """The queue group might answer with another one."""
    await serve(kit, of_version("1.4.2")("old"))
    with pytest.raises(Unavailable, match=r"version:2; there are 1\.4\.2") as caught:
        await kit.client(Orders, route=version("2")).get()
    assert caught.value.refused == "orders.get"


async def test_split_gives_versions_their_shares(kit: Kit) -> None:
    """In the long run."""
    await serve(kit, of_version("1.4.0")("old"), of_version("1.5.0")("new"))
    orders = kit.client(Orders, route=split({"1.4": 80, "1.5": 20}))
    found = Counter([await orders.get() for _ in range(500)])
    assert 60 < found["new"] < 140


async def test_the_share_of_a_version_that_has_gone_goes_to_the_others(
    kit: Kit,
) -> None:
    """A canary that is taken down takes no calls with it."""
    await serve(kit, of_version("1.4.0")("old"))
    orders = kit.client(Orders, route=split({"1.4": 1, "1.5": 99}))
    assert {await orders.get() for _ in range(20)} == {"old"}


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("direct", "direct"),
        ("sticky:id", "sticky:id"),
        ("version:~=1.4", "version:~=1.4"),
        ("split:1.4=95,1.5=5", "split:1.4=95,1.5=5"),
        ("split:>=1.4=95,1.5=5", "split:>=1.4=95,1.5=5"),
    ],
)
def test_a_route_is_written_as_it_is_read(text: str, spec: str) -> None:
    """The command line has all of them."""
    assert parse_route(text).spec == spec
    assert parse_route(text) == parse_route(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "direkt",
        "direct:x",
        "sticky:",
        "version:",
        "version:new",
        "split:",
        "split:1",
    ],
)
def test_what_is_no_route_is_refused_with_those_that_are(text: str) -> None:
    """One sentence, with an example."""
    with pytest.raises(ValueError, match="such as"):
        parse_route(text)


@pytest.mark.parametrize(
    "make", [lambda: split({}), lambda: split({"1": 0}), lambda: sticky("")]
)
def test_routes_without_a_choice_are_refused(make: Callable[[], Route]) -> None:
    """At once."""
    with pytest.raises(ValueError, match="takes"):
        make()


def test_an_instance_leaves_no_choice_to_a_route() -> None:
    """One of them says where a call goes."""
    with pytest.raises(ValueError, match="give one"):
        Kit(MemoryBus()).client(Orders, instance="a", route=direct())


# -- by name


async def test_a_call_by_name_takes_a_route(kit: Kit) -> None:
    """It learns from call to call."""
    fast, slow = Orders("fast", 0.01), Orders("slow", 0.1)
    await serve(kit, fast, slow)
    for number in range(50):
        await kit.call("orders.get", order=str(number), route=direct())
    assert slow.calls < 6
    found = {
        await kit.call("orders.get", order="7", route=sticky("order")) for _ in range(9)
    }
    assert len(found) == 1


# -- other languages


async def test_a_service_in_another_language_takes_part(kit: Kit) -> None:
    """An endpoint on a subject of its own in INFO is all it takes; without, the queue group."""
    heard: Counter[str] = Counter()

    def foreign(id_: str, *, is_direct: bool) -> None:
        subjects = ["orders.get"]
        if is_direct:
            subjects.append(direct_subject("orders", id_, "orders.get"))
        info = ServiceInfo(
            name="orders",
            id=id_,
            version="1.0.0",
            endpoints=[EndpointInfo(name="get", subject=each) for each in subjects],
        )

        def report() -> ServiceReport:
            raise NotImplementedError

        def answer(message: Message) -> None:
            heard[message.subject] += 1
            kit.bus.publish(message.reply, b'"ok"')

        Responder(kit.bus, info, report).start()
        kit.bus.subscribe(subjects[0], answer, queue="q")
        for each in subjects[1:]:
            kit.bus.subscribe(each, answer)

    foreign("A", is_direct=True)
    foreign("B", is_direct=False)
    orders = kit.client(Orders, route=direct())
    assert {await orders.get() for _ in range(50)} == {"ok"}
    assert heard[direct_subject("orders", "A", "orders.get")] > 10
    assert heard["orders.get"] > 10
    assert sum(heard.values()) == 50


# -- everyone


async def test_everyone_answers_or_says_why_not(kit: Kit) -> None:
    """A value or an error from each instance."""
    await serve(kit, *(Orders(name) for name in "abc"))
    answers = [answer async for answer in kit.everyone(Orders).fail()]
    assert sorted(a.value for a in answers if a.error is None) == ["a", "c"]
    (error,) = (answer.error for answer in answers if answer.error)
    assert isinstance(error, NotFound)
    assert len({answer.instance.address for answer in answers}) == 3
    with pytest.raises(NotFound):
        next(answer for answer in answers if answer.error).result()


async def test_everyone_is_heard_by_the_deadline(kit: Kit) -> None:
    """An instance that is late gets an error; the others are not held up."""
    await serve(kit, Orders("a"), Orders("late", delay=60.0))
    began = asyncio.get_running_loop().time()
    answers = [a async for a in kit.everyone(Orders, timeout=0.5).get()]
    assert [answer.value for answer in answers] == ["a", None]
    assert isinstance(answers[1].error, DeadlineExceeded)
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.5, abs=0.01)


async def test_everyone_of_nobody_is_no_responders(kit: Kit) -> None:
    """Silence would look like success."""
    with pytest.raises(NoResponders):
        _ = [answer async for answer in kit.everyone(Orders).get()]


async def test_everyone_says_who_cannot_be_asked(kit: Kit) -> None:
    """An instance without a subject of its own."""
    info = ServiceInfo(name="orders", id="X", version="1.0.0")
    Responder(kit.bus, info, lambda: pytest.fail("not asked")).start()
    (answer,) = [answer async for answer in kit.everyone(Orders).get()]
    assert isinstance(answer.error, Unimplemented)


async def test_everyone_has_the_endpoints_of_the_service_and_no_others(
    kit: Kit,
) -> None:
    """A slip is told at once."""
    with pytest.raises(AttributeError, match="it has: "):
        kit.everyone(Orders).gte()


# -- hedge


async def test_a_hedge_goes_to_another_instance_and_the_loser_is_cancelled(
    kit: Kit,
) -> None:
    """Clients that hedge choose instances as direct() does."""
    one, other = Orders("one", 0.01), Orders("other", 0.01)
    await serve(kit, one, other)
    orders = kit.client(Orders, middleware=[hedge(0.9, budget=1.0, least=0.02)])
    for _ in range(50):
        await orders.get()
    one.delay = 60.0
    began = asyncio.get_running_loop().time()
    assert {await orders.get() for _ in range(10)} == {"other"}
    assert asyncio.get_running_loop().time() - began < 1.0
    assert one.cancelled > 0


async def test_what_is_not_idempotent_is_not_hedged(kit: Kit) -> None:
    """Its work may be done once only."""
    one, other = Orders("one", 0.01), Orders("other", 0.01)
    await serve(kit, one, other)
    orders = kit.client(Orders, middleware=[hedge(0.5, budget=1.0, least=0.0)])
    for number in range(100):
        one.delay = other.delay = 0.01 * (1 + number % 5)
        await orders.place()
    assert one.calls + other.calls == 100
