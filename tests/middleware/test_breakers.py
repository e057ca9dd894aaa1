"""Contract of all breakers with a circuit: one table of states, run on each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kitmsg.circuit import is_peer_failure
from kitmsg.context import Context
from kitmsg.endpoints import Middleware
from kitmsg.errors import (
    BusinessError,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.middleware import breaker, hystrix, ratio_breaker

RESET = 30.0
FAILURES = 4  # that open each of them


class Sold(BusinessError):
    """None left."""


def in_a_row(**options: Any) -> Middleware:
    return breaker(FAILURES, reset=RESET, **options)


def by_share(**options: Any) -> Middleware:
    return ratio_breaker(0.5, minimum=FAILURES, window=20.0, reset=RESET, **options)


def whole(**options: Any) -> Middleware:
    return hystrix(errors=0.5, minimum=FAILURES, sleep=RESET, timeout=9.0, **options)


BREAKERS = [in_a_row, by_share, whole]
WITH_TRIALS = [in_a_row, by_share]
NAMES = {in_a_row: "breaker", by_share: "ratio_breaker", whole: "hystrix"}

Make = Callable[..., Middleware]


class Peer:
    """An endpoint that fails with `error`, if there is one, after `hold` is set."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.hold: asyncio.Event | None = None
        self.calls = 0

    async def __call__(self, _ctx: Context, request: str) -> str:
        """Answer or fail as told when the call began."""
        self.calls += 1
        error = self.error
        if self.hold is not None:
            await self.hold.wait()
        if error is not None:
            raise error
        return request


Call = Callable[[Context, str], Awaitable[str]]


async def outcome(call: Call) -> str:
    """Return ``ok``, ``refused`` or ``failed``."""
    try:
        await call(Context(endpoint="a.b"), "hi")
    except Exception as error:  # noqa: BLE001  told apart below
        return "refused" if "circuit" in str(error) else "failed"
    return "ok"


# Each step: what the peer does, seconds that pass first, calls, and how each ends.
TABLE = {
    "too few failures leave it closed": [
        ("down", 0.0, FAILURES - 1, "failed"),
        ("up", 0.0, 1, "ok"),
    ],
    "enough failures open it": [
        ("down", 0.0, FAILURES, "failed"),
        ("up", 0.0, 3, "refused"),
    ],
    "it stays open for the whole reset": [
        ("down", 0.0, FAILURES, "failed"),
        ("up", RESET - 0.1, 1, "refused"),
    ],
    "a trial that succeeds closes it": [
        ("down", 0.0, FAILURES, "failed"),
        ("up", RESET, 5, "ok"),
    ],
    "a trial that fails opens it for the whole reset again": [
        ("down", 0.0, FAILURES, "failed"),
        ("down", RESET, 1, "failed"),
        ("up", RESET - 0.1, 1, "refused"),
        ("up", 0.2, 1, "ok"),
    ],
    "once closed it counts from zero": [
        ("down", 0.0, FAILURES, "failed"),
        ("up", RESET, 1, "ok"),
        ("down", 0.0, FAILURES - 2, "failed"),
        ("up", 0.0, 1, "ok"),
    ],
    "errors that are answers never open it": [
        ("sold out", 0.0, 50, "failed"),
        ("up", 0.0, 1, "ok"),
    ],
}
ERRORS = {"down": Unavailable("down"), "sold out": Sold(), "up": None}


@pytest.mark.parametrize("make", BREAKERS)
@pytest.mark.parametrize("steps", TABLE.values(), ids=list(TABLE))
async def test_states(make: Make, steps: list[tuple[str, float, int, str]]) -> None:
    """The table of states and transitions holds."""
    peer = Peer()
    call = make()(peer)
    for peer_is, seconds, times, expected in steps:
        await asyncio.sleep(seconds)
        peer.error = ERRORS[peer_is]
        assert [await outcome(call) for _ in range(times)] == [expected] * times


@pytest.mark.parametrize("make", BREAKERS)
@pytest.mark.parametrize(
    "error", [InvalidArgument("x"), NotFound("x"), PermissionDenied("x"), Sold()]
)
async def test_a_trial_that_gets_an_answer_closes_it(
    make: Make, error: Exception
) -> None:
    """An error of the caller's or of the business proves that the peer is back."""
    peer = Peer(Unavailable("down"))
    call = make()(peer)
    for _ in range(FAILURES):
        await outcome(call)
    await asyncio.sleep(RESET)
    peer.error = error
    assert [await outcome(call) for _ in range(3)] == ["failed"] * 3


@pytest.mark.parametrize("make", BREAKERS)
async def test_one_call_tries_a_half_open_circuit(make: Make) -> None:
    """The others are refused while it is under way, without a time to come back."""
    peer = Peer(Unavailable("down"))
    call = make()(peer)
    for _ in range(FAILURES):
        await outcome(call)
    await asyncio.sleep(RESET)
    peer.error, peer.hold = None, asyncio.Event()
    trial = asyncio.ensure_future(outcome(call))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="half-open") as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert caught.value.retry_after is None
    peer.hold.set()
    assert await trial == "ok"


@pytest.mark.parametrize("make", BREAKERS)
async def test_a_cancelled_trial_gives_its_turn_back(make: Make) -> None:
    """A caller that leaves proves nothing; the next call tries."""
    peer = Peer(Unavailable("down"))
    call = make()(peer)
    for _ in range(FAILURES):
        await outcome(call)
    await asyncio.sleep(RESET)
    peer.error, peer.hold = None, asyncio.Event()
    trial = asyncio.ensure_future(call(Context(endpoint="a.b"), "hi"))
    await asyncio.sleep(0)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    peer.hold = None
    assert await outcome(call) == "ok"


@pytest.mark.parametrize("make", BREAKERS)
@pytest.mark.parametrize(
    "late", [Unavailable("late"), None], ids=["failure", "success"]
)
async def test_an_outcome_from_before_counts_for_nothing(
    make: Make, late: Exception | None
) -> None:
    """A call that began when the circuit was closed says nothing about the trial."""
    peer = Peer(late)
    peer.hold = held = asyncio.Event()
    call = make()(peer)
    slow = asyncio.ensure_future(outcome(call))
    await asyncio.sleep(0)
    peer.error, peer.hold = Unavailable("down"), None
    # hystrix gives the slow call nine seconds, so all of this is at one time.
    for _ in range(FAILURES):
        await outcome(call)
    held.set()
    await slow
    with pytest.raises(Unavailable, match="circuit open") as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert caught.value.retry_after == pytest.approx(RESET)


@pytest.mark.parametrize("make", WITH_TRIALS)
async def test_several_trials_must_all_succeed(make: Make) -> None:
    """With `trials` as many go through at once, and one failure opens it again."""
    peer = Peer(Unavailable("down"))
    call = make(trials=3)(peer)
    for _ in range(FAILURES):
        await outcome(call)
    await asyncio.sleep(RESET)
    peer.error, peer.hold = None, asyncio.Event()
    trials = [asyncio.ensure_future(outcome(call)) for _ in range(3)]
    await asyncio.sleep(0)
    assert await outcome(call) == "refused"
    peer.hold.set()
    assert [await trial for trial in trials] == ["ok"] * 3
    peer.hold = None
    assert await outcome(call) == "ok"


@pytest.mark.parametrize("make", WITH_TRIALS)
async def test_one_failed_trial_of_several_opens_it(make: Make) -> None:
    """The successes of the others do not close it then."""
    peer = Peer(Unavailable("down"))
    call = make(trials=2)(peer)
    for _ in range(FAILURES):
        await outcome(call)
    await asyncio.sleep(RESET)
    peer.error = None
    assert await outcome(call) == "ok"
    peer.error = Unavailable("down")
    assert await outcome(call) == "failed"
    peer.error = None
    assert await outcome(call) == "refused"


@pytest.mark.parametrize("make", BREAKERS)
async def test_the_user_says_what_a_failure_is(make: Make) -> None:
    """With `is_failure` an answer may count, and an outage may not."""
    peer = Peer(NotFound("gone"))
    call = make(is_failure=lambda error: isinstance(error, NotFound))(peer)
    for _ in range(FAILURES):
        await outcome(call)
    assert await outcome(call) == "refused"
    peer = Peer(Unavailable("down"))
    call = make(is_failure=lambda error: False)(peer)
    assert [await outcome(call) for _ in range(20)] == ["failed"] * 20


@pytest.mark.parametrize("make", BREAKERS)
async def test_a_refusal_tells_who_for_whom_and_when(make: Make) -> None:
    """Text, time, the mark that nothing was sent, and a count."""
    call = make()(Peer(Unavailable("down")))
    before = RESILIENCE.count(NAMES[make], "a.b")
    for _ in range(FAILURES):
        await outcome(call)
    await asyncio.sleep(10)
    with pytest.raises(Unavailable) as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert str(caught.value) == f"{NAMES[make]}: circuit open: a.b keeps failing"
    assert caught.value.retry_after == pytest.approx(RESET - 10)
    assert caught.value.refused == "a.b"
    assert RESILIENCE.count(NAMES[make], "a.b") == before + 1


@pytest.mark.parametrize("make", BREAKERS)
async def test_endpoints_have_circuits_of_their_own(make: Make) -> None:
    """One broken endpoint does not stop another that the same breaker wraps."""
    wrap = make()
    broken, sound = wrap(Peer(Unavailable("down"))), wrap(Peer())
    for _ in range(FAILURES + 1):
        await outcome(broken)
    assert await outcome(broken) == "refused"
    assert await outcome(sound) == "ok"


@pytest.mark.parametrize("make", BREAKERS)
async def test_one_storm_opens_it_once(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Many failures at once are one change of state and one log line."""
    peer = Peer(Unavailable("down"))
    call = make(**({"concurrency": 100} if make is whole else {}))(peer)
    await asyncio.gather(*(outcome(call) for _ in range(50)))
    assert len([r for r in caplog.records if "circuit opened" in r.message]) == 1


async def test_a_share_forgets_what_is_older_than_its_window() -> None:
    """Failures of a minute ago do not open it."""
    peer = Peer(Unavailable("down"))
    call = ratio_breaker(0.5, minimum=4, window=5.0)(peer)
    for _ in range(3):
        await outcome(call)
    await asyncio.sleep(6)
    for _ in range(3):
        assert await outcome(call) == "failed"
    peer.error = None
    assert await outcome(call) == "ok"


async def test_a_share_below_the_ratio_leaves_it_closed() -> None:
    """Nine successes for each failure are under a half, in whatever order."""
    peer = Peer()
    call = ratio_breaker(0.5, minimum=4)(peer)
    for number in range(200):
        peer.error = Unavailable("down") if number % 10 == 9 else None
        assert await outcome(call) != "refused"


async def test_hystrix_cancels_what_takes_too_long() -> None:
    """The call really ends, and its place is free again."""
    cancelled = 0

    async def hang(_ctx: Context, request: str) -> str:
        nonlocal cancelled
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return request

    call = hystrix(timeout=2.0, concurrency=1)(hang)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded, match=r"hystrix: a\.b took over 2 s"):
            await call(Context(endpoint="a.b"), "hi")
    assert cancelled == 2


async def test_hystrix_refuses_one_call_too_many() -> None:
    """Over the concurrency a call is refused and counts as an error."""
    peer = Peer()
    peer.hold = asyncio.Event()
    call = hystrix(concurrency=2, minimum=3, errors=0.5)(peer)
    running = [asyncio.ensure_future(outcome(call)) for _ in range(2)]
    await asyncio.sleep(0)
    for _ in range(3):
        assert await outcome(call) == "failed"
    assert await outcome(call) == "refused"
    peer.hold.set()
    assert [await task for task in running] == ["ok", "ok"]
    assert peer.calls == 2


async def test_hystrix_falls_back_whatever_failed() -> None:
    """The fallback sees the error, of the peer or of the circuit, and gives the result."""
    seen: list[str] = []

    async def instead(_ctx: Context, request: str, error: Exception) -> str:
        seen.append("refused" if "circuit" in str(error) else "failed")
        return request.upper()

    call = hystrix(minimum=2, errors=0.5, fallback=instead)(Peer(Unavailable("down")))
    assert [await call(Context(endpoint="a.b"), "hi") for _ in range(3)] == ["HI"] * 3
    assert seen == ["failed", "failed", "refused"]


@pytest.mark.parametrize(
    ("make", "options", "text"),
    [
        (ratio_breaker, {"ratio": 0}, "ratio must be over 0 and at most 1, not 0"),
        (ratio_breaker, {"minimum": 0}, "minimum must be at least 1, not 0"),
        (ratio_breaker, {"window": 0}, "window must be positive, not 0"),
        (ratio_breaker, {"reset": 0}, "reset must be positive, not 0"),
        (hystrix, {"timeout": 0}, "timeout must be positive, not 0"),
        (hystrix, {"concurrency": 0}, "concurrency must be positive, not 0"),
        (hystrix, {"errors": 2}, "errors must be over 0 and at most 1"),
        (hystrix, {"sleep": 0}, "reset must be positive, not 0"),
    ],
)
def test_wrong_options_are_told_at_once(
    make: Make, options: dict[str, Any], text: str
) -> None:
    """A number out of its range never waits for the first call."""
    with pytest.raises(ValueError, match=text):
        make(**options)


def test_what_counts_is_the_peers_failure() -> None:
    """Answers and mistakes of the caller are none."""
    assert is_peer_failure(Unavailable("x"))
    assert is_peer_failure(ZeroDivisionError())
    assert not is_peer_failure(NotFound("x"))
    assert not is_peer_failure(Sold())
