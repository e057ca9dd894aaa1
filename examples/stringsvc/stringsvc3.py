"""Go kit's string service, step 3: one method is served elsewhere, over the bus.

`Proxying` is a service middleware: it keeps `count` and hands `uppercase` to whoever
serves it, through an endpoint that asks over the bus.  Around that endpoint stand the
middlewares of a careful client:

    retry       another attempt, likely at another instance
    rate_limit  outside the breaker, so that its refusals do not open the circuit
    breaker     no calls to a service that keeps failing

Three instances share the queue group ``stringsvc``, so the bus spreads the calls; one of
them is broken and refuses every call.  Nobody in front notices.  (Needs the extra
``breaker``.)  It prints

    -> proxy.uppercase {"s":"one"}
    <- {"v":"ONE"}
    -> proxy.uppercase {"s":"two"}
    <- {"v":"TWO"}
    -> proxy.uppercase {"s":"three"}
    <- {"v":"THREE"}
    -> proxy.count {"s":"hello"}
    <- {"v":5}
    -> proxy.uppercase {"s":""}
    <- {"err":"empty string"}
    first instance: 2 calls, second: 2, broken: 3
"""

import asyncio

from examples.stringsvc.stringsvc1 import (
    BasicStrings,
    EmptyString,
    StringService,
    ask,
    start,
)
from kitmsg import Code, Context, Endpoint, chain, current
from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import Unavailable
from kitmsg.message import Message
from kitmsg.middleware import breaker, rate_limit, retry
from kitmsg.schema import signature
from kitmsg.transport import Client, gokit


class Proxying:
    """A service middleware: `uppercase` is asked for elsewhere."""

    def __init__(self, inner: StringService, bus: Bus) -> None:
        self._inner = inner
        self._types = signature(inner.uppercase)
        careful = chain(
            retry(5, on={Code.UNAVAILABLE, Code.UNKNOWN}, base=0.01, idempotent=True),
            rate_limit(100),
            breaker(failures=10),
        )
        self._uppercase = careful(self._remote(bus))

    def _remote(self, bus: Bus) -> Endpoint[object, str]:
        client: Client[object, str] = Client(
            bus,
            "stringsvc.uppercase",
            encode=gokit.encode_request(self._types),
            decode=gokit.decode_response(self._types),
            error_decoder=_error,
            timeout=2.0,
        )
        return client.endpoint()

    async def uppercase(self, s: str) -> str:
        return await self._uppercase(current(), self._types.bind(s))

    async def count(self, s: str) -> int:
        return await self._inner.count(s)


def _error(ctx: Context, reply: Message) -> Exception | None:
    """Return the error in a reply: Go kit's wire has its text and no code.

    So the business's own is known by its text, and any other is `Unknown`.
    """
    error = gokit.decode_error(ctx, reply)
    return EmptyString() if str(error) == str(EmptyString()) else error


class Instance:
    """One of the services behind; it counts its calls, and may be broken."""

    def __init__(self, *, is_broken: bool = False) -> None:
        self._inner = BasicStrings()
        self._is_broken = is_broken
        self.calls = 0

    async def uppercase(self, s: str) -> str:
        self.calls += 1
        if self._is_broken:
            raise Unavailable("broken")
        return await self._inner.uppercase(s)

    async def count(self, s: str) -> int:
        return await self._inner.count(s)


async def main() -> None:
    bus = MemoryBus(seed=3)  # the same choice of instances each time
    behind = Instance(), Instance(), Instance(is_broken=True)
    intakes = [await start(bus, instance) for instance in behind]
    intakes.append(await start(bus, Proxying(BasicStrings(), bus), name="proxy"))
    for word in ("one", "two", "three"):
        await ask(bus, "proxy.uppercase", f'{{"s":"{word}"}}')
    await ask(bus, "proxy.count", '{"s":"hello"}')
    await ask(bus, "proxy.uppercase", '{"s":""}')
    print(
        "first instance: {} calls, second: {}, broken: {}".format(
            *(instance.calls for instance in behind)
        )
    )
    for intake in reversed(intakes):
        await intake.drain()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
