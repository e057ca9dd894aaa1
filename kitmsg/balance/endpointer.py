"""Endpointer: one endpoint, or one connection, for each instance while it is there.

Go kit's `sd.Endpointer`.  It follows an instancer; how calls are spread is a picker's.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeAlias, TypeVar

from kitmsg.balance.node import Node
from kitmsg.discovery.backoff import Backoff
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import Instancer, reason

__all__ = ["Close", "Endpointer", "Factory"]

_log = logging.getLogger("kitmsg.balance")

T = TypeVar("T")

Factory: TypeAlias = Callable[[Instance], Awaitable[T] | T]
"""Makes the endpoint, or the connection, of an instance."""

Close: TypeAlias = Callable[[T], Awaitable[None] | None]
"""Closes what a factory made."""


class Endpointer(Generic[T]):
    """Keeps a node for each instance of an instancer.

    A node stays as long as its address does, whatever else changes.  A factory that fails
    is tried again, with back-off, until the instance leaves.  What a node has is closed
    when its instance left and its last call ended.

    Args:
        instancer: Knows the instances; watched while there are nodes to keep.
        factory: Makes the endpoint or the connection of an instance.
        close: Closes it; nothing by default.
        backoff: Makes the waits of a factory that fails; for tests.
    """

    def __init__(
        self,
        instancer: Instancer,
        factory: Factory[T],
        *,
        close: Close[T] | None = None,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.instancer = instancer
        self._factory = factory
        self._close = close
        self._backoff = backoff
        self._nodes: dict[str, Node[T]] = {}
        self._instances: dict[str, Instance] = {}  # the set, with nodes or without yet
        self._making: dict[str, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._unwatch: Callable[[], None] | None = None
        self._is_first = True  # no set is known yet
        self._moved = asyncio.Event()
        self._tried = asyncio.Event()  # a factory that waits has succeeded or failed
        # Invariant: those of `_nodes`, sorted by address; another object when they change.
        self.nodes: tuple[Node[T], ...] = ()

    @property
    def name(self) -> str:
        """The instancer's, for messages."""
        return self.instancer.name

    def start(self) -> None:
        """Follow the instancer, if it is not followed; needs a running event loop."""
        if self._unwatch is None:
            self._is_first = True
            self._unwatch = self.instancer.watch(self._changed)

    @property
    def is_started(self) -> bool:
        """Whether the instancer is followed."""
        return self._unwatch is not None

    async def ready(self) -> None:
        """Return when the instancer answered, and there is a node if it named any.

        At once when it failed, or when the first factories did.
        """
        self.start()
        await self.instancer.settled()
        if not self.nodes and self._making:
            await self._tried.wait()

    async def moved(self) -> None:
        """Return when the nodes have changed."""
        await self._moved.wait()

    def _changed(self, instances: tuple[Instance, ...]) -> None:
        before, self._instances = self._instances, {i.address: i for i in instances}
        since = float("-inf") if self._is_first else asyncio.get_running_loop().time()
        for address in before.keys() - self._instances.keys():
            self._leave(address)
        for address, instance in self._instances.items():
            node = self._nodes.get(address)
            if node is not None:
                node.become(instance)
            elif address not in self._making:
                self._make(instance, since)
        self._is_first = self._is_first and not instances
        self._publish()

    def _make(self, instance: Instance, since: float) -> None:
        """Make a node at once where the factory can; else in a task, until it does."""
        try:
            made = self._factory(instance)
        except Exception as exc:  # noqa: BLE001  a factory may fail as it likes
            self._begin(instance, since, None, exc)
            return
        if inspect.isawaitable(made):
            self._begin(instance, since, made, None)
        else:
            self._nodes[instance.address] = Node(instance, made, since)

    def _begin(
        self,
        instance: Instance,
        since: float,
        made: Awaitable[T] | None,
        error: Exception | None,
    ) -> None:
        first: asyncio.Future[T]
        if made is None:
            first = asyncio.get_running_loop().create_future()
            first.set_exception(error or RuntimeError("nothing was made"))
        else:
            first = asyncio.ensure_future(made)
        task = asyncio.get_running_loop().create_task(
            self._persist(instance.address, since, first),
            name=f"connect to {instance.address}",
        )
        task.add_done_callback(lambda _: first.cancel())
        self._making[instance.address] = task

    async def _persist(
        self,
        address: str,
        since: float,
        first: Awaitable[T],
    ) -> None:
        """Make a node of what `first` becomes, or of what the factory makes later."""
        backoff, made = self._backoff(), first
        while True:
            try:
                value = await made
            except Exception as exc:  # noqa: BLE001  a factory may fail as it likes
                wait = backoff.next()
                self._tried.set()
                _log.warning(
                    "%s: no endpoint for %s, tried again in %.1f s: %s",
                    *(self.name, address, wait, reason(exc)),
                )
                await asyncio.sleep(wait)
                made = self._made(self._instances[address])
            else:
                self._nodes[address] = Node(self._instances[address], value, since)
                del self._making[address]
                self._tried.set()
                self._publish()
                return

    async def _made(self, instance: Instance) -> T:
        made = self._factory(instance)
        return await made if inspect.isawaitable(made) else made

    def _leave(self, address: str) -> None:
        task = self._making.pop(address, None)
        if task is not None:
            task.cancel()
        node = self._nodes.pop(address, None)
        if node is not None:
            self._end(node)

    def _end(self, node: Node[T]) -> None:
        if self._close is not None:
            closing = asyncio.get_running_loop().create_task(self._shut(node))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def _shut(self, node: Node[T]) -> None:
        """Close a node's connection, after the calls that it carries."""
        # Calls need not tell their end: this is rare, and they are hot.
        while node.in_flight and self._unwatch is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        with contextlib.suppress(Exception):  # it is gone either way
            done = self._close(node.value) if self._close is not None else None
            if inspect.isawaitable(done):
                await done

    def _publish(self) -> None:
        nodes = tuple(node for _, node in sorted(self._nodes.items()))
        if nodes != self.nodes:
            self.nodes = nodes
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()

    async def close(self) -> None:
        """Follow no more, close every connection; `start` begins anew."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        for address in list(self._instances):
            self._leave(address)
        self._instances = {}
        self._publish()
        while self._closing:
            await asyncio.wait(self._closing)
