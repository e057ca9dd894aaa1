"""The endpointer: one endpoint for each instance, kept while it is there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kitmsg.balance import Endpointer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import State, Told

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.discovery.instancer import Observer


class Scripted:
    """An instancer whose set a test changes."""

    name = "made-up"

    def __init__(self, *addresses: str) -> None:
        self.instances = tuple(Instance(address=each) for each in addresses)
        self.told: list[Told] = []

    @property
    def state(self) -> State:
        return State(instances=self.instances, age=0.0)

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        told = Told(changed, self.name)
        self.told.append(told)
        told.tell(self.instances)
        return lambda: self.told.remove(told)

    async def settled(self) -> State:
        return self.state

    async def close(self) -> None:
        self.told.clear()

    def become(self, *instances: Instance | str) -> None:
        self.instances = tuple(
            Instance(address=each) if isinstance(each, str) else each
            for each in instances
        )
        for told in self.told:
            told.tell(self.instances)


def addresses(endpointer: Endpointer[str]) -> list[str]:
    return [node.address for node in endpointer.nodes]


async def test_one_connection_for_each_instance_while_it_is_there() -> None:
    """Those that stay keep theirs, whatever else comes and goes."""
    made: list[str] = []
    system = Scripted("b", "a")

    def connect(instance: Instance) -> str:
        made.append(instance.address)
        return f"to {instance.address}"

    endpointer = Endpointer[str](system, connect)
    await endpointer.ready()
    kept = endpointer.nodes[0]
    system.become("a", "c")
    assert addresses(endpointer) == ["a", "c"]
    assert endpointer.nodes[0] is kept
    assert made == ["b", "a", "c"]
    await endpointer.close()


async def test_other_facts_about_an_address_keep_its_connection() -> None:
    """A weight that changes counts for the next pick."""
    system = Scripted("a")
    endpointer = Endpointer(system, lambda _: object())
    await endpointer.ready()
    kept = endpointer.nodes[0]
    system.become(Instance(address="a", weight=3.0))
    assert endpointer.nodes == (kept,)
    assert kept.instance.weight == 3.0
    await endpointer.close()


async def test_a_factory_that_fails_is_tried_again_by_itself() -> None:
    """Without any change of the set; the other instances are there meanwhile."""
    failures = 3

    async def connect(instance: Instance) -> str:
        nonlocal failures
        if instance.address == "b" and failures:
            failures -= 1
            raise OSError("refused")
        return instance.address

    endpointer = Endpointer[str](Scripted("a", "b"), connect)
    await endpointer.ready()
    while len(endpointer.nodes) < 2:
        await endpointer.moved()
    assert failures == 0
    await endpointer.close()


async def test_who_leaves_while_it_is_connected_to_gets_no_node() -> None:
    """The attempt ends with the instance."""
    never = asyncio.Event()
    system = Scripted("a")

    async def connect(_instance: Instance) -> str:
        await never.wait()
        return ""

    endpointer = Endpointer[str](system, connect)
    endpointer.start()
    system.become()
    never.set()
    await asyncio.sleep(1)
    assert endpointer.nodes == ()
    await endpointer.close()


async def test_a_connection_is_closed_after_its_last_call() -> None:
    """Calls on their way when an instance leaves are not cut off."""
    closed: list[str] = []
    system = Scripted("a", "b")
    endpointer = Endpointer(system, lambda i: i.address, close=closed.append)
    await endpointer.ready()
    leaving = endpointer.nodes[0]
    leaving.begin(0.0)
    system.become("b")
    await asyncio.sleep(10)
    assert addresses(endpointer) == ["b"]
    assert closed == []
    leaving.end(0.0, 1.0, failed=False)
    await asyncio.sleep(1)
    assert closed == ["a"]
    await endpointer.close()
    assert closed == ["a", "b"]


async def test_the_end_leaves_no_task_and_no_watch() -> None:
    """Also of factories that fail; closing one that fails to close is no failure."""
    system = Scripted("a", "b")

    async def connect(instance: Instance) -> str:
        if instance.address == "b":
            raise OSError("refused")
        return instance.address

    async def shut(_connection: str) -> None:
        raise OSError("it is gone")

    before = asyncio.all_tasks()
    endpointer = Endpointer(system, connect, close=shut)
    await endpointer.ready()
    await endpointer.close()
    await asyncio.sleep(0)
    assert system.told == []
    assert asyncio.all_tasks() == before


async def test_it_starts_again_after_its_end() -> None:
    """A closed endpointer follows anew."""
    endpointer = Endpointer(Scripted("a"), lambda i: i.address)
    await endpointer.ready()
    await endpointer.close()
    assert endpointer.nodes == ()
    await endpointer.ready()
    assert addresses(endpointer) == ["a"]
    await endpointer.close()


async def test_only_those_that_join_later_are_new() -> None:
    """The first set has nobody to compare with."""
    system = Scripted("a")
    endpointer = Endpointer(system, lambda i: i.address)
    await endpointer.ready()
    system.become("a", "b")
    since = [node.since for node in endpointer.nodes]
    assert since == [float("-inf"), asyncio.get_running_loop().time()]
    await endpointer.close()
