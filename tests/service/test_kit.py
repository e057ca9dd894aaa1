"""One bus, the services and the clients on it; both styles of writing them."""
# the services here are props

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import (
    Context,
    Kit,
    Service,
    chain,
    connect,
    current,
    endpoint,
    make_endpoint,
)
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import (
    Disconnected,
    InvalidArgument,
    NoResponders,
    Unavailable,
)
from kitmsg.middleware import log, rate_limit
from kitmsg.schema import signature
from kitmsg.transport import (
    Client,
    Server,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer


class Greeter(Service):
    """Says hello."""

    @endpoint
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"


class Ping(Service):
    """Plays ball with `Pong`."""

    def __init__(self, kit: Kit) -> None:
        self.pong = kit.client(Pong)

    @endpoint
    async def play(self, n: int) -> list[str]:
        return [current().endpoint, *(await self.pong.play(n - 1) if n else [])]


class Pong(Service):
    """Plays ball with `Ping`."""

    def __init__(self, kit: Kit) -> None:
        self.ping = kit.client(Ping)

    @endpoint
    async def play(self, n: int) -> list[str]:
        return [current().endpoint, *(await self.ping.play(n - 1) if n else [])]


async def test_two_services_call_each_other(kit: Kit) -> None:
    """There and back, as deep as they like."""
    await kit.serve(Ping(kit))
    await kit.serve(Pong(kit))
    assert await kit.client(Ping).play(4) == ["ping.play", "pong.play"] * 2 + [
        "ping.play"
    ]


@dataclass
class Sum:
    """What is added."""

    a: int
    b: int


class AddService:
    """A plain class that imports nothing of kitmsg."""

    async def sum(self, request: Sum) -> int:
        return request.a + request.b


async def test_the_explicit_style(kit: Kit) -> None:
    """A plain class, wired by hand: endpoint, middleware, server, client."""
    kind = signature(AddService.sum, skip_self=True)
    sum_ = chain(log(), rate_limit(100))(make_endpoint(AddService().sum))
    server = Server(
        kit.bus,
        "addsvc.sum",
        sum_,
        decode=decode_request(kind),
        encode=encode_response(kind),
    )
    await server.start()
    remote: Client[Sum, int] = Client(
        kit.bus,
        "addsvc.sum",
        encode=encode_request(kind),
        decode=decode_response(kind),
    )
    assert await remote.endpoint()(Context(), Sum(1, 2)) == 3
    assert await kit.call("addsvc.sum", a=3, b=4) == 7
    await server.drain()


async def test_call_by_name(kit: Kit) -> None:
    """Without the class: plain fields in, plain objects out."""
    await kit.serve(Greeter())
    assert await kit.call("greeter.hello", name="Ann") == "Hello, Ann!"
    assert await kit.call("greeter.hello", {"name": "Ann"}) == "Hello, Ann!"
    with pytest.raises(InvalidArgument, match="field 'name' is missing"):
        await kit.call("greeter.hello")
    with pytest.raises(InvalidArgument, match="is not a subject"):
        await kit.call("greeter hello")


async def check_hints(kit: Kit) -> None:
    """Call names that nobody serves."""
    await kit.serve(Greeter())
    await kit.serve(Greeter())
    with pytest.raises(
        NoResponders, match=r"did you mean 'greeter\.hello' \(2 instances\)\?"
    ) as caught:
        await kit.call("greeter.helo", name="Ann")
    assert caught.value.subject == "greeter.helo"
    with pytest.raises(NoResponders, match="no service on this bus has a name like it"):
        await kit.call("something.else.entirely")


async def test_nobody_listens_did_you_mean(kit: Kit) -> None:
    """The error comes at once and names the nearest known subject."""
    await check_hints(kit)


async def test_nobody_listens_on_a_real_server(kit_nats: Kit) -> None:
    """NATS says so by its status 503."""
    await check_hints(kit_nats)


async def test_an_empty_bus_has_no_hint(kit: Kit) -> None:
    """Then the error names the subject alone."""
    with pytest.raises(NoResponders, match=r"no responders for 'greeter\.hello'$"):
        await kit.client(Greeter).hello("Ann")


async def test_bus_down(kit: Kit) -> None:
    """Asks fail fast while it is down, asks in flight when it goes; then all is well."""
    bus = kit.bus
    assert isinstance(bus, MemoryBus)
    await kit.serve(Greeter())
    kit.bus.subscribe("void.ask", lambda _: None)
    waiting = asyncio.create_task(kit.call("void.ask", timeout=60))
    await asyncio.sleep(1)
    bus.disconnect()
    with pytest.raises(Disconnected):
        await waiting
    with pytest.raises(Unavailable):
        await kit.client(Greeter).hello("Ann")
    assert asyncio.get_running_loop().time() < 2
    bus.reconnect()
    assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"


async def test_ask_in_flight_fails_when_the_server_dies(kit_nats: Kit) -> None:
    """On a real server too: not at the timeout, and the next ask succeeds."""
    entered = asyncio.Event()
    kit_nats.bus.subscribe("void.ask2", lambda _: entered.set())
    waiting = asyncio.create_task(kit_nats.call("void.ask2", timeout=30))
    await entered.wait()
    back = asyncio.Event()
    kit_nats.bus.watch(lambda up: back.set() if up else None)
    await kit_nats.bus.client.force_reconnect()  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        with pytest.raises(Disconnected):
            await waiting
        await back.wait()
        await kit_nats.serve(Greeter())
        assert await kit_nats.client(Greeter).hello("Ann") == "Hello, Ann!"


async def test_connect(nats_server: EmbeddedServer) -> None:
    """`connect` is awaited, or entered; leaving it drains and closes."""
    async with connect(nats_server.url) as kit:
        await kit.serve(Greeter())
        assert await kit.client(Greeter).hello("Ann") == "Hello, Ann!"
    assert not kit.bus.is_connected
    kit = await connect([nats_server.url])
    assert kit.bus.is_connected
    await kit.close()


async def test_connect_reads_the_environment(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``NATS_URL`` says where the bus is."""
    monkeypatch.setenv("NATS_URL", nats_server.url)
    async with connect() as kit:
        assert kit.bus.is_connected


async def test_connect_to_a_bus_of_ones_own() -> None:
    """Any bus will do."""
    bus = MemoryBus()
    async with kitmsg.connect(bus=bus) as kit:
        assert kit.bus is bus
    assert not bus.is_connected


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (object(), "is not a service; write a class on kitmsg.Service"),
        (lambda: 3, "made 3, which is not a kitmsg.Service"),
        (dict, "which is not a kitmsg.Service"),
    ],
)
async def test_only_services_are_served(kit: Kit, wrong: Any, sentence: str) -> None:
    """Anything else is refused with a sentence."""
    with pytest.raises(TypeError, match=sentence):
        await kit.serve(wrong)


async def test_a_closed_kit(kit: Kit) -> None:
    """After `close` calls fail at once, and closing again does nothing."""
    await kit.serve(Greeter())
    await kit.close()
    await kit.close()
    with pytest.raises(Disconnected):
        await kit.client(Greeter).hello("Ann")
