"""A connection whose sends are refused or whose socket is gone, between all it does."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.nats import NatsBus
from kitmsg.errors import Disconnected, KitError, ResourceExhausted
from kitmsg.message import Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.bus.embedded import EmbeddedServer


# -- the turn between a write that failed and the news of it


async def publish(bus: NatsBus) -> None:
    bus.publish("a", b"x")


async def publish_many(bus: NatsBus) -> None:
    for _ in range(100):
        bus.publish("a", b"x")


async def respond(bus: NatsBus) -> None:
    bus.respond(Message("a", b"", "r"), b"x")


async def request(bus: NatsBus) -> None:
    await bus.request("a", b"x", 5)


async def flush(bus: NatsBus) -> None:
    await bus.flush()


async def subscribe(bus: NatsBus) -> None:
    bus.subscribe("a", print).unsubscribe()


@pytest.mark.parametrize(
    "operation", [publish, publish_many, respond, request, flush, subscribe]
)
async def test_a_socket_that_just_broke_is_a_lost_connection(
    operation: Callable[[NatsBus], Awaitable[None]],
    server: EmbeddedServer,
    bus: NatsBus,
) -> None:
    """A turn before it is told, uvloop's transport raises RuntimeError; no caller sees it."""
    strange: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, c: strange.append(c))
    lost = asyncio.Event()
    bus.watch(lambda up: None if up else lost.set())
    server.pause()
    for _ in range(50):  # unread, so that the end of the server resets the connection
        bus.publish("a", b"x" * 1000)
    await bus._connection._flush_pending()
    await asyncio.sleep(0.01)  # the kernel's way, which tells nobody when it is done
    server.kill()
    while bus.is_connected:
        try:
            await operation(bus)
        except KitError as error:
            assert isinstance(error, Disconnected)  # noqa: PT017  # or anything else
        await asyncio.sleep(0)
    assert lost.is_set()
    assert strange == []


# -- refusals in between


class Actions:
    """Random operations on a bus, some while its outbox is full."""

    def __init__(self, bus: NatsBus, seed: int) -> None:
        self._bus = bus
        self._chance = random.Random(seed)
        self.refused = 0
        self.seen: list[bytes] = []
        self.sent: list[bytes] = []
        self._subscriptions = [bus.subscribe("seen", self._note)]
        self._tasks: list[asyncio.Task[Any]] = []

    def _note(self, message: Message) -> None:
        self.seen.append(message.data)

    def fill(self) -> None:
        """Let nothing have room."""
        self._bus._connection._out._max_pending = -1

    def empty(self) -> None:
        self._bus._connection._out._max_pending = 8 << 20

    async def act(self) -> None:
        chosen = self._chance.choice(
            [self._publish, self._ask, self._subscribe, self._unsubscribe, self._flush]
        )
        if self._chance.random() < 0.3:
            self.fill()
        try:
            await chosen()
        except ResourceExhausted:
            self.refused += 1
        self.empty()
        if self._chance.random() < 0.3:
            await asyncio.sleep(0)

    async def _publish(self) -> None:
        data = b"%d" % len(self.sent)
        self._bus.publish("seen", data)
        self.sent.append(data)

    async def _ask(self) -> None:
        if self._bus._connection._out._max_pending < 0:
            with pytest.raises(ResourceExhausted):
                await self._bus.request("echo", b"x", 5)
            self.refused += 1
        else:
            self._spawn(self._bus.request("echo", b"x", 5))

    async def _subscribe(self) -> None:
        self._subscriptions.append(self._bus.subscribe("other", print))

    async def _unsubscribe(self) -> None:
        if len(self._subscriptions) > 1:
            self._subscriptions.pop().unsubscribe()

    async def _flush(self) -> None:
        self._spawn(self._bus.flush(5))

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.create_task(work))

    async def finish(self) -> None:
        """Wait for everything that was begun; nothing may fail."""
        await asyncio.gather(*self._tasks)
        for subscription in self._subscriptions[1:]:
            subscription.unsubscribe()
        await self._bus.flush(5)


@pytest.mark.parametrize("seed", range(10))
async def test_a_refused_send_leaves_the_connection_as_it_was(
    seed: int, nats_server: EmbeddedServer
) -> None:
    """Whatever is refused in between, each flush and ask ends and no state is left over."""
    bus = await NatsBus.connect(nats_server.url)
    bus.subscribe("echo", lambda m: bus._connection._out.put(_reply(m)))
    actions = Actions(bus, seed)
    for _ in range(300):
        await actions.act()
    await actions.finish()
    assert actions.refused > 0
    assert actions.seen == actions.sent
    client = bus._connection
    assert client._pongs == []
    assert len(client.asks) == 0
    assert sorted(client.inbound.handlers) == sorted(client._subs)
    assert len(client._subs) == 3  # the inbox, echo, and what notes
    await bus.close()


def _reply(message: Message) -> bytes:
    return b"PUB %b 1\r\nx\r\n" % message.reply.encode()


async def test_a_full_outbox_does_not_break_the_next_flush(bus: NatsBus) -> None:
    """To unsubscribe is not refused for want of room, and what it waits for comes."""
    subscription = bus.subscribe("a", print)
    await bus.flush()
    bus._connection._out._max_pending = -1
    subscription.unsubscribe()
    bus.subscribe("b", print)
    await bus.flush(5)
    assert bus._connection._pongs == []
