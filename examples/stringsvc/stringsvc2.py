"""Go kit's string service, step 2: logging and instrumentation, around the service of step 1.

They come in two kinds.  A service middleware is a class with the service's own methods:
it sees arguments and results by name, and says what they mean to the business.  An
endpoint middleware wraps any endpoint, and knows only calls, times and errors.  Neither
changes a line of the service.  (Needs the extra ``prometheus``.)  It prints

    -> stringsvc.uppercase {"s":"hello"}
    method=uppercase input='hello' output='HELLO'
    stringsvc.uppercase ok in ... ms
    <- {"v":"HELLO"}
    -> stringsvc.count {"s":"hello"}
    method=count input='hello' output=5
    stringsvc.count ok in ... ms
    <- {"v":5}
    -> stringsvc.uppercase {"s":""}
    method=uppercase input='' error=empty string
    stringsvc.uppercase invalid_argument in ... ms: empty string
    <- {"err":"empty string"}
    stringsvc_counted_characters_total 5.0
    kitmsg_server_requests_total{code="ok",endpoint="stringsvc.uppercase",service="stringsvc"} 1.0
    kitmsg_server_requests_total{code="ok",endpoint="stringsvc.count",service="stringsvc"} 1.0
    kitmsg_server_requests_total{code="invalid_argument",endpoint="stringsvc.uppercase",service="stringsvc"} 1.0
"""  # noqa: E501

import asyncio
import logging
import sys

from prometheus_client import CollectorRegistry, Counter, generate_latest

from examples.stringsvc.stringsvc1 import BasicStrings, StringService, ask, start
from kitmsg.bus.memory import MemoryBus
from kitmsg.middleware import log, metrics

_log = logging.getLogger("stringsvc")


class Logged:
    """A service middleware: one line for each call, in the words of the business."""

    def __init__(self, inner: StringService) -> None:
        self._inner = inner

    async def uppercase(self, s: str) -> str:
        try:
            v = await self._inner.uppercase(s)
        except Exception as exc:
            _log.info("method=uppercase input=%r error=%s", s, exc)
            raise
        _log.info("method=uppercase input=%r output=%r", s, v)
        return v

    async def count(self, s: str) -> int:
        v = await self._inner.count(s)
        _log.info("method=count input=%r output=%r", s, v)
        return v


class Instrumented:
    """A service middleware: counts what only the business knows."""

    def __init__(self, inner: StringService, registry: CollectorRegistry) -> None:
        self._inner = inner
        self._characters = Counter(
            "stringsvc_counted_characters",
            "Characters in all strings that were counted.",
            registry=registry,
        )

    async def uppercase(self, s: str) -> str:
        return await self._inner.uppercase(s)

    async def count(self, s: str) -> int:
        v = await self._inner.count(s)
        self._characters.inc(v)
        return v


async def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    registry, bus = CollectorRegistry(), MemoryBus()
    service = Logged(Instrumented(BasicStrings(), registry))
    intake = await start(bus, service, metrics(registry), log())
    await ask(bus, "stringsvc.uppercase", '{"s":"hello"}')
    await ask(bus, "stringsvc.count", '{"s":"hello"}')
    await ask(bus, "stringsvc.uppercase", '{"s":""}')
    for line in generate_latest(registry).decode().splitlines():
        if "_total" in line and not line.startswith("#"):
            print(line)
    await intake.drain()
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main())
