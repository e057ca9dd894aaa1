"""Results are kept for a while, and equal calls at one time are one call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003  # hints are read

import msgspec
import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.context import Context
from kitmsg.errors import DeadlineExceeded, NotFound, Unavailable
from kitmsg.middleware import cache, timeout
from kitmsg.schema.calls import StreamRequest


class Ask(msgspec.Struct):
    id: int


class Peer:
    """Counts its calls, and answers with the count after `seconds`."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.error: Exception | None = None
        self.calls = 0
        self.running = 0

    async def __call__(self, _ctx: Context, _request: Ask) -> int:
        """Answer or fail."""
        self.calls += 1
        call = self.calls
        self.running += 1
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return call


def ctx(**fields: object) -> Context:
    return Context(endpoint="a.b", **fields)  # type: ignore[arg-type]


async def test_a_result_is_given_again_until_it_is_old() -> None:
    """The next call after `ttl` asks the peer again."""
    call = cache(5.0)(Peer())
    assert [await call(ctx(), Ask(1)) for _ in range(3)] == [1, 1, 1]
    await asyncio.sleep(5.0)
    assert await call(ctx(), Ask(1)) == 2


async def test_other_requests_and_other_callers_share_nothing() -> None:
    """Fields, principal and token tell calls apart."""
    call = cache(5.0)(Peer())
    token = {"Authorization": "Bearer x"}
    calls = [
        (ctx(), Ask(1)),
        (ctx(), Ask(2)),
        (ctx(principal="ann"), Ask(1)),
        (ctx(principal="bob"), Ask(1)),
        (ctx(metadata=token), Ask(1)),
    ]
    assert [await call(*each) for each in calls] == [1, 2, 3, 4, 5]
    assert [await call(*each) for each in calls] == [1, 2, 3, 4, 5]


async def test_equal_calls_at_one_time_are_one() -> None:
    """A hundred callers wait for one call."""
    peer = Peer(1.0)
    call = cache(5.0)(peer)
    results = await asyncio.gather(*(call(ctx(), Ask(1)) for _ in range(100)))
    assert (set(results), peer.calls) == ({1}, 1)


async def test_errors_reach_all_who_wait_and_are_not_kept() -> None:
    """The next call asks again."""
    peer = Peer(1.0)
    peer.error = NotFound("gone")
    call = cache(5.0)(peer)
    waiting = [call(ctx(), Ask(1)) for _ in range(3)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(result, NotFound) for result in results)
    peer.error = None
    assert (await call(ctx(), Ask(1)), peer.calls) == (2, 2)


async def test_who_leaves_takes_nothing_from_the_others() -> None:
    """The caller that began is cancelled; the others get the result of its call."""
    peer = Peer(1.0)
    call = cache(5.0)(peer)
    first = asyncio.ensure_future(call(ctx(), Ask(1)))
    await asyncio.sleep(0.5)
    second = asyncio.ensure_future(call(ctx(), Ask(1)))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second, peer.calls) == (1, 1)


async def test_when_all_have_left_the_call_is_cancelled() -> None:
    """Nothing runs on for nobody."""
    peer = Peer(1.0)
    call = cache(5.0)(peer)
    tasks = [asyncio.ensure_future(call(ctx(), Ask(1))) for _ in range(3)]
    await asyncio.sleep(0.5)
    assert peer.running == 1
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert peer.running == 0


async def test_a_short_deadline_of_the_first_does_not_cut_the_others() -> None:
    """Those who have time left begin another call."""
    now = asyncio.get_running_loop().time()
    peer = Peer(1.0)
    call = cache(5.0)(timeout(10.0)(peer))
    first = asyncio.ensure_future(call(ctx(deadline=now + 0.5), Ask(1)))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(call(ctx(deadline=now + 5.0), Ask(1)))
    with pytest.raises(DeadlineExceeded):
        await first
    assert await second == 2


async def test_an_old_result_is_given_while_a_new_one_is_fetched() -> None:
    """Within `stale` nobody waits, and one call fetches."""
    peer = Peer(1.0)
    call = cache(5.0, stale=60.0)(peer)
    assert await call(ctx(), Ask(1)) == 1
    await asyncio.sleep(10.0)
    begun = asyncio.get_running_loop().time()
    assert [await call(ctx(), Ask(1)) for _ in range(3)] == [1, 1, 1]
    assert asyncio.get_running_loop().time() == begun
    await asyncio.sleep(1.5)
    assert (await call(ctx(), Ask(1)), peer.calls) == (2, 2)


async def test_an_old_result_stands_in_while_the_peer_is_down() -> None:
    """An outage is bridged for `stale` seconds, not longer."""
    peer = Peer()
    call = cache(5.0, stale=60.0)(peer)
    await call(ctx(), Ask(1))
    peer.error = Unavailable("down")
    await asyncio.sleep(30.0)
    assert await call(ctx(), Ask(1)) == 1
    await asyncio.sleep(40.0)
    with pytest.raises(Unavailable):
        await call(ctx(), Ask(1))


async def test_an_old_result_goes_when_the_peer_says_so() -> None:
    """A refresh that is answered with an error of the business ends the old result."""
    peer = Peer()
    call = cache(5.0, stale=60.0)(peer)
    await call(ctx(), Ask(1))
    peer.error = NotFound("gone")
    await asyncio.sleep(6.0)
    await call(ctx(), Ask(1))
    await asyncio.sleep(0.1)
    with pytest.raises(NotFound):
        await call(ctx(), Ask(1))


async def test_the_result_used_longest_ago_goes_first() -> None:
    """`most` bounds the memory."""
    peer = Peer()
    call = cache(60.0, most=2)(peer)
    for number in (1, 2, 1, 3):
        await call(ctx(), Ask(number))
    assert peer.calls == 3
    await call(ctx(), Ask(1))
    assert peer.calls == 3
    await call(ctx(), Ask(2))
    assert peer.calls == 4


def test_wrong_options_are_told_at_once() -> None:
    """A cache without time or place is a mistake."""
    with pytest.raises(ValueError, match="ttl must be positive, not 0"):
        cache(0)
    with pytest.raises(ValueError, match="most at least 1"):
        cache(1, most=0)


class Counting(Service):
    """Streams numbers, with a cache around and without."""

    @endpoint(middleware=[cache(60.0)])
    async def kept(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @endpoint
    async def plain(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number


async def test_what_streams_is_not_kept() -> None:
    """Items go once: a stream that was given again would be an empty one."""
    async with kitmsg.connect(bus=MemoryBus()) as kit:
        await kit.serve(Counting())
        for stream in (
            kit.client(Counting).kept,
            kit.client(Counting, middleware=[cache(60.0)]).plain,
        ):
            for _ in range(50):
                assert [item async for item in stream(3)] == [0, 1, 2]


async def test_a_stream_that_is_wired_by_hand_is_not_kept_either() -> None:
    """Its request says that it is one."""

    async def count(_ctx: Context, request: StreamRequest) -> AsyncIterator[int]:
        return aiter(Numbers(request.request))

    call = cache(60.0, key=lambda _ctx, _request: "same")(count)
    for _ in range(2):
        items = await call(ctx(), StreamRequest(2, None))
        assert [item async for item in items] == [0, 1]


class Numbers:
    def __init__(self, count: int) -> None:
        self._count = count

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self._count):
            yield number
