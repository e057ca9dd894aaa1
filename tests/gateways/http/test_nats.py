"""The gateway on a real NATS server, with services of kitmsg and of plain NATS micro."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import nats
import nats.micro
import pytest

import kitmsg
from kitmsg import Service, endpoint

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.micro.request import Request
    from nats.micro.service import Service as Service_


class Greeter(Service):
    """Says hello."""

    name = "http_greeter"

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()

    @endpoint(http="GET /http-greeter/hello/{name}")
    async def hello(self, name: str, times: int = 1) -> str:
        return " ".join([f"Hello, {name}!"] * times)

    @endpoint
    async def wait(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


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
        response, body = await call("POST", "/http_greeter/hello", json={"nam": "Ann"})
        assert (response.status, body["code"]) == (400, "invalid_argument")
        waiting = asyncio.create_task(call("POST", "/http_greeter/wait"))
        async with asyncio.timeout(10):
            await greeter.entered.wait()
            waiting.cancel()
            await greeter.cancelled.wait()
    await until(lambda: "http_greeter" not in call.server.table.services)


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
        double=(double, {"kit.http": "GET /http-far/{n}", "description": "Doubles."}),
        fail=(fail, None),
        refuse=(refuse, None),
    )
    await until(lambda: "http_far" in call.server.table.services)
    assert (await call("POST", "/http_far/double", json={"n": 4}))[1] == {"twice": 8}
    assert (await call("GET", "/http-far/5"))[1] == {"twice": 10}
    response, body = await call("POST", "/http_far/fail")
    assert (response.status, "secret" in json.dumps(body)) == (500, False)
    response, body = await call("POST", "/http_far/refuse")
    assert (response.status, body["detail"]) == (404, "no such thing")
    await service.stop()
    await until(lambda: "http_far" not in call.server.table.services)


async def test_python_m_serves_until_a_signal(nats_server):
    """`python -m gateways.http` says where it is, serves, and ends with code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateways.http",
        "--port",
        "0",
        env={**os.environ, "NATS_URL": nats_server.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            assert process.stdout is not None
            url = (await process.stdout.readline()).split()[0].decode()
            async with aiohttp.ClientSession(url) as session:
                async with session.get("/readyz") as response:
                    assert response.status == 200
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_python_m_without_a_bus_says_so():
    """One sentence and exit code 1, not a traceback."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateways.http",
        "--servers",
        "nats://127.0.0.1:1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert b"gateway: " in said
    assert b"Traceback" not in said
