"""Stop calling a peer that keeps failing, and try it again after a while."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiobreaker
import pytest

from kitmsg.context import Context
from kitmsg.errors import (
    BusinessError,
    Code,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Unavailable,
    Unknown,
)
from kitmsg.middleware import breaker


class Peer:
    """An endpoint that raises `error`, if there is one, and counts its calls."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0
        self.hold: asyncio.Event | None = None

    async def __call__(self, _ctx: Context, request: str) -> str:
        """Wait for `hold`, then fail or answer as told when the call began."""
        self.calls += 1
        error = self.error
        if self.hold is not None:
            await self.hold.wait()
        if error is not None:
            raise error
        return request


class OutOfStock(BusinessError):
    """None left."""

    code = Code.INTERNAL  # even so: it is an answer
    sku: str = "x"


async def fail(call: object, times: int, error: type[Exception] = Unavailable) -> None:
    assert callable(call)
    for _ in range(times):
        with pytest.raises(error):
            await call(Context(endpoint="a.b"), "hi")


@pytest.mark.parametrize("error", [Unavailable, DeadlineExceeded, Internal, Unknown])
async def test_opens_after_failures_in_a_row(error: type[Exception]) -> None:
    """After that many failures the peer is left alone, and callers are told so."""
    peer = Peer(error("down"))
    call = breaker(3, reset=30.0)(peer)
    await fail(call, 3, error)
    with pytest.raises(
        Unavailable, match=r"circuit open: a\.b keeps failing"
    ) as caught:
        await call(Context(endpoint="a.b"), "hi")
    assert caught.value.retry_after == pytest.approx(30.0)
    assert peer.calls == 3


async def test_the_call_that_opens_it_gets_its_own_error() -> None:
    """The error of the last failure is the peer's, with its cause."""
    error = Internal("bug")
    error.__cause__ = ValueError("why")
    with pytest.raises(Internal) as caught:
        await breaker(1)(Peer(error))(Context(), "hi")
    assert caught.value is error
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_success_starts_the_count_again() -> None:
    """Failures that are not in a row do not open it."""
    peer = Peer()
    call = breaker(3)(peer)
    for _ in range(5):
        peer.error = Unavailable("down")
        await fail(call, 2)
        peer.error = None
        assert await call(Context(), "hi") == "hi"


@pytest.mark.parametrize(
    "error", [OutOfStock(), InvalidArgument("x"), NotFound("x"), ResourceExhausted("x")]
)
async def test_answers_are_no_failures(error: Exception) -> None:
    """Errors that prove that the peer works never open it."""
    peer = Peer(error)
    await fail(breaker(1)(peer), 5, type(error))
    assert peer.calls == 5


async def test_retry_after_counts_down_on_the_loops_clock() -> None:
    """The time left is told, and it is virtual time here."""
    call = breaker(1, reset=30.0)(Peer(Unavailable("down")))
    await fail(call, 1)
    await asyncio.sleep(20)
    with pytest.raises(Unavailable) as caught:
        await call(Context(), "hi")
    assert caught.value.retry_after == pytest.approx(10.0)


async def test_closes_when_the_trial_succeeds() -> None:
    """After `reset` a call goes through; its success closes the circuit."""
    peer = Peer(Unavailable("down"))
    call = breaker(2, reset=30.0)(peer)
    await fail(call, 2)
    peer.error = None
    await asyncio.sleep(30)
    assert await call(Context(), "hi") == "hi"
    peer.error = Unavailable("down")
    await fail(call, 2)  # closed: it takes two again
    assert peer.calls == 5


async def test_opens_again_when_the_trial_fails() -> None:
    """One failure of the trial is enough, and the whole time runs again."""
    peer = Peer(Unavailable("down"))
    call = breaker(3, reset=30.0)(peer)
    await fail(call, 3)
    await asyncio.sleep(30)
    await fail(call, 1)
    assert peer.calls == 4
    with pytest.raises(Unavailable, match="circuit open") as caught:
        await call(Context(), "hi")
    assert caught.value.retry_after == pytest.approx(30.0)
    assert peer.calls == 4


async def test_half_open_lets_one_call_through() -> None:
    """While one call tries the peer, the others are refused."""
    peer = Peer(Unavailable("down"))
    call = breaker(1, reset=30.0)(peer)
    await fail(call, 1)
    await asyncio.sleep(31)
    peer.error, peer.hold = None, asyncio.Event()
    trial = asyncio.ensure_future(call(Context(), "first"))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="circuit half-open: another call is trying"):
        await call(Context(), "second")
    peer.hold.set()
    assert await trial == "first"
    assert await call(Context(), "third") == "third"
    assert peer.calls == 3


async def test_a_cancelled_trial_gives_its_turn_back() -> None:
    """If the caller of the trial gives up, the next call tries the peer."""
    peer = Peer(Unavailable("down"))
    call = breaker(1, reset=30.0)(peer)
    await fail(call, 1)
    await asyncio.sleep(31)
    peer.error, peer.hold = None, asyncio.Event()
    trial = asyncio.ensure_future(call(Context(), "first"))
    await asyncio.sleep(0)
    trial.cancel()
    await asyncio.gather(trial, return_exceptions=True)
    peer.hold = None
    assert await call(Context(), "second") == "second"


async def test_late_failures_do_not_keep_it_open_longer() -> None:
    """Calls that were under way when it opened do not move the end of the pause."""
    peer = Peer(Unavailable("down"))
    peer.hold = held = asyncio.Event()
    call = breaker(1, reset=30.0)(peer)
    slow = asyncio.ensure_future(call(Context(), "slow"))
    await asyncio.sleep(0)
    peer.hold = None
    await fail(call, 1)
    await asyncio.sleep(20)
    held.set()
    with pytest.raises(Unavailable, match="down"):
        await slow
    peer.error = None
    await asyncio.sleep(10)
    assert await call(Context(), "hi") == "hi"


async def test_endpoints_have_circuits_of_their_own() -> None:
    """One broken endpoint does not stop another that the same breaker wraps."""
    guard = breaker(1)
    broken, sound = guard(Peer(Unavailable("down"))), guard(Peer())
    await fail(broken, 1)
    assert await sound(Context(), "hi") == "hi"


async def test_says_when_it_opens_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    """Both changes are logged, once each."""
    caplog.set_level("INFO", "kitmsg.middleware.breaker")
    peer = Peer(Unavailable("down"))
    call = breaker(2, reset=30.0)(peer)
    await fail(call, 4)
    await asyncio.sleep(30)
    peer.error = None
    await call(Context(), "hi")
    assert caplog.messages == [
        "circuit opened after 2 failures in a row",
        "circuit closed: the peer works again",
    ]


async def test_listeners_of_aiobreaker_hear_of_each_change() -> None:
    """A team that has listeners keeps them: they see the three states go by."""
    states: list[str] = []

    class Listener(aiobreaker.CircuitBreakerListener):  # type: ignore[misc]
        def state_change(self, _breaker: object, _old: object, new: Any) -> None:
            states.append(new.state.name)

    peer = Peer(Unavailable("down"))
    call = breaker(1, reset=30.0, listeners=[Listener()])(peer)
    await fail(call, 1)
    await asyncio.sleep(30)
    peer.error = None
    await call(Context(), "hi")
    assert states == ["OPEN", "HALF_OPEN", "CLOSED"]


async def test_an_interval_forgets_old_failures() -> None:
    """A closed circuit counts from zero after each interval."""
    peer = Peer(Unavailable("down"))
    call = breaker(3, interval=60.0)(peer)
    await fail(call, 2)
    await asyncio.sleep(61)
    await fail(call, 2)
    peer.error = None
    assert await call(Context(), "hi") == "hi"


def test_refuses_wrong_options() -> None:
    """Wrong numbers are told at once."""
    with pytest.raises(ValueError, match="failures must be at least 1, not 0"):
        breaker(0)
    with pytest.raises(ValueError, match=r"reset must be positive, not -1\.0"):
        breaker(reset=-1.0)
    with pytest.raises(ValueError, match="interval must be positive, not 0"):
        breaker(interval=0)
    with pytest.raises(ValueError, match="trials must be at least 1, not 0"):
        breaker(trials=0)


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without aiobreaker the error says what to install, when it is used."""
    monkeypatch.setitem(sys.modules, "aiobreaker", None)
    with pytest.raises(ImportError, match=r"pip install 'kitmsg\[breaker\]'"):
        breaker()
