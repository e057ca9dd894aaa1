"""The gateway on a real NATS server, with services of kitmsg and of plain NATS micro."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator  # noqa: TC003  a service's hint
from typing import TYPE_CHECKING, Any

import nats
import nats.micro
import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import PermissionDenied

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.micro.request import Request
    from nats.micro.service import Service as Service_


class Greeter(Service):
    """Says hello."""

    name = "http_greeter"
    drain_timeout = 0.1

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    @endpoint(http="GET /http-greeter/hello/{name}")
    async def hello(self, name: str, times: int = 1) -> str:
        return " ".join([f"Hello, {name}!"] * times)

    @endpoint
    async def echo(self, data: bytes) -> bytes:
        return data

    @endpoint
    async def wait(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


FACTS = {
    "kit.http": "GET /http-far/{n}",
    "kit.cache": "60",
    "kit.status": "203",
    "description": "Doubles.",
}


@pytest.fixture
async def other(nats_server):
    """A plain nats-py connection, as a service in another language has."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


async def micro(client: Client, name: str, **handlers: Any) -> Service_:
    """Serve handlers with nats-py's own micro services."""
    service = await nats.micro.add_service(client, name=name, version="1.0.0")
    for endpoint_name, (handler, metadata) in handlers.items():
        await service.add_endpoint(
            name=endpoint_name,
            subject=f"{name}.{endpoint_name}",
            handler=handler,
            metadata=metadata,
        )
    await client.flush()
    return service


async def test_kitmsg_services_on_nats(nats_bus, nats_server, start, until):
    """Found, called, cancelled and lost over the wire."""
    greeter = Greeter()
    async with kitmsg.connect(nats_server.url) as kit:
        await kit.serve(greeter)
        call = await start(nats_bus, discovery_interval=3600)
        _, body = await call("GET", "/http-greeter/hello/Ann?times=2")
        assert body == "Hello, Ann! Hello, Ann!"
        response, body = await call(
            "POST", "/http_greeter/hello", json={"title": "Ann"}
        )
        assert (response.status, body["code"]) == (400, "invalid_argument")
        waiting = asyncio.create_task(call("POST", "/http_greeter/wait"))
        async with asyncio.timeout(10):
            await greeter.entered.wait()
            waiting.cancel()
            await greeter.cancelled.wait()
    await until(lambda: "http_greeter" not in call.server.table.services)


async def test_a_server_that_dies_and_comes_back(start, until):
    """Calls in flight fail at once, readiness goes and returns, and so do calls."""
    greeter = Greeter()
    async with (
        EmbeddedServer(jetstream=False) as server,
        kitmsg.connect(server.url) as kit,
        kitmsg.connect(server.url) as own,
    ):
        await kit.serve(greeter)
        call = await start(own, discovery_interval=30)
        waiting = asyncio.create_task(
            call("POST", "/http_greeter/wait", headers={"Request-Timeout": "50"})
        )
        async with asyncio.timeout(20):
            await greeter.entered.wait()
            await asyncio.to_thread(server.kill)
            response, body = await waiting
            assert (response.status, body["code"]) == (502, "unavailable")
            assert (await call("GET", "/readyz"))[0].status == 503
            await asyncio.to_thread(server.restart)
            await until(lambda: own.bus.is_connected and kit.bus.is_connected)
            assert (await call("GET", "/readyz"))[0].status == 200
            await kit.bus.flush()
            _, body = await call("GET", "/http-greeter/hello/Ann")
        assert body == "Hello, Ann!"


async def test_long_bodies_on_nats(nats_bus, nats_server, start):
    """Three times what the server carries in one message, there and back."""
    async with kitmsg.connect(nats_server.url) as kit:
        await kit.serve(Greeter())
        call = await start(nats_bus, max_body_bytes=4 << 20)
        assert nats_bus.max_payload < 3 << 20
        data = bytes(range(256)) * (3 << 12)
        headers = {"Content-Type": "application/octet-stream"}
        response, body = await call(
            "POST", "/http_greeter/echo", data=io.BytesIO(data), headers=headers
        )
    assert (response.status, body == data) == (200, True)


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_a_plain_micro_service(nats_bus, other, start, until):
    """Mounted by rounds, with the keys of its metadata; errors become problems."""

    async def double(request: Request) -> None:
        number = json.loads(request.data)["n"]
        await request.respond(json.dumps({"twice": 2 * int(number)}).encode())

    async def fail(request: Request) -> None:
        raise KeyError("secret")

    async def refuse(request: Request) -> None:
        await request.respond_error("404", "no such thing")

    call = await start(nats_bus, discovery_interval=0.05)
    service = await micro(
        other,
        "http_far",
        double=(double, FACTS),
        fail=(fail, None),
        refuse=(refuse, None),
    )
    await until(lambda: "http_far" in call.server.table.services)
    assert (await call("POST", "/http_far/double", json={"n": 4}))[1] == {"twice": 8}
    response, body = await call("GET", "/http-far/5")
    assert (response.status, body) == (203, {"twice": 10})
    assert response.headers["Cache-Control"] == "max-age=60"
    asked = {"jsonrpc": "2.0", "method": "double", "params": {"n": 6}, "id": 1}
    assert (await call("POST", "/rpc", json=asked))[1]["result"] == {"twice": 12}
    response, body = await call("POST", "/http_far/fail")
    assert (response.status, "secret" in json.dumps(body)) == (500, False)
    response, body = await call("POST", "/http_far/refuse")
    assert (response.status, body["detail"]) == (404, "no such thing")
    await service.stop()
    await until(lambda: "http_far" not in call.server.table.services)


DENIED = """
authorization { users: [
  { user: all, password: x }
  { user: edge, password: x, permissions: {
      publish: { deny: ["guarded.secret", "guarded.feed"] } } }
] }
"""


class Guarded(Service):
    """Denies one thing itself; the bus denies the others."""

    @endpoint
    async def enter(self) -> None:
        raise PermissionDenied("not you")

    @endpoint
    async def secret(self) -> None:
        """Is never reached."""

    @endpoint
    async def feed(self) -> AsyncIterator[int]:
        yield 1


async def test_what_this_gateway_may_not_do_is_for_its_log(start, caplog):
    """Strangers learn no subject and no user; what a service denies still passes."""
    with EmbeddedServer(jetstream=False, config=DENIED) as server:
        bus = await NatsBus.connect(server.url, user="all", password="x")
        edge = await NatsBus.connect(server.url, user="edge", password="x")
        async with kitmsg.connect(bus=bus) as kit, kitmsg.connect(bus=edge):
            await kit.serve(Guarded())
            call = await start(edge)
            for path in ("/guarded/secret", "/guarded/feed"):
                headers = {"X-Request-Id": path}
                response, problem = await call("POST", path, headers=headers)
                assert (response.status, problem["code"]) == (500, "internal")
                assert "NATS" not in problem["detail"]
                subject = path[1:].replace("/", ".")
                said = f"may not send to '{subject}' (request id {path})"
                assert said in caplog.text
            asked = {"jsonrpc": "2.0", "method": "guarded.secret", "id": 1}
            _, answer = await call("POST", "/rpc", json=asked)
            assert answer["error"]["code"] == -32603
            assert "NATS" not in answer["error"]["message"]
            response, problem = await call("POST", "/guarded/enter")
            assert (response.status, problem["detail"]) == (403, "not you")
            await call.server.stop()
