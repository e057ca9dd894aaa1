"""Try again what failed for a reason that passes."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from kitmsg.context import Context
from kitmsg.endpoints import chain
from kitmsg.errors import (
    Code,
    DeadlineExceeded,
    Disconnected,
    Internal,
    KitError,
    NoResponders,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message
from kitmsg.middleware import RetryBudget, retry, timeout
from kitmsg.middleware.retry import full_jitter


def whole(ceiling: float) -> float:
    """No jitter: the longest delay there can be."""
    return ceiling


NAME = "shop.buy"


def call_() -> Context:
    """Return the context of a call."""
    return Context(endpoint=NAME)


class Flaky:
    """An endpoint that fails with each of `errors` in turn and then answers.

    Its errors are those of a peer that never began, unless they say that it may have.
    """

    def __init__(self, *errors: Exception, began: bool = False) -> None:
        self.errors = list(errors)
        for error in errors:
            if isinstance(error, KitError) and not began:
                error.before(NAME)
        self.called_at: list[float] = []

    async def __call__(self, _ctx: Context, request: str) -> str:
        """Fail if there is an error left, else answer."""
        self.called_at.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return request.upper()


async def test_tries_again_after_unavailable() -> None:
    """A call that fails twice for want of a peer succeeds the third time."""
    flaky = Flaky(NoResponders("a.b"), Unavailable("draining"))
    assert await retry(3)(flaky)(call_(), "hi") == "HI"
    assert len(flaky.called_at) == 3


async def test_attempts_are_counted_in_all() -> None:
    """`attempts` includes the first call; the last error is raised."""
    flaky = Flaky(*(Unavailable(f"no {n}") for n in range(9)))
    with pytest.raises(Unavailable, match="no 2"):
        await retry(3)(flaky)(call_(), "hi")
    assert len(flaky.called_at) == 3


async def test_one_attempt_is_no_retry() -> None:
    """With one attempt the error comes through untouched."""
    error = Unavailable("gone")
    with pytest.raises(Unavailable) as caught:
        await retry(1)(Flaky(error))(call_(), "hi")
    assert caught.value is error
    assert not hasattr(error, "__notes__")


async def test_delays_double_up_to_the_cap() -> None:
    """The ceilings grow from `base` by two to `cap`."""
    flaky = Flaky(*(Unavailable("no") for _ in range(5)))
    calls = retry(6, base=0.1, cap=0.5, jitter=whole, budget=RetryBudget(tokens=100))
    await calls(flaky)(call_(), "hi")
    at = flaky.called_at
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert gaps == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_jitter_is_full() -> None:
    """Delays spread over the whole range from nothing to the ceiling."""
    delays = [full_jitter(8.0) for _ in range(2000)]
    assert all(0.0 <= delay <= 8.0 for delay in delays)
    assert {int(delay) for delay in delays} >= set(range(8))


async def test_waits_as_long_as_it_is_told() -> None:
    """`retry_after` of the error is waited for, with the backoff on top."""
    flaky = Flaky(ResourceExhausted("full", retry_after=7.0))
    calls = retry(on={Code.RESOURCE_EXHAUSTED}, base=0.5, jitter=whole)
    await calls(flaky)(call_(), "hi")
    assert flaky.called_at == pytest.approx([0.0, 7.5])


async def test_never_waits_past_the_deadline() -> None:
    """A delay that would reach the deadline is not begun: the error comes at once."""
    flaky = Flaky(Unavailable("no", retry_after=5.0))
    loop = asyncio.get_running_loop()
    with pytest.raises(Unavailable):
        await retry(jitter=whole)(flaky)(
            Context(endpoint=NAME, deadline=loop.time() + 5.0), "hi"
        )
    assert loop.time() == 0.0
    assert len(flaky.called_at) == 1


@pytest.mark.parametrize(
    "error",
    [
        Internal("bug"),
        ResourceExhausted("full"),
        DeadlineExceeded("late"),
        ValueError("not ours"),
        Disconnected("lost", sent=True),
        Unavailable("the service is stopping"),
    ],
)
async def test_does_not_repeat_what_may_have_been_done(error: Exception) -> None:
    """By default only what surely did not run is tried again."""
    flaky = Flaky(error, began=True)
    with pytest.raises(type(error)):
        await retry()(flaky)(call_(), "hi")
    assert len(flaky.called_at) == 1


@pytest.mark.parametrize("error", [DeadlineExceeded("x"), Disconnected("x", sent=True)])
async def test_repeats_an_idempotent_call_that_may_have_been_done(
    error: KitError,
) -> None:
    """Told that twice is as good as once, it repeats lost and late calls as well."""
    flaky = Flaky(error)
    assert await retry(idempotent=True)(flaky)(call_(), "hi") == "HI"


async def test_in_a_turn_the_refusal_of_another_says_nothing_of_ours() -> None:
    """A method that lets an error of its own call through has begun."""
    turn = Context(endpoint=NAME, message=Message(NAME, b"{}"))
    flaky = Flaky(Unavailable("down").before("inventory.reserve"), began=True)
    with pytest.raises(Unavailable):
        await retry()(flaky)(turn, "hi")
    assert await retry()(Flaky(Unavailable("full")))(turn, "hi") == "HI"


async def test_repeats_what_was_never_sent() -> None:
    """A call that failed before it left is safe to repeat."""
    flaky = Flaky(Disconnected(sent=False))
    assert await retry()(flaky)(call_(), "hi") == "HI"


async def test_a_timeout_inside_bounds_each_attempt() -> None:
    """``chain(retry, timeout)`` gives each attempt its own time."""
    hung = iter([True, False])

    async def hangs_once(_ctx: Context, request: str) -> str:
        if next(hung):
            await asyncio.Event().wait()
        return request

    calls = chain(retry(idempotent=True, jitter=whole), timeout(2.0))(hangs_once)
    assert await calls(call_(), "hi") == "hi"
    assert asyncio.get_running_loop().time() == pytest.approx(2.05)


async def test_the_last_error_tells_the_history() -> None:
    """Notes name each attempt, and causes lead back to the first."""
    first, second = Unavailable("one"), NoResponders("a.b")
    with pytest.raises(NoResponders) as caught:
        await retry(2)(Flaky(first, second))(call_(), "hi")
    assert caught.value.__cause__ is first
    assert caught.value.__notes__ == [
        "attempt 1: unavailable: one",
        "attempt 2: unavailable: no responders for 'a.b'",
    ]


async def test_the_history_ends_with_an_error_that_is_not_retried() -> None:
    """An error of another kind on a later attempt is raised, with the history."""
    first, second = Unavailable("one"), Internal("bug")
    with pytest.raises(Internal) as caught:
        await retry(5)(Flaky(first, second))(call_(), "hi")
    assert caught.value.__cause__ is first


async def test_the_same_error_twice_is_no_cause_of_itself() -> None:
    """An endpoint that raises one object again and again makes no circle."""
    error = Unavailable("same")
    with pytest.raises(Unavailable) as caught:
        await retry(2)(Flaky(error, error))(call_(), "hi")
    assert caught.value.__cause__ is None


async def test_an_empty_budget_stops_retries() -> None:
    """When most calls fail, calls are tried once: retries do not add to the load."""
    errors = [Unavailable("down") for _ in range(100)]
    flaky = Flaky(*errors)
    calls = retry(3, budget=RetryBudget(tokens=4, ratio=0.5))(flaky)
    for _ in range(10):
        with pytest.raises(Unavailable):
            await calls(call_(), "hi")
    assert len(flaky.called_at) == 10 + 1  # 4 tokens: 3 > half, 2 is not


async def test_successes_refill_the_budget() -> None:
    """Each success gives `ratio` back, and there are retries again."""
    budget = RetryBudget(tokens=4, ratio=0.5)
    flaky = Flaky(*(Unavailable("down") for _ in range(4)))
    calls = retry(2, budget=budget)(flaky)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await calls(call_(), "hi")
    for _ in range(6):  # 0 tokens + 6 x 0.5 = 3
        await calls(call_(), "hi")
    for _ in range(2):
        await calls(call_(), "hi")  # 4 tokens: full
    flaky.errors.append(Unavailable("a moment").before(NAME))
    assert await calls(call_(), "hi") == "HI"


async def test_endpoints_share_the_budget() -> None:
    """What one `retry` wraps has one budget: a peer that is down is down for all."""
    calls = retry(2, budget=RetryBudget(tokens=2, ratio=0.1))
    first = Flaky(Unavailable("down"))
    second = Flaky(Unavailable("down"))
    for flaky in (first, second):
        with pytest.raises(Unavailable):
            await calls(flaky)(call_(), "hi")
    assert len(second.called_at) == 1


async def test_a_cancelled_call_is_not_retried() -> None:
    """Cancelling while it waits for the next attempt ends it."""
    flaky = Flaky(*(Unavailable("no", retry_after=100.0) for _ in range(3)))
    task = asyncio.ensure_future(retry()(flaky)(call_(), "hi"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(flaky.called_at) == 1


async def test_many_attempts_do_not_overflow() -> None:
    """The delay stays a number, whatever the attempt."""
    flaky = Flaky(*(Unavailable("no") for _ in range(2000)))
    calls = retry(2001, jitter=whole, budget=RetryBudget(tokens=1e6))(flaky)
    assert await calls(call_(), "hi") == "HI"


def test_refuses_wrong_options() -> None:
    """Each wrong option is told at once, with what to do."""
    with pytest.raises(ValueError, match="attempts must be at least 1, not 0"):
        retry(0)
    with pytest.raises(ValueError, match="must not be negative"):
        retry(base=-1.0)
    with pytest.raises(ValueError, match="idempotent=True"):
        retry(on={Code.DEADLINE_EXCEEDED})
    with pytest.raises(ValueError, match="must be positive"):
        RetryBudget(tokens=0)
