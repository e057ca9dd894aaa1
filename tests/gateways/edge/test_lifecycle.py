"""A door of a protocol of its own: what it gets from the edge, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.codec import JSON
from kitmsg.context import new_request_id
from kitmsg.errors import FailedPrecondition, InvalidArgument, KitError, Unimplemented
from kitmsg.wire import REQUEST_ID
from kitmsg_gateways.edge.catalogue import unavailable
from kitmsg_gateways.edge.lifecycle import SocketGateway
from kitmsg_gateways.edge.options import SocketOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus.memory import MemoryBus
    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg_gateways.edge.admission import Place

Table = dict[str, "CatalogEndpoint"]


class Greeter(Service):
    """Says hello, and waits for ever."""

    @endpoint
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"

    @endpoint
    async def wait(self) -> None:
        await asyncio.Event().wait()


class Lines(SocketGateway[SocketOptions, Table]):
    """A toy: ``greeter.hello {"name": "Ann"}`` on a line, a line of JSON back."""

    kind: ClassVar[str] = "lines"
    title: ClassVar[str] = "Lines"
    refusal: ClassVar[bytes] = b"full\n"

    def __init__(self, bus: Any, options: SocketOptions, sockets: Any = ()) -> None:
        super().__init__(bus, options, {}, sockets)

    def _build(self, found: Catalog) -> Table:
        return {one.dotted: one for one in found.endpoints}

    def _served(self) -> int:
        return len(self.table)

    def _protocol(self, place: Place) -> _Client:
        return _Client(self, place)

    async def answer(self, line: bytes) -> bytes:
        name, _, data = line.strip().partition(b" ")
        code = "ok"
        try:
            self.admission.enter()
            return await self._call(name.decode(), data or b"{}")
        except KitError as exc:
            code = exc.code.value
            return f"{code}: {exc}".encode()
        finally:
            self.admission.leave()
            self.metrics.observe(name.decode(), code, 0.0)

    async def _call(self, name: str, data: bytes) -> bytes:
        found = self.table.get(name)
        if found is None:
            why = self.catalogue.why_gone(lambda table: table.get(name))
            raise unavailable(why) if why else Unimplemented(f"no {name}")
        caller = self.callers.of(found)
        seconds = self.callers.seconds(None, found)
        fields = {REQUEST_ID: new_request_id()}
        ctx = self.callers.context(caller, JSON, seconds, fields)
        return (await caller.ask(ctx, data)).data


class _Client(asyncio.Protocol):
    def __init__(self, gateway: Lines, place: Place) -> None:
        self.gateway, self.place = gateway, place
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        task = asyncio.create_task(self._answer(data))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, data: bytes) -> None:
        answer = await self.gateway.answer(data)
        self.transport.write(answer + b"\n")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self.place.leave()
        for task in self.tasks:
            task.cancel()


@pytest.fixture
async def kit(memory_bus: MemoryBus) -> AsyncIterator[kitmsg.Kit]:
    """A kit on the in-memory bus, on the real clock."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        yield kit


@pytest.fixture
async def begin(kit: kitmsg.Kit) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts a gateway."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(sockets: Any = (), **options: Any) -> Lines:
            chosen = SocketOptions(**{"drain_timeout": 0.1, **options})
            gateway = Lines(kit.bus, chosen, sockets)
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            return gateway

        yield start


async def ask(gateway: Lines, line: bytes) -> bytes:
    """Return the answer to one line, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(10):
            if line:
                writer.write(line + b"\n")
            return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_door_serves_what_is_on_the_bus(kit: kitmsg.Kit, begin: Any) -> None:
    """And follows it; what has just left is unavailable, not unknown."""
    gateway = await begin()
    assert gateway.url == f"lines://127.0.0.1:{gateway.port}"
    assert await ask(gateway, b"greeter.hello") == b"unimplemented: no greeter.hello\n"
    service = await kit.serve(Greeter())
    async with asyncio.timeout(10):
        while not gateway.table:
            await asyncio.sleep(0.002)
    assert await ask(gateway, b'greeter.hello {"name":"Ann"}') == b'"Hello, Ann!"\n'
    assert gateway.metrics.count("greeter.hello", "ok") == 1
    await service.drain(0)
    async with asyncio.timeout(10):
        while gateway.table:
            await asyncio.sleep(0.002)
    said = await ask(gateway, b"greeter.hello")
    assert b"unavailable: the last instance of 'greeter' has just left the bus" in said


async def test_a_full_door_says_so(kit: kitmsg.Kit, begin: Any) -> None:
    """Calls and connections, with one word each; a stop ends what hangs."""
    await kit.serve(Greeter())
    gateway = await begin(max_concurrent=1, max_connections=2)
    hanging = asyncio.create_task(ask(gateway, b"greeter.wait"))
    async with asyncio.timeout(10):
        while not gateway.metrics.in_flight:
            await asyncio.sleep(0.002)
    said = await ask(gateway, b"greeter.hello")
    assert said == b"resource_exhausted: the gateway is full: 1 calls are in flight\n"
    async with asyncio.timeout(10):
        while gateway.connections.open > 1:
            await asyncio.sleep(0.002)
    _, more = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with asyncio.timeout(10):
        while gateway.connections.open < 2:
            await asyncio.sleep(0.002)
    assert await ask(gateway, b"") == b"full\n"
    await gateway.stop()
    assert gateway.is_draining
    more.close()
    await more.wait_closed()
    hanging.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hanging
    with pytest.raises(FailedPrecondition, match="not started"):
        _ = gateway.port


async def test_metrics_and_health_have_a_port_of_their_own(begin: Any) -> None:
    """For doors that speak no HTTP."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gateway = await begin(metrics_port=port)

    def read(path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as page:
                return page.status, page.read().decode()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()

    status, text = await asyncio.to_thread(read, "/metrics")
    assert status == 200
    assert 'kitmsg_gateway_in_flight{gateway="lines"} 0' in text
    status, text = await asyncio.to_thread(read, "/readyz")
    assert (status, json.loads(text)) == (200, {"status": "ready"})
    gateway.health.is_draining = True
    status, text = await asyncio.to_thread(read, "/readyz")
    assert (status, json.loads(text)) == (503, {"status": "the gateway is stopping"})


async def test_a_start_that_fails_leaves_nothing(kit: kitmsg.Kit, begin: Any) -> None:
    """Its port is free again."""
    gateway = await begin()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition, match="choose another --metrics-port"):
            await begin(metrics_port=port)
    with pytest.raises(OSError, match="cannot listen on"):
        await begin(port=gateway.port)
    with pytest.raises(InvalidArgument, match="kitmsg gateway lines --workers"):
        Lines(kit.bus, SocketOptions(workers=2))
