"""The API gateway: services in Consul, over gRPC and HTTP, at one HTTP address.

    consul agent -dev                               in one terminal
    python -m examples.apigateway.gateway           in another; CONSUL says where it is

An upstream follows Consul and has one connection to each instance, whatever the number of
its endpoints (Go kit's example dials one for each method).  Each call goes to the instance
where it waits least, a second attempt to another one.  On the bus an upstream is a service
as any other, so the HTTP gateway serves it with its types, docs and errors.  It prints

    POST /sum {"a":1,"b":2}
    200 3
    POST /concat {"a":"ab","b":"cd"}
    200 "abcd"
    POST /sum {"a":0,"b":0}
    400 two zeroes are not worth a call
    POST /uppercase {"s":"hello"}
    200 "HELLO"
    POST /count {"s":"hello"}
    200 5
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from examples.addsvc.service import AddService
from examples.apigateway.behind import StringService, services
from kitmsg import Kit
from kitmsg.bus.memory import MemoryBus
from kitmsg_gateways import grpc, http

CONSUL = os.environ.get("CONSUL", "consul://127.0.0.1:8500")

CALLS = [
    ("/sum", {"a": 1, "b": 2}),
    ("/concat", {"a": "ab", "b": "cd"}),
    ("/sum", {"a": 0, "b": 0}),
    ("/uppercase", {"s": "hello"}),
    ("/count", {"s": "hello"}),
]


@asynccontextmanager
async def gateway(consul: str) -> AsyncIterator[str]:
    """Serve what Consul knows; gives the URL."""
    async with AsyncExitStack() as stack:
        kit = Kit(MemoryBus())
        stack.push_async_callback(kit.close)
        await kit.serve(grpc.Upstream(f"{consul}/addsvc", AddService))
        await kit.serve(http.Upstream(f"{consul}/stringsvc", StringService))
        door = http.GatewayServer(kit.bus, http.GatewayOptions(port=0))
        await door.start()
        stack.push_async_callback(door.stop)
        yield door.url


async def main(consul: str = CONSUL) -> None:
    async with (
        services(consul),
        gateway(consul) as url,
        aiohttp.ClientSession(url) as client,
    ):
        for path, fields in CALLS:
            print("POST", path, json.dumps(fields, separators=(",", ":")))
            async with client.post(path, json=fields) as answer:
                told = await answer.text()
                if not answer.ok:
                    told = json.loads(told)["detail"]
                print(answer.status, told)


if __name__ == "__main__":
    asyncio.run(main())
