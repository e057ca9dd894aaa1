"""What the servers of a service share: the queue group, the overflow, the drain."""
# the services here are props

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, connect, endpoint
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.codec import MSGPACK
from kitmsg.errors import (
    DeadlineExceeded,
    KitError,
    NoResponders,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)

if TYPE_CHECKING:
    from kitmsg.service import ServiceHost


class Counted(Service):
    """Counts things, slowly, and only when let."""

    concurrency = 1
    mailbox = 8
    drain_timeout = 5.0

    def __init__(self) -> None:
        self.gate = asyncio.Semaphore(0)
        self.done = 0
        self.calls: list[int] = []

    @endpoint(timeout=60)
    async def count(self, n: int) -> int:
        await self.gate.acquire()
        self.done += 1
        return n

    def let(self, n: int) -> None:
        """Let `n` turns finish."""
        for _ in range(n):
            self.gate.release()


async def settled(kit: Kit) -> None:
    """Return when what was sent has arrived."""
    for _ in range(3):
        await kit.bus.flush()
        await asyncio.sleep(0)


def ask(kit: Kit, n: int, instance: str = "") -> asyncio.Task[int]:
    # Nobody is asked for the codec first: the request leaves at once.
    client = kit.client(Counted, timeout=60, instance=instance, codec=MSGPACK)
    return asyncio.create_task(client.count(n))


async def fill(kit: Kit, n: int) -> list[asyncio.Task[int]]:
    """Ask `n` times, each known to have arrived before the next is sent."""
    tasks = []
    for i in range(n):
        tasks.append(ask(kit, i))
        await settled(kit)
    return tasks


def is_member(host: ServiceHost) -> bool:
    return host.intake.is_member


def instance(host: ServiceHost) -> Counted:
    assert isinstance(host.service, Counted)
    return host.service


async def end(kit: Kit, tasks: list[asyncio.Task[int]]) -> list[Any]:
    """Let everything finish; return results and errors."""
    for host in kit.hosts:
        instance(host).let(1000)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def check_leaves_and_rejoins(kit: Kit) -> None:
    """Fill one of two instances; see where the rest goes."""
    full = await kit.serve(Counted())
    tasks = await fill(kit, 7)
    assert is_member(full)
    tasks += await fill(kit, 1)
    assert not is_member(full)
    with pytest.raises(NoResponders):
        await ask(kit, 0)
    other = await kit.serve(Counted())
    tasks += await fill(kit, 6)
    assert (full.intake.mailbox.waiting, other.intake.mailbox.waiting) == (7, 5)
    instance(full).let(4)
    await asyncio.gather(*tasks[:4])
    assert not is_member(full)
    instance(full).let(1)
    await tasks[4]
    assert is_member(full)
    instance(other).let(1000)
    instance(full).let(1000)
    tasks += [ask(kit, n) for n in range(60)]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert min(instance(full).done, instance(other).done) > 9


async def test_leaves_the_group_when_full_and_rejoins(kit: Kit) -> None:
    """Above the high-water mark others take over; below the low one it is back."""
    await check_leaves_and_rejoins(kit)


async def test_leaves_the_group_on_a_real_server(kit_nats: Kit) -> None:
    """The server routes around an instance that left."""
    await check_leaves_and_rejoins(kit_nats)


async def test_overflow_is_answered_at_once(kit: Kit) -> None:
    """What comes directly to a full instance is refused, with a time to come back."""
    host = await kit.serve(Counted())
    tasks = await fill(kit, 8)
    tasks.append(ask(kit, 8, host.id))
    await settled(kit)
    started = asyncio.get_running_loop().time()
    with pytest.raises(ResourceExhausted) as caught:
        await ask(kit, 0, host.id)
    assert asyncio.get_running_loop().time() == started
    assert caught.value.retry_after is not None
    assert 0.01 <= caught.value.retry_after <= 5
    assert "counted.count is full: 1 turns run and 8 wait" in str(caught.value)
    assert host.snapshots()["counted.count"].shed == 1
    assert await end(kit, tasks) == list(range(9))


async def test_a_burst_is_answered_to_the_last(kit: Kit) -> None:
    """A thousand asks at once: each has a result or a refusal, none waits for its timeout."""
    host = await kit.serve(Counted())
    instance(host).let(10_000)
    started = asyncio.get_running_loop().time()
    ends = await asyncio.gather(
        *(ask(kit, n, host.id) for n in range(1000)), return_exceptions=True
    )
    assert asyncio.get_running_loop().time() - started < 1
    kinds = Counter(type(end).__name__ for end in ends)
    assert set(kinds) == {"int", "ResourceExhausted"}
    assert host.snapshots()["counted.count"].shed == kinds["ResourceExhausted"]


async def check_drain(kit: Kit) -> None:
    host = await kit.serve(Counted())
    tasks = await fill(kit, 4)
    draining = asyncio.create_task(host.drain())
    await settled(kit)
    assert not host.intake.is_member
    with pytest.raises(NoResponders):
        await ask(kit, 9)
    assert host.intake.mailbox.waiting == 3
    instance(host).let(4)
    assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
    await draining


async def test_drain_leaves_first_and_finishes_the_mailbox(kit: Kit) -> None:
    """New asks find nobody; what runs and waits is answered with its result."""
    await check_drain(kit)


async def test_drain_on_a_real_server(kit_nats: Kit) -> None:
    """The same there."""
    await check_drain(kit_nats)


async def test_drain_answers_the_rest(kit: Kit) -> None:
    """What is not done in `drain_timeout` is told `Unavailable`, running or waiting."""
    host = await kit.serve(Counted())
    tasks = await fill(kit, 3)
    started = asyncio.get_running_loop().time()
    await kit.drain()
    assert asyncio.get_running_loop().time() - started == pytest.approx(5, abs=0.1)
    for end_ in await asyncio.gather(*tasks, return_exceptions=True):
        assert type(end_) is Unavailable
        assert "counted.count is stopping" in str(end_)
    assert host.intake.mailbox.running == 0


async def test_a_full_instance_that_drains_stays_away(kit: Kit) -> None:
    """Room in its mailbox does not bring it back into the group."""
    host = await kit.serve(Counted())
    tasks = await fill(kit, 8)
    draining = asyncio.create_task(host.drain())
    await settled(kit)
    instance(host).let(6)
    await asyncio.gather(*tasks[:6])
    assert not is_member(host)
    with pytest.raises(NoResponders):
        await ask(kit, 9)
    instance(host).let(2)
    await draining


async def test_a_rolling_restart_is_not_seen(kit: Kit) -> None:
    """While instances come and go one by one, no caller sees an error."""
    errors: list[BaseException] = []
    stop = asyncio.Event()

    async def call() -> None:
        while not stop.is_set():
            try:
                await ask(kit, 1)
            except KitError as exc:
                errors.append(exc)
            await asyncio.sleep(0.01)

    async def fresh() -> ServiceHost:
        service = Counted()
        service.let(1_000_000)
        return await kit.serve(service)

    old = [await fresh() for _ in range(3)]
    callers = [asyncio.create_task(call()) for _ in range(5)]
    for host in old:
        await asyncio.sleep(1)
        await fresh()
        await host.drain()
        kit.hosts.remove(host)
    stop.set()
    await asyncio.gather(*callers)
    assert errors == []
    assert sum(instance(host).done for host in old) > 0


async def test_one_instance_is_called_directly(kit: Kit) -> None:
    """By its id, also while it is out of the group."""
    first, second = await kit.serve(Counted()), await kit.serve(Counted())
    instance(second).let(100)
    tasks = [ask(kit, n, second.id) for n in range(5)]
    assert await asyncio.gather(*tasks) == list(range(5))
    assert (instance(first).done, instance(second).done) == (0, 5)


async def test_an_instance_that_is_gone(kit: Kit) -> None:
    """Its own subject has no responders after the drain."""
    host = await kit.serve(Counted())
    await kit.drain()
    with pytest.raises(NoResponders):
        await ask(kit, 1, host.id)


async def test_an_endpoint_the_instance_does_not_have(kit: Kit) -> None:
    """Asked directly it says so, instead of keeping silent."""
    host = await kit.serve(Counted())
    with pytest.raises(
        Unimplemented, match="counted serves nothing on 'counted.cuont'"
    ):
        await kit.call(f"_kit.i.counted.{host.id}.counted.cuont", n=1)


async def test_without_a_group_every_instance_hears(kit: Kit) -> None:
    """``queue = ""`` gives each instance each message."""

    class Everyone(Counted):
        queue = ""

    hosts = [await kit.serve(Everyone()) for _ in range(3)]
    for host in hosts:
        instance(host).let(10)
    kit.bus.publish("everyone.count", b'{"n":1}')
    await asyncio.sleep(1)
    assert [instance(host).done for host in hosts] == [1, 1, 1]


async def test_a_bus_that_hangs_does_not_hold_up_a_drain(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says nothing any more has the drain's time, and a second or two."""

    async def hang(timeout: float = 5.0) -> None:
        await asyncio.sleep(timeout)
        raise DeadlineExceeded("NATS took no notice")

    host = await kit.serve(Counted())
    monkeypatch.setattr(kit.bus, "flush", hang)
    await asyncio.wait_for(host.drain(0.5), 2.5)


async def test_losing_the_bus_while_draining(kit: Kit) -> None:
    """A drain ends though the bus is gone."""
    host = await kit.serve(Counted())
    tasks = await fill(kit, 2)
    kit.bus.disconnect()  # type: ignore[attr-defined]
    await host.drain(1)
    for task in tasks:
        with contextlib.suppress(KitError):
            await task


class Burning(Service):
    """Needs two milliseconds of the event loop for each call."""

    @endpoint
    async def burn(self) -> None:
        time.sleep(0.002)  # as a calculation does


def test_an_overloaded_instance_leaves_the_group_and_does_what_it_can() -> None:
    """Many times what it can do is offered; callers that it has no time for know at once."""

    async def overload() -> Counter[str]:
        ends: Counter[str] = Counter()

        async def one() -> None:
            try:
                await client.burn()
            except KitError as error:
                is_told = error.refused == "burning.burn" and error.retry_after
                ends["refused" if is_told else repr(error)] += 1
            else:
                ends["done"] += 1

        async with (
            connect(server.url, breaker=False) as serving,
            connect(server.url, breaker=False) as kit,
        ):
            await serving.serve(Burning())
            client = kit.client(Burning, timeout=30)
            tasks = []
            while ends["refused"] < 300:
                tasks += [asyncio.create_task(one()) for _ in range(60)]
                await asyncio.sleep(0.004)
            await asyncio.gather(*tasks)
        return ends

    with EmbeddedServer(jetstream=False) as server:
        ends = asyncio.run(overload())
    assert ends.keys() == {"done", "refused"}
