"""Go kit's string service, step 1: service, endpoints, transport, wired by hand.

The business logic is a plain class that imports nothing of kitmsg.  Each method becomes
an endpoint, each endpoint a subject; on the wire it is Go kit's NATS transport, so a Go
client cannot tell the difference.  One process, a bus in memory; it prints

    -> stringsvc.uppercase {"s":"hello"}
    <- {"v":"HELLO"}
    -> stringsvc.count {"s":"hello"}
    <- {"v":5}
    -> stringsvc.uppercase {"s":""}
    <- {"err":"empty string"}
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from kitmsg import Endpoint, Middleware, chain, make_endpoint
from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.schema import signature
from kitmsg.transport import Intake, Server, gokit

# The service: business logic and its errors, nothing else.


class EmptyString(Exception):
    """There is nothing to work on."""

    code = "invalid_argument"  # one of gRPC's names: for logs, metrics and gateways

    def __init__(self) -> None:
        super().__init__("empty string")


class StringService(Protocol):
    """Operations on strings."""

    async def uppercase(self, s: str) -> str:
        """Return `s` in capitals.

        Raises:
            EmptyString: `s` is empty.
        """
        ...

    async def count(self, s: str) -> int:
        """Return the length of `s`."""
        ...


class BasicStrings:
    """The strings themselves, with nothing around them."""

    async def uppercase(self, s: str) -> str:
        if not s:
            raise EmptyString
        return s.upper()

    async def count(self, s: str) -> int:
        return len(s)


# The transport: how requests and responses look as bytes, and where they arrive.


def serve(
    intake: Intake, method: Callable[..., Awaitable[Any]], endpoint: Endpoint[Any, Any]
) -> Server:
    """Serve `endpoint`, made of `method`, on ``{service}.{method}`` as Go kit does."""
    types = signature(method)
    return Server(
        intake.bus,
        f"{intake.service}.{method.__name__}",
        endpoint,
        decode=gokit.decode_request(types),
        encode=gokit.encode_response(types),
        error_encoder=partial(gokit.encode_error, raises=[EmptyString]),
        raises=[EmptyString],
        intake=intake,
    )


async def start(
    bus: Bus,
    service: StringService,
    *around: Middleware,
    name: str = "stringsvc",
) -> Intake:
    """Serve both methods, inside the middlewares `around`, from one mailbox.

    Returns:
        The intake, to be drained at the end.
    """
    intake = Intake(bus, name, queue="stringsvc")
    wrap = chain(*around)
    for method in (service.uppercase, service.count):
        serve(intake, method, wrap(make_endpoint(method)))
    await intake.start()
    return intake


async def ask(bus: Bus, subject: str, body: str) -> None:
    """Ask as a Go kit publisher does, with bare JSON, and print both messages."""
    print("->", subject, body)
    reply = await bus.request(subject, body.encode(), timeout=5.0)
    print("<-", reply.data.decode())


async def main() -> None:
    bus = MemoryBus()
    intake = await start(bus, BasicStrings())
    await ask(bus, "stringsvc.uppercase", '{"s":"hello"}')
    await ask(bus, "stringsvc.count", '{"s":"hello"}')
    await ask(bus, "stringsvc.uppercase", '{"s":""}')
    await intake.drain()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
