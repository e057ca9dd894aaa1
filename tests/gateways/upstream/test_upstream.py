"""The seam of the upstreams: addresses, hooks, what goes along, endpoints on the bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest

import kitmsg
from kitmsg.balance import consistent_hash, round_robin
from kitmsg.context import Context
from kitmsg.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.middleware import hedge, rate_limit
from kitmsg.service.described import describe
from kitmsg.transport.opening import open_stream
from kitmsg_gateways.upstream import (
    CannotConnect,
    CommonOptions,
    Hooks,
    Pool,
    Remote,
    Upstream,
    outgoing,
)
from tests.discovery.changing import Changing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus import Bus
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.endpoints import Middleware
    from kitmsg.schema.calls import StreamRequest

NUMBERS = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "required": ["a", "b"],
}


def adder(*middleware: Middleware, bus: Bus | None = None) -> Upstream:
    """An upstream whose server is a function."""

    async def add(_ctx: Context, request: dict[str, Any]) -> int:
        return int(request["a"] + request["b"])

    declared = describe(
        "adder", "sum", request=NUMBERS, response={"type": "integer"}, doc="Adds."
    )
    return Upstream(
        "adder",
        [Remote(declared, add)],
        kind="test",
        doc="Adds numbers.",
        middleware=middleware,
        bus=bus,
    )


async def where(pool: Pool, calls: int) -> list[str]:
    """Return the addresses that calls through a pool get."""

    async def send(address: str) -> str:
        return address

    return [await pool.through(send) for _ in range(calls)]


async def test_addresses_take_turns() -> None:
    """With round robin each address gets as many calls as the others."""
    pool = Pool("adder", ["a", "b", "c"], pick=round_robin())
    assert sorted(await where(pool, 6)) == ["a", "a", "b", "b", "c", "c"]


async def test_the_fastest_server_gets_the_calls() -> None:
    """Unless another picker is given."""
    pool = Pool("adder", ["slow", "fast"])
    calls: Counter[str] = Counter()

    async def send(address: str) -> None:
        calls[address] += 1
        if address == "slow":
            await asyncio.sleep(0.05)

    for _ in range(50):
        await pool.through(send)
    assert calls["fast"] > 45


async def test_one_address_may_be_plain_text() -> None:
    """A single address needs no list."""
    assert await where(Pool("adder", "here"), 1) == ["here"]


async def test_who_leaves_the_list_is_told_and_picked_no_more() -> None:
    """Changes of the instancer count for the next call."""
    gone: list[str] = []
    source = Changing("a", "b")
    pool = Pool("adder", source, gone=gone.append, pick=round_robin())
    await where(pool, 1)
    source.become("b", "c")
    await asyncio.sleep(0)
    assert gone == ["a"]
    assert set(await where(pool, 4)) == {"b", "c"}
    await pool.close()
    await pool.close()
    assert source.watchers == []
    source.addresses = ("d",)
    assert await where(pool, 1) == ["d"]


async def test_another_instance_gets_what_one_could_not_take() -> None:
    """A call goes on to the next address while connecting fails."""
    pool = Pool("adder", ["a", "b", "c"], pick=round_robin())
    tried: list[str] = []

    async def send(address: str) -> str:
        tried.append(address)
        if address != "c":
            raise CannotConnect("refused")
        return address

    for _ in range(5):
        assert await pool.through(send) == "c"
    assert tried.count("c") == 5
    assert tried.count("a") <= 1
    assert tried.count("b") <= 1


async def test_no_instance_at_all_is_unavailable() -> None:
    """Each address is tried once; then the caller is told, without addresses."""
    pool = Pool("adder", ["secret-host:1", "secret-host:2"])
    tried = []

    async def send(address: str) -> None:
        tried.append(address)
        raise CannotConnect("refused")

    with pytest.raises(Unavailable, match="adder has no instance") as caught:
        await pool.through(send)
    assert sorted(tried) == ["secret-host:1", "secret-host:2"]
    assert "secret" not in str(caught.value)
    with pytest.raises(Unavailable):
        await where(Pool("adder", []), 1)


async def test_a_key_goes_to_the_same_address() -> None:
    """For pickers that go by one."""
    pool = Pool("adder", ["a", "b", "c"], pick=consistent_hash())

    async def send(address: str) -> str:
        return address

    keys = [str(number) for number in range(30)]
    first = [await pool.through(send, key=key) for key in keys]
    assert first == [await pool.through(send, key=key) for key in keys]
    assert set(first) == {"a", "b", "c"}


async def test_middlewares_have_the_bus_of_the_service_at_hand(
    memory_bus: MemoryBus,
) -> None:
    """As those of services and clients do, so that a fleet may share a limit."""
    limit = rate_limit(1, burst=1, shared="adder")
    async with kitmsg.connect(bus=memory_bus) as kit:
        for _ in range(2):
            await kitmsg.Kit(memory_bus).serve(adder(limit))
        numbers = {"a": 1, "b": 2}
        answers = await asyncio.gather(
            *(kit.call("adder.sum", numbers) for _ in range(8)), return_exceptions=True
        )
    assert answers.count(3) == 1
    assert {type(each) for each in answers} == {int, ResourceExhausted}


async def test_in_process_a_bus_is_told(memory_bus: MemoryBus) -> None:
    """Or it is said what is missing."""
    limit = rate_limit(1, burst=1, shared="adder")
    with pytest.raises(ValueError, match="has no bus here"):
        adder(limit).endpoint("sum")
    call = adder(limit, bus=memory_bus).endpoint("sum")
    assert await call(Context(), {"a": 1, "b": 2}) == 3
    with pytest.raises(ResourceExhausted):
        await call(Context(), {"a": 1, "b": 2})


async def test_only_what_is_idempotent_is_hedged() -> None:
    """The work of others must not be done twice."""
    calls = Counter[str]()

    def remote(name: str, *, idempotent: bool) -> Remote:
        async def call(_ctx: Context, _request: Any) -> None:
            calls[name] += 1
            await asyncio.sleep(0.05 if calls[name] > 30 else 0)

        declared = describe(
            "slow", name, request=NUMBERS, response={}, idempotent=idempotent
        )
        return Remote(declared, call)

    upstream = Upstream(
        "slow",
        [remote("get", idempotent=True), remote("put", idempotent=False)],
        kind="test",
        middleware=[hedge(0.5, budget=1.0)],
    )
    for name in ("get", "put"):
        call = upstream.endpoint(name)
        for _ in range(31):
            await call(Context(), {})
    assert calls == {"get": 32, "put": 31}


async def test_finalizers_see_how_it_ended() -> None:
    """They run last, with the error or with None."""
    seen: list[BaseException | None] = []
    hooks: Hooks[Any, Any] = Hooks(finalizer=[lambda _ctx, error: seen.append(error)])

    async def call(_ctx: Context, request: Any) -> Any:
        if request is None:
            raise ValueError("no")
        return request

    run = hooks.finalized(call)
    assert await run(Context(), 1) == 1
    with pytest.raises(ValueError, match="no"):
        await run(Context(), None)
    assert seen[0] is None
    assert isinstance(seen[1], ValueError)


async def test_finalizers_of_a_stream_run_at_its_end() -> None:
    """Not when it is opened; they see what broke it, and also that nobody reads on."""
    seen: list[BaseException | None] = []
    hooks: Hooks[Any, Any] = Hooks(finalizer=[lambda _ctx, error: seen.append(error)])

    async def call(_ctx: Context, count: int) -> AsyncIterator[int]:
        async def items() -> AsyncIterator[int]:
            for number in range(count):
                yield number
            if count == 3:
                raise ValueError("no more")

        return items()

    run = hooks.finalized(call)
    items = await run(Context(), 2)
    assert seen == []
    assert [item async for item in items] == [0, 1]
    assert seen == [None]
    with pytest.raises(ValueError, match="no more"):
        [item async for item in await run(Context(), 3)]
    assert isinstance(seen[1], ValueError)
    left: Any = await run(Context(), 2)
    await anext(left)
    await left.aclose()
    assert isinstance(seen[2], GeneratorExit)


@dataclass(frozen=True, kw_only=True)
class ToyOptions(CommonOptions):
    """Options of an upstream."""

    ZERO: ClassVar[tuple[str, ...]] = ("retries",)
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"mood": ("glad", "sad")}

    retries: int = 1
    size: int = 1
    mood: str = "glad"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": 0}, "timeout must be positive"),
        ({"connect_timeout": float("inf")}, "connect_timeout must be positive"),
        ({"retries": -1}, "retries must not be negative"),
        ({"size": 0}, "size must be positive"),
        ({"mood": "mad"}, "mood must be one of glad, sad, not 'mad'"),
        ({"key_file": "x"}, "key_file needs cert_file"),
    ],
)
def test_options_check_themselves(options: dict[str, Any], sentence: str) -> None:
    """Those of every upstream, and those that a protocol adds."""
    assert ToyOptions(retries=0).retries == 0
    with pytest.raises(ValueError, match=sentence):
        ToyOptions(**options)


async def test_time_trace_and_id_go_along() -> None:
    """The caller's deadline wins; authorization goes along only when told to."""
    fields = {
        "traceparent": "00-1-2-01",
        "Kit-Request-Id": "r1",
        "Authorization": "B x",
    }
    message = Message("s", b"", header_block=encode_headers(fields))
    now = asyncio.get_running_loop().time()
    ctx = Context(deadline=now + 2.0, message=message)
    sent = outgoing(ctx, 5.0)
    assert 0 < sent.timeout <= 2.0
    assert sent.headers == {"traceparent": "00-1-2-01", "Kit-Request-Id": "r1"}
    more = outgoing(ctx, 0.5, forward_authorization=True)
    assert more.timeout == 0.5
    assert more.headers["Authorization"] == "B x"
    with pytest.raises(DeadlineExceeded):
        outgoing(Context(deadline=now - 1.0), 5.0)


async def test_an_upstream_is_served_like_any_service(memory_bus: MemoryBus) -> None:
    """Its endpoints answer on the bus, and discovery shows their schemas."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        host = await kit.serve(adder())
        assert await kit.call("adder.sum", a=1, b=2) == 3
        assert host.info.description == "Adds numbers."
        assert host.info.metadata == {"kit.upstream": "test"}
        reply = await memory_bus.request("adder._schema", b"", 1.0)
        schema = msgspec.json.decode(reply.data)["sum"]
        assert schema["request"] == NUMBERS
        assert schema["response"] == {"type": "integer"}
        assert host.info.endpoints[0].metadata == {
            "kit.schema": schema["hash"],
            "description": "Adds.",
        }


async def test_a_request_that_is_no_object_is_refused(memory_bus: MemoryBus) -> None:
    """The upstream never sees it."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        await kit.serve(adder())
        reply = await memory_bus.request("adder.sum", b"{]", 1.0)
        assert reply.headers["Kit-Code"] == "invalid_argument"


async def test_items_both_ways_are_described_too(memory_bus: MemoryBus) -> None:
    """What streams in is checked as a request is, and INFO says which way."""

    async def total(_ctx: Context, request: StreamRequest) -> AsyncIterator[int]:
        assert request.items is not None
        items, start = request.items, request.request["start"]

        async def sums() -> AsyncIterator[int]:
            so_far = start
            async for item in items:
                so_far += item
                yield so_far

        return sums()

    declared = describe(
        "adder",
        "total",
        request={"type": "object", "required": ["start"], "properties": {}},
        response={"type": "integer"},
        items={"type": "integer"},
        gives_items=True,
    )
    upstream = Upstream("adder", [Remote(declared, total)], kind="test")
    block = encode_headers({"Content-Type": "application/json"})
    async with kitmsg.connect(bus=memory_bus) as kit:
        host = await kit.serve(upstream)
        assert (host.info.endpoints[0].metadata or {})["kit.stream"] == "both"
        stream = await open_stream(memory_bus, "adder.total", b'{"start":5}', block)
        for item in (b"1", b"2"):
            await stream.send(item)
        await stream.finish()
        assert [message.data async for message in stream] == [b"6", b"8"]
        stream = await open_stream(memory_bus, "adder.total", b'{"start":5}', block)
        await stream.send(b'"x"')
        with pytest.raises(InvalidArgument, match="expected integer, got string"):
            await anext(stream)


async def test_an_upstream_works_without_a_bus() -> None:
    """Its endpoints are endpoints, for any code."""
    async with adder() as upstream:
        assert await upstream.endpoint("sum")(Context(), {"a": 1, "b": 2}) == 3
        with pytest.raises(NotFound, match="did you mean 'sum'"):
            upstream.endpoint("sun")


def test_endpoints_have_names_of_their_own() -> None:
    """Two of one name, or none at all, are refused."""
    (remote,) = adder().remotes.values()
    with pytest.raises(ValueError, match="two endpoints are named 'sum'"):
        Upstream("adder", [remote, Remote(remote.declaration, remote.call)], kind="x")
    with pytest.raises(ValueError, match="without endpoints"):
        Upstream("adder", [], kind="x")
