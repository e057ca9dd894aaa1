"""An endpoint that streams, as its caller sees it: several readers, retries, leaving."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Context, Kit, Service, endpoint
from kitmsg.errors import DataLoss, FailedPrecondition, Unavailable
from kitmsg.middleware import retry
from kitmsg.schema.calls import StreamRequest
from kitmsg.transport.inbox import inbox_of

if TYPE_CHECKING:
    from kitmsg.transport import StreamCall


class Store(Service):
    """Takes and gives numbers."""

    def __init__(self) -> None:
        self.failures = 0
        self.calls = 0

    @endpoint
    async def count(self, upto: int) -> AsyncIterator[int]:
        """Count."""
        for i in range(upto):
            yield i

    @endpoint
    async def ticks(self) -> AsyncIterator[int]:
        """Go on."""
        yield 0
        await asyncio.sleep(1000)

    @endpoint
    async def add(self, parts: AsyncIterator[int]) -> int:
        """Add up; fail after the second so many times."""
        self.calls += 1
        total = 0
        async for part in parts:
            total += part
            if self.failures and part == 2:
                self.failures -= 1
                raise Unavailable("later")
        return total

    @endpoint
    async def late(self) -> AsyncIterator[int]:
        """Fail before the first item, so many times."""
        self.calls += 1
        if self.failures:
            self.failures -= 1
            raise Unavailable("later")
        yield 1

    @endpoint(middleware=[retry(5, idempotent=True)])
    async def broken(self) -> AsyncIterator[int]:
        """Fail after the first item; with a retry around it."""
        self.calls += 1
        yield 1
        raise Unavailable("later")

    @endpoint(middleware=[retry(5, idempotent=True)])
    async def second(self) -> AsyncIterator[int]:
        """Fail before the first item at the first time; with a retry around it."""
        self.calls += 1
        if self.calls == 1:
            raise Unavailable("later")
        yield 1


@pytest.fixture
async def store(kit: Kit) -> Store:
    """Served, and itself to look into."""
    store = Store()
    await kit.serve(store)
    return store


async def numbers(*given: int) -> AsyncIterator[int]:
    for number in given:
        yield number


async def test_two_tasks_that_read_one_stream(kit: Kit, store: Store) -> None:
    """Each item goes to one of them, and both hear of the end, from the first step on."""
    call = kit.client(Store).count(100)

    async def read() -> list[int]:
        got = []
        async for number in call:
            got.append(number)
            await asyncio.sleep(0)
        return got

    one, other = await asyncio.gather(read(), read())
    assert sorted(one + other) == list(range(100))
    assert one
    assert other


async def test_closing_a_call_that_is_being_opened(kit: Kit, store: Store) -> None:
    """The stream does not outlive it."""
    call = kit.client(Store).ticks()
    reading = asyncio.create_task(anext(call))
    await asyncio.sleep(0)
    await call.aclose()
    with pytest.raises(StopAsyncIteration):
        await reading
    await asyncio.sleep(0.1)
    assert len(inbox_of(kit.bus)) == 0


async def test_an_upload_that_broke_is_not_half_repeated(
    kit: Kit, store: Store
) -> None:
    """A retry would send only what is left: the error comes out instead."""
    store.failures = 1
    client = kit.client(Store, middleware=[retry(3, idempotent=True)])
    with pytest.raises(Unavailable, match="later"):
        await client.add(numbers(1, 2, 3, 4))
    assert store.calls == 1


async def test_items_of_one_call_are_sent_once(kit: Kit, store: Store) -> None:
    """Whoever calls an endpoint again with the same request is told."""
    seen: list[StreamRequest] = []

    def again(call: Any) -> Any:
        async def twice(ctx: Context, request: StreamRequest) -> Any:
            seen.append(request)
            await call(ctx, request)
            return await call(ctx, request)

        return twice

    client = kit.client(Store, middleware=[again])
    with pytest.raises(FailedPrecondition, match="items of this call"):
        await client.add(numbers(1))
    assert seen[0].has_begun


async def test_a_retry_around_a_service_repeats_no_item(kit: Kit, store: Store) -> None:
    """What failed before its first item is tried again, what failed later is not."""
    client = kit.client(Store)
    assert [n async for n in client.second()] == [1]
    assert store.calls == 2
    store.calls = 0
    broken = client.broken()
    assert await anext(broken) == 1
    with pytest.raises(Unavailable):
        await anext(broken)
    assert store.calls == 1


async def test_an_item_that_cannot_be_read_ends_the_stream(
    kit: Kit, store: Store
) -> None:
    """As an exception ends a generator; the service's work ends too."""

    class Wrong(Service):
        name = "store"

        @endpoint
        async def count(self, upto: int) -> AsyncIterator[list[str]]:
            yield []

    call = kit.client(Wrong).count(1000)
    with pytest.raises(DataLoss):
        await anext(call)
    await asyncio.sleep(0.1)
    assert len(inbox_of(kit.bus)) == 0


async def test_throwing_into_a_call(kit: Kit, store: Store) -> None:
    """As into a generator: it ends, and the error comes out with its text."""
    call: StreamCall[int] = kit.client(Store).ticks()  # type: ignore[assignment]
    await anext(call)
    with pytest.raises(KeyError, match="mine"):
        await call.athrow(KeyError("mine"))
    call = kit.client(Store).ticks()  # type: ignore[assignment]
    with pytest.raises(KeyError, match="mine"):
        await call.athrow(KeyError, KeyError("mine"), None)


def test_a_call_that_outlives_its_loop_and_its_interpreter() -> None:
    """Nothing is said at exit, whenever the last reference goes."""
    program = """
    import asyncio
    from collections.abc import AsyncIterator
    from kitmsg import Service, endpoint
    from kitmsg.bus.memory import MemoryBus
    from kitmsg.service import Kit

    class Clock(Service):
        @endpoint
        async def ticks(self) -> AsyncIterator[int]:
            yield 1
            await asyncio.sleep(1000)

    async def main():
        kit = Kit(MemoryBus())
        await kit.serve(Clock())
        call = kit.client(Clock).ticks()
        await anext(call)
        return kit, call

    loop = asyncio.new_event_loop()
    first = loop.run_until_complete(main())
    kept = asyncio.run(main())
    gone = asyncio.run(main())
    del gone
    print("done")
    """
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
    assert "Exception" not in done.stderr.replace("ResourceWarning", "")
