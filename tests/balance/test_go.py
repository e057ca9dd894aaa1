"""Routes over services in Go: nats.go's own micro package, on a real server."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

import kitmsg
from kitmsg import Kit, Service, endpoint
from kitmsg.balance import direct, split, version
from kitmsg.codec import JSON
from kitmsg.errors import Unavailable, Unimplemented
from kitmsg_gateways import http
from tests.peers import path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.bus.embedded import EmbeddedServer


@pytest.fixture
def anyio_backend() -> str:
    """Run on the real clock: others do."""
    return "asyncio"


class Orders(Service):
    """An order book in Python."""

    version = "2.0.0"

    @endpoint(http="GET /get")
    async def get(self) -> str:
        """Return who answers."""
        return f"python {self.version}"


@pytest.fixture
async def start(nats_server: EmbeddedServer) -> AsyncIterator[Callable[..., Any]]:
    """Give a function that starts services in Go, and returns a kit on their bus."""
    program, url = path("go-micro"), nats_server.url
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*versions: str) -> Kit:
            for words in versions:
                running = await asyncio.create_subprocess_exec(
                    program, url, *words.split(), stdout=asyncio.subprocess.PIPE
                )
                stack.push_async_callback(running.wait)
                stack.callback(running.terminate)
                assert running.stdout is not None
                assert await running.stdout.readline()  # it serves
            return await stack.enter_async_context(kitmsg.connect(url))

        yield begin


async def answers(kit: Kit, **how: Any) -> set[str]:
    """Return all that answer twenty calls."""
    orders = kit.client(Orders, codec=JSON, **how)
    return {await orders.get() for _ in range(20)}


async def test_versions_of_instances_with_a_subject_of_their_own(start: Any) -> None:
    """They say so by an endpoint in their INFO, and are called there."""
    kit = await start("1.4.0 direct", "1.5.0 direct")
    assert await answers(kit, route=version("1.4")) == {"go 1.4.0"}
    assert await answers(kit, route=version("1.5")) == {"go 1.5.0"}
    both = {"go 1.4.0", "go 1.5.0"}
    assert await answers(kit, route=direct()) == both
    assert await answers(kit, route=split({"1.4": 50, "1.5": 50})) == both
    with pytest.raises(Unavailable, match=r"there are 1\.4\.0, 1\.5\.0"):
        await answers(kit, route=version("1.6"))


async def test_plain_ones_stay_in_the_queue_group(start: Any) -> None:
    """It has their calls, and stands for a version that all of them have."""
    kit = await start("1.4.0", "1.4.0")
    assert await answers(kit, route=direct()) == {"go 1.4.0"}
    assert await answers(kit, route=version("1.4")) == {"go 1.4.0"}
    with pytest.raises(Unavailable, match=r"version:1\.5; there are 1\.4\.0"):
        await answers(kit, route=version("1.5"))


async def test_beside_instances_in_python(start: Any) -> None:
    """A service may move from one language to the other, instance by instance."""
    kit = await start("1.4.0 direct", "1.3.0")
    await kit.serve(Orders())
    assert await answers(kit, route=version("~=1.4.0")) == {"go 1.4.0"}
    assert await answers(kit, route=version("2")) == {"python 2.0.0"}
    assert {"go 1.4.0", "python 2.0.0"} <= await answers(kit, route=direct())
    found = [answer async for answer in kit.everyone(Orders).get()]
    values = {a.value for a in found if a.error is None}
    (plain,) = [a for a in found if a.error is not None]
    assert values == {"go 1.4.0", "python 2.0.0"}
    assert isinstance(plain.error, Unimplemented)
    assert plain.instance.version == "1.3.0"


async def test_through_a_gateway(start: Any) -> None:
    """By the header of a client."""
    kit = await start("1.4.0 direct", "1.5.0 direct")
    options = http.GatewayOptions(port=0, route=("orders=version:@x-kit-version",))
    gateway = await http.serve(kit, options)
    try:
        async with aiohttp.ClientSession(gateway.url) as session:
            for asked, wanted in (("1.4", "go 1.4.0"), (">=1.5", "go 1.5.0")):
                for _ in range(10):
                    async with session.post(
                        "/orders/get", json={}, headers={"X-Kit-Version": asked}
                    ) as response:
                        assert await response.json() == wanted
    finally:
        await gateway.stop()
