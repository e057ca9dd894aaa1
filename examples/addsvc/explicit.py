"""The endpoints of addsvc wired by hand, as in Go kit: nothing is hidden.

On the server a method becomes an endpoint, middlewares go around it, and a `Server`
connects it with a subject.  On the client a `Client` gives the endpoint back, and
middlewares go around that one.  Hooks see what the layers between do not.  It prints

    [server] addsvc.sum for cli-7
    1 + 2 = 3
    [server] addsvc.sum for cli-7
    refused: two zeroes are not worth a call
"""

import asyncio
from collections.abc import Callable
from typing import Any

from examples.addsvc.service import AddService, IntOverflow, TwoZeroes
from kitmsg import Context, Endpoint, chain, make_endpoint
from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.message import Message
from kitmsg.middleware import breaker, rate_limit, retry, timeout
from kitmsg.schema import signature
from kitmsg.transport import (
    Client,
    Server,
    decode_request,
    decode_response,
    encode_request,
    encode_response,
)

ERRORS = (TwoZeroes, IntOverflow)


def make_server(bus: Bus, method: Callable[..., Any], subject: str) -> Server:
    """Return a server of `method`, to be started."""
    types = signature(method)
    return Server(
        bus,
        subject,
        chain(rate_limit(100), timeout(1.0))(make_endpoint(method)),
        decode=decode_request(types),
        encode=encode_response(types),
        raises=ERRORS,
        before=[tell_caller],
    )


def tell_caller(ctx: Context, message: Message) -> None:
    """Run before a request is decoded."""
    print("[server]", ctx.endpoint, "for", message.headers.get("X-Client", "?"))


def make_client(
    bus: Bus, method: Callable[..., Any], subject: str
) -> Endpoint[Any, Any]:
    """Return the endpoint at `subject` as one to call."""
    types = signature(method)
    client: Client[Any, Any] = Client(
        bus,
        subject,
        encode=encode_request(types),
        decode=decode_response(types),
        raises=ERRORS,
        before=[name_client],
    )
    return chain(retry(), breaker())(client.endpoint())


def name_client(_ctx: Context, headers: dict[str, str]) -> None:
    """Run before a request is sent."""
    headers["X-Client"] = "cli-7"


async def main() -> None:
    bus = MemoryBus()
    method = AddService().sum
    server = make_server(bus, method, "addsvc.sum")
    await server.start()
    remote_sum = make_client(bus, method, "addsvc.sum")
    bind = signature(method).bind  # arguments -> request
    print("1 + 2 =", await remote_sum(Context(), bind(1, 2)))
    try:
        await remote_sum(Context(), bind(0, 0))
    except TwoZeroes as error:
        print("refused:", error)
    await server.drain()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
