"""What happens to an instance whose turn failed in a way nobody declared."""
# the services here are props

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest

from kitmsg import BusinessError, Kit, Service, Supervision, endpoint
from kitmsg.errors import FailedPrecondition, Internal, NotFound
from kitmsg.service.host import RestartsExceeded, ServiceHost


class Declared(BusinessError):
    """An error that is expected."""


class Fragile(Service):
    """Notes its lives; fails on demand."""

    supervision = Supervision(policy="restart", max_restarts=2, window=10.0)
    made: ClassVar[list[Fragile]] = []

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.count = 0
        type(self).made.append(self)

    async def start(self) -> None:
        self.seen.append("start")

    async def stop(self) -> None:
        self.seen.append("stop")

    @endpoint
    async def bump(self) -> int:
        self.count += 1
        return self.count

    @endpoint(raises=[Declared])
    async def fail(self, how: str = "bug") -> None:
        if how == "declared":
            raise Declared
        if how == "code":
            raise NotFound("x")
        if how == "together":  # all that wait fail in the same moment
            await asyncio.sleep(1)
        raise RuntimeError("bug")

    @endpoint
    async def slow(self) -> int:
        await asyncio.sleep(2)
        return self.count


@pytest.fixture(autouse=True)
def no_lives() -> None:
    Fragile.made.clear()


async def fail(kit: Kit, how: str = "bug") -> None:
    with pytest.raises(Internal):
        await kit.client(Fragile).fail(how)
    await asyncio.sleep(0.1)


async def test_keep(kit: Kit) -> None:
    """By default the turn fails and the instance stays."""

    class Kept(Fragile):
        name = "fragile"
        supervision = Supervision()

    host = await kit.serve(Kept())
    client = kit.client(Fragile)
    await client.bump()
    for _ in range(20):
        await fail(kit)
    assert await client.bump() == 2
    assert len(Fragile.made) == 1
    assert not host.failed.done()


async def test_restart(kit: Kit) -> None:
    """A fresh instance takes over, under the same id; the old one is stopped."""
    host = await kit.serve(Fragile)
    id_ = host.id
    client = kit.client(Fragile)
    assert [await client.bump(), await client.bump()] == [1, 2]
    await fail(kit)
    assert await client.bump() == 1
    old, new = Fragile.made
    assert host.service is new
    assert host.id == id_
    assert (old.seen, new.seen) == (["start", "stop"], ["start"])
    assert await kit.client(Fragile, instance=id_).bump() == 2


async def test_turns_that_run_keep_their_instance(kit: Kit) -> None:
    """The old instance is stopped when its last turn is over."""
    await kit.serve(Fragile)
    client = kit.client(Fragile)
    await client.bump()
    slow = asyncio.create_task(client.slow())
    await asyncio.sleep(0.1)
    await fail(kit)
    old, new = Fragile.made
    assert new.seen == ["start"]
    assert old.seen == ["start"]
    assert await slow == 1
    await asyncio.sleep(0.1)
    assert old.seen == ["start", "stop"]


@pytest.mark.parametrize("how", ["declared", "code"])
async def test_expected_errors_are_no_failure(kit: Kit, how: str) -> None:
    """A declared error, or any `KitError`, restarts nothing."""
    await kit.serve(Fragile)
    for _ in range(5):
        with pytest.raises((Declared, NotFound)):
            await kit.client(Fragile).fail(how)
    await asyncio.sleep(1)
    assert len(Fragile.made) == 1


async def test_too_many_restarts_end_the_host(kit: Kit) -> None:
    """More than `max_restarts` in the window: the worker is told, with the cause."""
    host = await kit.serve(Fragile)
    await fail(kit)
    await fail(kit)
    assert not host.failed.done()
    await fail(kit, "another bug")
    await fail(kit, "a third")
    await fail(kit, "a fourth")
    with pytest.raises(RestartsExceeded, match="failed more than 2 times in 10 s") as e:
        await host.failed
    assert isinstance(e.value.__cause__, RuntimeError)
    assert "RuntimeError" in str(e.value)
    assert len(Fragile.made) == 5


async def test_a_poison_request_is_refused_before_it_ends_the_host(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """What restarted the instance `max_restarts` times is refused by its hash, and alone."""
    host = await kit.serve(Fragile)
    client = kit.client(Fragile)
    for how in ("bug", "another bug"):  # each has all of the restarts
        await fail(kit, how)
        await fail(kit, how)
        for _ in range(20):
            with pytest.raises(FailedPrecondition, match="service 2 times") as caught:
                await client.fail(how)
            assert caught.value.refused == "fragile.fail"  # it never began
    assert host.quarantine.refused == 40
    assert len(Fragile.made) == 5
    assert caplog.text.count("it is refused now") == 2
    assert await client.bump() == 1
    with pytest.raises(Declared):
        await client.fail("declared")
    assert not host.failed.done()


async def test_quarantine_ends_with_the_window(kit: Kit) -> None:
    """A request may try again later, and goes on to be no worker's end."""
    host = await kit.serve(Fragile)
    for _ in range(50):
        with pytest.raises((Internal, FailedPrecondition)):
            await kit.client(Fragile).fail()
        await asyncio.sleep(1)
    assert not host.failed.done()
    assert 8 <= len(Fragile.made) - 1 <= 10
    assert host.quarantine.refused + len(Fragile.made) - 1 == 50


async def test_the_window_slides(kit: Kit) -> None:
    """Failures far apart never add up."""
    host = await kit.serve(Fragile)
    for _ in range(6):
        await fail(kit)
        await asyncio.sleep(5)
    assert not host.failed.done()
    assert len(Fragile.made) == 7


async def test_a_failing_fresh_start_ends_the_host(kit: Kit) -> None:
    """If no new instance can be had, the worker should end."""

    class Once(Fragile):
        name = "fragile"

        async def start(self) -> None:
            if len(Fragile.made) > 1:
                raise RuntimeError("no database any more")

    host = await kit.serve(Once)
    await fail(kit)
    with pytest.raises(RestartsExceeded) as caught:
        await host.failed
    assert "no database" in str(caught.value.__cause__)


async def test_a_failing_old_stop_does_not(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """The old instance was broken; the new one serves."""

    class Sticky(Fragile):
        name = "fragile"

        async def stop(self) -> None:
            if self is not Fragile.made[-1]:
                raise RuntimeError("cannot stop")

    host = await kit.serve(Sticky)
    await fail(kit)
    assert not host.failed.done()
    assert await kit.client(Fragile).bump() == 1
    assert "the old instance did not stop well" in caplog.text


async def test_a_burst_of_failures_is_one_restart(kit: Kit) -> None:
    """Turns that fail while the instance is replaced do not count again."""
    host = await kit.serve(Fragile)
    client = kit.client(Fragile)
    calls = (client.fail("together") for _ in range(10))
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(end) for end in ends} == {Internal}
    await asyncio.sleep(1)
    assert len(Fragile.made) == 2
    assert not host.failed.done()


async def test_drain_waits_for_a_restart(kit: Kit) -> None:
    """A service that is drained while it restarts is still put away."""
    host = await kit.serve(Fragile)
    with pytest.raises(Internal):
        await kit.client(Fragile).fail()
    await host.drain()
    kit.hosts.clear()
    assert [one.seen for one in Fragile.made] == [["start", "stop"], ["start", "stop"]]


async def test_an_instance_cannot_be_made_again(kit: Kit) -> None:
    """A policy of restart needs the class; that is said at once."""
    with pytest.raises(TypeError, match=r"kit\.serve\(Fragile\), not kit\.serve"):
        ServiceHost(kit.bus, Fragile())
