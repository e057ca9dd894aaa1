"""Go kit's `lb.Retry`, with what it lacks: waits, history, another instance each time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.balance import (
    Attempts,
    CannotConnect,
    Endpointer,
    balanced,
    consistent_hash,
    round_robin,
)
from kitmsg.context import Context
from kitmsg.discovery.fixed import FixedInstancer, fixed
from kitmsg.discovery.instance import Instance
from kitmsg.endpoints import chain
from kitmsg.errors import (
    DeadlineExceeded,
    InvalidArgument,
    KitError,
    NoResponders,
    NotFound,
    Unavailable,
)
from kitmsg.middleware import hedge, retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kitmsg.endpoints import Endpoint


def refused(why: str = "draining") -> KitError:
    """An error that says that the work never began."""
    return Unavailable(why).before("adder.sum")


class Servers:
    """Instances in this process, whose answers a test tells."""

    def __init__(self, *addresses: str) -> None:
        self.calls: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.delays: dict[str, float] = {}
        self.cancelled: list[str] = []
        self.instancer = fixed(addresses)

    def endpoint(self, instance: Instance) -> Endpoint[Any, Any]:
        address = instance.address

        async def call(_ctx: Context, _request: Any) -> str:
            self.calls.append(address)
            try:
                await asyncio.sleep(self.delays.get(address, 0.0))
            except asyncio.CancelledError:
                self.cancelled.append(address)
                raise
            if address in self.errors:
                raise self.errors[address]
            return address

        return call

    @asynccontextmanager
    async def balanced(self, **options: Any) -> AsyncIterator[Endpoint[Any, Any]]:
        endpointer = Endpointer(self.instancer, self.endpoint)
        options.setdefault("pick", round_robin())
        yield balanced(endpointer, name="adder.sum", **options)
        await endpointer.close()


async def test_calls_are_spread_over_the_instances() -> None:
    """As the picker says; the endpointer starts with the first call."""
    servers = Servers("a", "b")
    async with servers.balanced() as call:
        for _ in range(4):
            await call(Context(), None)
    assert sorted(servers.calls) == ["a", "a", "b", "b"]


async def test_another_attempt_is_another_instance() -> None:
    """An instance that refuses a call is not asked again for it."""
    servers = Servers("a", "b", "c")
    servers.errors = {"a": refused(), "b": NoResponders("adder.sum").before("x")}
    async with servers.balanced() as call:
        for _ in range(6):
            assert await call(Context(), None) == "c"


async def test_attempts_are_counted_in_all() -> None:
    """Three is one call and two more."""
    servers = Servers("a", "b", "c", "d")
    servers.errors = dict.fromkeys("abcd", refused())
    async with servers.balanced(attempts=Attempts(most=3)) as call:
        with pytest.raises(Unavailable):
            await call(Context(), None)
    assert len(set(servers.calls)) == 3


async def test_the_last_error_is_caught_as_itself_and_tells_the_history() -> None:
    """`except` works by its class; notes tell every attempt, the cause is the one before."""
    servers = Servers("a", "b")
    servers.errors = {"a": refused("a drains"), "b": refused("b drains")}
    async with servers.balanced(attempts=Attempts(most=2)) as call:
        with pytest.raises(Unavailable) as caught:
            await call(Context(), None)
    notes = caught.value.__notes__
    assert [note.split(":")[0] for note in notes] == ["attempt 1", "attempt 2"]
    assert {"drains" in note for note in notes} == {True}
    assert isinstance(caught.value.__cause__, Unavailable)


@pytest.mark.parametrize(
    "error", [NotFound("no"), InvalidArgument("no"), Unavailable("half-way"), OSError()]
)
async def test_what_may_have_begun_is_not_repeated(error: Exception) -> None:
    """Nor what another instance would answer the same way."""
    servers = Servers("a", "b")
    servers.errors = dict.fromkeys("ab", error)
    async with servers.balanced() as call:
        with pytest.raises(type(error)):
            await call(Context(), None)
    assert len(servers.calls) == 1


async def test_idempotent_calls_are_repeated_after_they_began() -> None:
    """Doing it twice is as good as once."""
    servers = Servers("a", "b")
    servers.errors = {"a": Unavailable("half-way"), "b": DeadlineExceeded("late")}
    async with servers.balanced(attempts=Attempts(most=2, idempotent=True)) as call:
        with pytest.raises(KitError):
            await call(Context(), None)
    assert sorted(servers.calls) == ["a", "b"]


async def test_one_deadline_stands_over_all_attempts() -> None:
    """The third attempt has what the others left."""
    servers = Servers("a", "b", "c")
    servers.delays = dict.fromkeys("abc", 0.4)
    servers.errors = dict.fromkeys("abc", refused())
    began = asyncio.get_running_loop().time()
    async with servers.balanced(attempts=Attempts(most=9, timeout=1.0)) as call:
        with pytest.raises(DeadlineExceeded) as caught:
            await call(Context(), None)
    assert asyncio.get_running_loop().time() - began == pytest.approx(1.0)
    assert len(servers.calls) == 3
    # Go kit's says nothing of the attempts before.
    assert [note.split(":")[1] for note in caught.value.__notes__] == [
        " unavailable",
        " unavailable",
        " deadline_exceeded",
    ]
    assert isinstance(caught.value.__cause__, Unavailable)


async def test_waits_stand_between_rounds_over_all_instances() -> None:
    """A dead backend is not hammered: Go kit spins here."""
    servers = Servers("a")
    servers.errors = {"a": refused()}
    began = asyncio.get_running_loop().time()
    policy = Attempts(most=5, base=1.0, cap=2.0)
    async with servers.balanced(attempts=policy) as call:
        with pytest.raises(Unavailable):
            await call(Context(), None)
    assert servers.calls == ["a"] * 5
    assert asyncio.get_running_loop().time() > began


async def test_the_callback_decides_and_may_replace_the_error() -> None:
    """It sees the number of the attempt, from 1, and its error."""
    servers = Servers("a", "b", "c")
    servers.errors = dict.fromkeys("abc", refused())
    seen: list[int] = []

    def again(number: int, error: Exception) -> bool | Exception:
        seen.append(number)
        assert isinstance(error, Unavailable)
        return number < 2 or NotFound("instead")

    async with servers.balanced(attempts=Attempts(most=9, again=again)) as call:
        with pytest.raises(NotFound, match="instead") as caught:
            await call(Context(), None)
    assert seen == [1, 2]
    assert isinstance(caught.value.__cause__, Unavailable)


async def test_without_instances_it_waits_and_then_is_unavailable() -> None:
    """The work never began, and the error says so."""
    servers = Servers()
    servers.instancer = FixedInstancer([])
    async with servers.balanced() as call:
        with pytest.raises(Unavailable, match="adder has no instance") as caught:
            await call(Context(), None)
    assert caught.value.refused == "adder.sum"


async def test_what_cannot_be_connected_to_is_avoided_for_a_moment() -> None:
    """A call goes on to the next one; later calls do not begin there."""
    servers = Servers("a", "b")
    servers.errors = {"a": CannotConnect("refused")}
    async with servers.balanced() as call:
        for _ in range(10):
            assert await call(Context(), None) == "b"
        assert servers.calls.count("a") == 1
        servers.errors.clear()
        await asyncio.sleep(1.0)
        assert {await call(Context(), None) for _ in range(4)} == {"a", "b"}


async def test_nobody_to_connect_to_is_unavailable_without_addresses() -> None:
    """Callers see no address of an instance."""
    servers = Servers("secret-a", "secret-b")
    servers.errors = dict.fromkeys(["secret-a", "secret-b"], CannotConnect("secret"))
    async with servers.balanced(attempts=Attempts(most=0)) as call:
        with pytest.raises(Unavailable, match="adder has no instance") as caught:
            await call(Context(), None)
    assert sorted(servers.calls) == ["secret-a", "secret-b"]
    assert "secret" not in str(caught.value)


async def test_a_call_that_is_cancelled_is_no_call_in_flight() -> None:
    """Its node is as free as before."""
    servers = Servers("a")
    servers.delays = {"a": 60.0}
    endpointer = Endpointer(servers.instancer, servers.endpoint)
    call = asyncio.ensure_future(_call(balanced(endpointer)))
    await asyncio.sleep(1)
    assert endpointer.nodes[0].in_flight == 1
    call.cancel()
    await asyncio.wait([call])
    assert endpointer.nodes[0].in_flight == 0
    await endpointer.close()


async def _call(call: Endpoint[Any, Any]) -> Any:
    return await call(Context(), None)


async def test_lower_priorities_come_when_no_other_is_left() -> None:
    """As SRV records have it."""
    servers = Servers()
    servers.instancer = FixedInstancer(
        [Instance(address="main"), Instance(address="spare", priority=1)]
    )
    async with servers.balanced() as call:
        assert {await call(Context(), None) for _ in range(4)} == {"main"}
        servers.errors = {"main": CannotConnect("down")}
        assert {await call(Context(), None) for _ in range(4)} == {"spare"}


async def test_a_key_of_the_request_picks_the_instance() -> None:
    """`key` reads it out of the context and the request."""
    servers = Servers("a", "b", "c")
    options = {"pick": consistent_hash(), "key": lambda _ctx, request: request["id"]}
    async with servers.balanced(**options) as call:
        found = [await call(Context(), {"id": str(n % 5)}) for n in range(20)]
    assert found[:5] * 4 == found
    assert len(set(found)) > 1


async def test_one_connection_serves_several_endpoints() -> None:
    """`endpoint` takes that of a call from the connection."""
    made: list[str] = []

    class Connection:
        def __init__(self, instance: Instance) -> None:
            made.append(instance.address)

        async def sum(self, _ctx: Context, request: Any) -> Any:
            return sum(request)

        async def most(self, _ctx: Context, request: Any) -> Any:
            return max(request)

    endpointer = Endpointer(fixed(["a"]), Connection)
    sum_ = balanced(endpointer, endpoint=lambda connection: connection.sum)
    most = balanced(endpointer, endpoint=lambda connection: connection.most)
    assert await sum_(Context(), [1, 2]) == 3
    assert await most(Context(), [1, 2]) == 2
    assert made == ["a"]
    await endpointer.close()


async def test_retry_stands_around_it_as_around_any_endpoint() -> None:
    """The middleware's attempts are picked anew."""
    servers = Servers("a", "b")
    servers.errors = {"a": Unavailable("half-way")}
    async with servers.balanced() as call:
        persistent = chain(retry(3, idempotent=True))(call)
        assert {await persistent(Context(), None) for _ in range(4)} == {"b"}


@pytest.mark.parametrize(
    "make", [lambda: Attempts(most=-1), lambda: Attempts(base=-1.0)]
)
def test_attempts_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    """At once."""
    with pytest.raises(ValueError, match="must not be negative"):
        make()


# -- hedge


async def test_a_hedge_asks_another_instance_and_cancels_the_loser() -> None:
    """After the time that most calls take."""
    servers = Servers("a", "b")
    async with servers.balanced() as call:
        hedged = hedge(0.95, budget=1.0, least=0.02)(call)
        servers.delays = {"a": 0.01, "b": 0.01}
        for _ in range(40):
            await hedged(Context(), None)
        servers.delays = {"a": 60.0, "b": 0.005}
        began = asyncio.get_running_loop().time()
        assert [await hedged(Context(), None) for _ in range(4)] == ["b"] * 4
        assert asyncio.get_running_loop().time() - began < 1.0
    assert servers.cancelled
    assert set(servers.cancelled) == {"a"}


async def test_hedges_stay_within_their_budget() -> None:
    """When everything is slow, second tries are one in twenty."""
    servers = Servers("a", "b")
    async with servers.balanced() as call:
        hedged = hedge(0.5, budget=0.05)(call)
        for number in range(400):
            servers.delays = dict.fromkeys("ab", 0.01 * (1 + number % 7))
            await hedged(Context(), None)
    assert 400 < len(servers.calls) <= 420


async def test_an_only_instance_is_not_asked_twice() -> None:
    """There is no other, so the first answer is waited for."""
    servers = Servers("a")
    async with servers.balanced() as call:
        hedged = hedge(0.5, budget=1.0)(call)
        for _ in range(30):
            await hedged(Context(), None)
        servers.delays = {"a": 5.0}
        servers.calls.clear()
        assert await hedged(Context(), None) == "a"
    assert servers.calls == ["a"]


async def test_an_error_of_one_try_waits_for_the_other() -> None:
    """Only when both fail is there an error."""
    servers = Servers("a", "b")
    async with servers.balanced() as call:
        hedged = hedge(0.5, budget=1.0)(call)
        for _ in range(30):
            await hedged(Context(), None)
        servers.delays = {"a": 1.0, "b": 2.0}
        servers.errors = {"b": NotFound("b")}
        assert await hedged(Context(), None) == "a"
        servers.errors["a"] = NotFound("a")
        with pytest.raises(NotFound):
            await hedged(Context(), None)


@pytest.mark.parametrize(
    "make", [lambda: hedge(0.0), lambda: hedge(1.0), lambda: hedge(budget=0.0)]
)
def test_a_hedge_has_a_quantile_and_a_budget(make: Callable[[], Any]) -> None:
    """Out of range they are refused at once."""
    with pytest.raises(ValueError, match="must be"):
        make()
