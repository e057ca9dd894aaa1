"""What middlewares and switches do around endpoints that stream, on both sides."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kitmsg import BusinessError, Kit, Service, current, endpoint
from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    KitError,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.middleware import breaker, bulkhead, log, rate_limit, timeout
from kitmsg.service.declare import DEFAULTS


class Torn(BusinessError):
    """The paper is torn."""

    page: int


async def numbers(*given: int) -> AsyncIterator[int]:
    for number in given:
        yield number


def printer_with(*middleware: Any) -> type[Service]:
    """Return a service with endpoints of each kind in these middlewares."""

    class Printer(Service):
        def __init__(self) -> None:
            self.deadlines: list[float | None] = []

        @endpoint(middleware=middleware, raises=[Torn])
        async def pages(self, upto: int, tears: bool = False) -> AsyncIterator[int]:
            self.deadlines.append(current().deadline)
            for page in range(upto):
                yield page
            if tears:
                raise Torn(upto)
            await asyncio.sleep(3)

        @endpoint(middleware=middleware, raises=[Torn])
        async def bind(self, pages: AsyncIterator[int], tears: bool = False) -> int:
            count = 0
            async for _ in pages:
                count += 1
                if tears:
                    raise Torn(count)
                await asyncio.sleep(3)
            return count

    Printer.middleware = ()
    return Printer


async def test_a_timeout_around_a_service_bounds_the_whole_stream(kit: Kit) -> None:
    """Items and all, and what it calls has no more time than that."""
    printer = printer_with(timeout(2.0))
    host = await kit.serve(printer())
    client: Any = kit.client(printer)
    pages = client.pages(2)
    assert [await anext(pages), await anext(pages)] == [0, 1]
    with pytest.raises(DeadlineExceeded, match="no response within"):
        await anext(pages)
    with pytest.raises(DeadlineExceeded):
        await client.bind(numbers(1))
    (deadline,) = host.service.deadlines  # type: ignore[attr-defined]
    assert deadline is not None


async def test_a_timeout_around_a_client_bounds_the_whole_stream(kit: Kit) -> None:
    """The service is told of it, and keeps it."""
    printer = printer_with()
    await kit.serve(printer())
    client: Any = kit.client(printer, middleware=[timeout(2.0)])
    pages = client.pages(1)
    assert await anext(pages) == 0
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(DeadlineExceeded):
        await anext(pages)
    assert loop.time() - started == pytest.approx(2.0, abs=0.1)
    with pytest.raises(DeadlineExceeded):
        await client.bind(numbers(1))


async def test_a_log_line_tells_how_a_stream_ended(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """One line for each, when it is over, with its code."""
    caplog.set_level(logging.INFO, "kitmsg.calls")
    printer = printer_with(log())
    await kit.serve(printer())
    client: Any = kit.client(printer)
    assert [page async for page in client.pages(2)] == [0, 1]
    with pytest.raises(Torn):
        [page async for page in client.pages(2, tears=True)]
    codes = [record.code for record in caplog.records]  # type: ignore[attr-defined]
    assert codes == ["ok", "failed_precondition"]


async def test_a_bulkhead_counts_open_streams(kit: Kit) -> None:
    """Not how many are being opened."""
    printer = printer_with(bulkhead(2))
    await kit.serve(printer())
    client: Any = kit.client(printer)
    held = [client.pages(1) for _ in range(2)]
    for pages in held:
        await anext(pages)
    with pytest.raises(ResourceExhausted, match="bulkhead: 2 calls"):
        await anext(client.pages(1))
    await held.pop().aclose()
    await asyncio.sleep(0.1)
    assert await anext(client.pages(1)) == 0


async def test_a_rate_limit_counts_streams(kit: Kit) -> None:
    """Each counts once, whatever goes through it."""
    printer = printer_with(rate_limit(1, burst=2))
    await kit.serve(printer())
    client: Any = kit.client(printer)
    first, second, third = (client.pages(50) for _ in range(3))
    for stream in (first, second):
        assert [await anext(stream) for _ in range(50)] == list(range(50))
    with pytest.raises(ResourceExhausted) as caught:
        await anext(third)
    assert caught.value.retry_after


async def test_a_breaker_around_a_service_sees_failures_after_items(kit: Kit) -> None:
    """A stream that broke is a failure, although it began well."""

    class Faulty(Service):
        @endpoint(middleware=[breaker(2, reset=30)])
        async def pages(self) -> AsyncIterator[int]:
            yield 1
            raise Unavailable("no paper")

    await kit.serve(Faulty())
    client = kit.client(Faulty)
    for _ in range(2):
        with pytest.raises(Unavailable, match="no paper"):
            [page async for page in client.pages()]
    with pytest.raises(Unavailable, match="circuit open"):
        [page async for page in client.pages()]


async def test_a_middleware_that_fails(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """Before or after the items, the caller hears it and nothing is left."""
    when = "before"

    def faulty(call: Any) -> Any:
        async def run(ctx: Any, request: Any) -> Any:
            if when == "before":
                raise FailedPrecondition("no")
            await call(ctx, request)
            raise FailedPrecondition("after all")

        return run

    printer = printer_with(faulty)
    host = await kit.serve(printer())
    client: Any = kit.client(printer)
    with pytest.raises(FailedPrecondition, match="no"):
        await anext(client.pages(2))
    when = "after"
    with pytest.raises(FailedPrecondition, match="after all"):
        [page async for page in client.pages(2)]
    with pytest.raises(FailedPrecondition, match="after all"):
        await client.bind(numbers())
    await asyncio.sleep(0.1)
    assert host.report().endpoints[0].data["running"] == 0


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
async def test_typed_errors_end_streams_of_each_kind(kit: Kit, codec: Codec) -> None:
    """With their fields, in the codec of the call."""
    printer = printer_with()
    await kit.serve(printer())
    client: Any = kit.client(printer, codec=codec)
    pages = client.pages(2, tears=True)
    assert [await anext(pages), await anext(pages)] == [0, 1]
    with pytest.raises(Torn) as caught:
        await anext(pages)
    assert caught.value.page == 2
    with pytest.raises(Torn) as caught:
        await client.bind(numbers(1, 2), tears=True)
    assert caught.value.page == 1


@pytest.mark.parametrize("switch", sorted(DEFAULTS))
async def test_a_default_that_is_off(kit: Kit, switch: str) -> None:
    """Streams work without each of the defaults, and keep what the others promise."""
    printer = printer_with()
    printer.off = {switch}
    host = await kit.serve(printer())
    client: Any = kit.client(printer)
    assert [page async for page in client.pages(20)] == list(range(20))
    assert await client.bind(numbers(1, 2)) == 2
    with pytest.raises(Torn):
        await client.bind(numbers(1), tears=True)
    pages = client.pages(1)
    await anext(pages)
    await pages.aclose()
    await asyncio.sleep(0.1)
    seen = host.snapshots()["printer.pages"]
    assert seen.cancelled == 1
    assert seen.requests == (0 if switch == "metrics" else 2)


async def test_without_deadlines_the_caller_keeps_its_own(kit: Kit) -> None:
    """A service that ignores them holds nobody longer than he said."""
    printer = printer_with()
    printer.off = {"deadline"}
    await kit.serve(printer())
    pages = kit.stream("printer.pages", upto=1, timeout=1.0)
    assert await anext(pages) == 0
    with pytest.raises(DeadlineExceeded):
        await anext(pages)


async def test_the_counters_of_streams(kit: Kit) -> None:
    """A stream counts when it is over; `running` has the others."""
    printer = printer_with()
    host = await kit.serve(printer())
    client: Any = kit.client(printer)

    def counters() -> tuple[Any, ...]:
        seen = host.snapshots()["printer.pages"]
        running = host.report().endpoints[0].data["running"]
        return seen.requests, seen.errors, seen.cancelled, running

    pages = client.pages(1)
    await anext(pages)
    assert counters() == (0, 0, 0, 1)
    assert [page async for page in pages] == []
    assert counters() == (1, 0, 0, 0)
    with pytest.raises(Torn):
        [page async for page in client.pages(1, tears=True)]
    assert counters() == (2, 1, 0, 0)
    pages = client.pages(1)
    await anext(pages)
    await pages.aclose()
    await asyncio.sleep(0.1)
    assert counters() == (3, 2, 1, 0)


async def test_one_instance_streams(kit: Kit) -> None:
    """A client of one instance has its streams from there, and hears when it is gone."""
    printer = printer_with()
    hosts = [await kit.serve(printer()) for _ in range(2)]
    client: Any = kit.client(printer, instance=hosts[1].id)
    for _ in range(5):
        assert [page async for page in client.pages(1)] == [0]
    assert await client.bind(numbers(1)) == 1
    seen = [host.snapshots()["printer.pages"].requests for host in hosts]
    assert seen == [0, 5]
    held = client.pages(1)
    await anext(held)
    await held.aclose()
    await asyncio.sleep(0.1)
    assert hosts[1].snapshots()["printer.pages"].cancelled == 1
    await hosts[1].drain()
    with pytest.raises(Unavailable):
        await anext(client.pages(1))


async def test_a_service_without_a_queue_group(kit: Kit) -> None:
    """One instance streams as any; of several the error says what is wrong."""
    printer = printer_with()
    printer.queue = ""
    await kit.serve(printer())
    client: Any = kit.client(printer)
    assert [page async for page in client.pages(2)] == [0, 1]
    await kit.serve(printer())
    with pytest.raises(KitError, match=r"several peers took printer\.pages"):
        [page async for page in client.pages(2)]
    await asyncio.sleep(0.1)
    assert [host.report().endpoints[0].data["running"] for host in kit.hosts] == [0, 0]
