"""Client-side throttling: a failing peer gets what it can answer."""

from __future__ import annotations

import asyncio
import random

import pytest

from kitmsg.context import Context
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import adaptive_breaker


class Peer:
    """Answers a share of its calls; counts those that reach it."""

    def __init__(self, error: Exception, good: float = 0.0) -> None:
        self.error = error
        self.good = good
        self.calls = 0
        self._random = random.Random(7)

    async def __call__(self, _ctx: Context, request: str) -> str:
        """Answer or fail."""
        self.calls += 1
        if self._random.random() < self.good:
            return request
        raise self.error


async def load(call: object, per_second: int, seconds: float) -> int:
    """Call at a steady rate; return how many calls were refused here."""
    assert callable(call)
    refused = 0
    for _ in range(int(per_second * seconds)):
        try:
            await call(Context(endpoint="a.b"), "hi")
        except Exception as error:  # noqa: BLE001  told apart below
            refused += str(error).startswith("adaptive_breaker")
        await asyncio.sleep(1 / per_second)
    return refused


@pytest.mark.parametrize(
    "error", [Unavailable("x"), DeadlineExceeded("x"), ResourceExhausted("x")]
)
async def test_a_dead_peer_gets_a_call_a_second(error: Exception) -> None:
    """Nearly all calls are refused here, and the peer is still tried."""
    peer = Peer(error)
    call = adaptive_breaker(random=random.Random(1).random)(peer)
    await load(call, 100, 10)
    peer.calls = 0
    refused = await load(call, 100, 20)
    assert 20 <= peer.calls <= 60
    assert refused + peer.calls == 2000


async def test_a_peer_that_answers_two_thirds_is_left_alone() -> None:
    """Below the share that `k` allows, nothing is refused."""
    peer = Peer(Unavailable("x"), good=0.8)
    call = adaptive_breaker(random=random.Random(1).random)(peer)
    assert await load(call, 100, 20) == 0


async def test_an_overloaded_peer_gets_half_as_many_again_as_it_answers() -> None:
    """The peer sees about `k` calls for each that it answers."""
    peer = Peer(ResourceExhausted("x"), good=0.2)
    call = adaptive_breaker(random=random.Random(1).random)(peer)
    await load(call, 200, 20)
    peer.calls = 0
    refused = await load(call, 200, 10)
    assert refused > 0
    assert peer.calls < 1500


async def test_it_lets_all_through_soon_after_the_peer_is_back() -> None:
    """Three seconds after the first success nothing is refused any more."""
    peer = Peer(Unavailable("x"))
    call = adaptive_breaker(random=random.Random(1).random)(peer)
    await load(call, 100, 30)
    peer.good = 1.0
    await load(call, 100, 4)  # within a second a call tries the peer
    assert await load(call, 100, 5) == 0


async def test_the_first_failures_refuse_nothing() -> None:
    """A few failures after a quiet time are no outage."""
    call = adaptive_breaker(random=lambda: 0.0)(Peer(Unavailable("x")))
    assert await load(call, 1, 5) == 0


@pytest.mark.parametrize(
    "error", [Internal("x"), InvalidArgument("x"), Disconnected("x"), ValueError("x")]
)
async def test_answers_and_a_lost_bus_say_nothing_about_the_peer(
    error: Exception,
) -> None:
    """Only what means down or overloaded counts."""
    call = adaptive_breaker(random=lambda: 0.0)(Peer(error))
    assert await load(call, 100, 10) == 0


async def test_a_refusal_tells_who_for_whom_and_when() -> None:
    """Text, time, the mark that nothing was sent, and a count."""
    call = adaptive_breaker(random=lambda: 0.0)(Peer(Unavailable("x")))
    before = RESILIENCE.count("adaptive_breaker", "a.b")
    refused = await load(call, 100, 2)
    with pytest.raises(Unavailable, match=r"adaptive_breaker: .* a\.b fail") as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 1.0
    assert caught.value.refused == "a.b"
    assert RESILIENCE.count("adaptive_breaker", "a.b") == before + refused + 1


async def test_peers_behind_one_endpoint_are_told_apart() -> None:
    """With `key` one broken instance does not throttle the other."""

    async def either(_ctx: Context, request: str) -> str:
        if request == "bad":
            raise Unavailable("x")
        return request

    call = adaptive_breaker(random=lambda: 0.0, key=lambda _ctx, request: request)(
        either
    )
    for _ in range(50):
        with pytest.raises(Unavailable):
            await call(Context(endpoint="a.b"), "bad")
        assert await call(Context(endpoint="a.b"), "good") == "good"


def test_wrong_options_are_told_at_once() -> None:
    """`k` of one would refuse the last call that a peer needs to recover."""
    with pytest.raises(ValueError, match="k must be over 1, not 1"):
        adaptive_breaker(1)
