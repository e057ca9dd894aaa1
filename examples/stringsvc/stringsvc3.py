"""Go kit's string service, step 3: one method is served elsewhere, balanced over instances.

`Proxying` is a service middleware: it keeps `count` and hands `uppercase` to instances
that an instancer knows.  Each has its own client, with its own careful middlewares:

    rate_limit  outside the breaker, so that its refusals do not open the circuit
    breaker     no calls to an instance that keeps failing

Over them stands one endpoint: a picker takes the instances in turn, and an attempt that
failed is made again at another one, three times in all within a quarter of a second.  The
second instance is broken and refuses every call; nobody in front notices, and after two
failures it is left alone.  (Needs the extra ``breaker``.)  It prints

    -> proxy.uppercase {"s":"one"}
    <- {"v":"ONE"}
    -> proxy.uppercase {"s":"two"}
    <- {"v":"TWO"}
    -> proxy.uppercase {"s":"three"}
    <- {"v":"THREE"}
    -> proxy.uppercase {"s":"four"}
    <- {"v":"FOUR"}
    -> proxy.uppercase {"s":"five"}
    <- {"v":"FIVE"}
    -> proxy.count {"s":"hello"}
    <- {"v":5}
    -> proxy.uppercase {"s":""}
    <- {"err":"empty string"}
    calls: first 3, second 2, third 3
"""

import asyncio

from examples.stringsvc.stringsvc1 import (
    BasicStrings,
    EmptyString,
    StringService,
    ask,
    start,
)
from kitmsg import Context, Endpoint, chain, current
from kitmsg.balance import Attempts, Endpointer, balanced, round_robin
from kitmsg.bus import Bus
from kitmsg.bus.memory import MemoryBus
from kitmsg.discovery.fixed import FixedInstancer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import Instancer
from kitmsg.errors import Unavailable
from kitmsg.message import Message
from kitmsg.middleware import breaker, rate_limit
from kitmsg.schema import signature
from kitmsg.transport import Client, gokit


class Proxying:
    """A service middleware: `uppercase` is asked for elsewhere."""

    def __init__(self, inner: StringService, instances: Instancer, bus: Bus) -> None:
        self._inner = inner
        self._types = signature(inner.uppercase)
        careful = chain(rate_limit(100), breaker(failures=2))
        self._endpointer: Endpointer[Endpoint[object, str]] = Endpointer(
            instances, lambda instance: careful(self._remote(bus, instance.address))
        )
        self._uppercase = balanced(
            self._endpointer,
            round_robin(),
            Attempts(most=3, timeout=0.25, idempotent=True),
            name="stringsvc.uppercase",
        )

    def _remote(self, bus: Bus, instance: str) -> Endpoint[object, str]:
        client: Client[object, str] = Client(
            bus,
            f"{instance}.uppercase",
            encode=gokit.encode_request(self._types),
            decode=gokit.decode_response(self._types),
            error_decoder=_error,
            timeout=0.1,
        )
        return client.endpoint()

    async def uppercase(self, s: str) -> str:
        v: str = await self._uppercase(current(), self._types.bind(s))
        return v

    async def count(self, s: str) -> int:
        return await self._inner.count(s)

    async def close(self) -> None:
        await self._endpointer.close()


def _error(ctx: Context, reply: Message) -> Exception | None:
    """Return the error in a reply: Go kit's wire has its text and no code.

    So the business's own is known by its text; any other is an instance that does not work.
    """
    error = gokit.decode_error(ctx, reply)
    if error is None or str(error) == str(EmptyString()):
        return error and EmptyString()
    return Unavailable(str(error))


class Behind:
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
    bus = MemoryBus()
    behind = {
        "strings1": Behind(),
        "strings2": Behind(is_broken=True),
        "strings3": Behind(),
    }
    intakes = [await start(bus, each, name=name) for name, each in behind.items()]
    instances = FixedInstancer(Instance(address=name) for name in behind)
    proxying = Proxying(BasicStrings(), instances, bus)
    intakes.append(await start(bus, proxying, name="proxy"))
    for word in ("one", "two", "three", "four", "five"):
        await ask(bus, "proxy.uppercase", f'{{"s":"{word}"}}')
    await ask(bus, "proxy.count", '{"s":"hello"}')
    await ask(bus, "proxy.uppercase", '{"s":""}')
    print(
        "calls: first {}, second {}, third {}".format(
            *(each.calls for each in behind.values())
        )
    )
    for intake in reversed(intakes):
        await intake.drain()
    await proxying.close()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
