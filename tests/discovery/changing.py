"""An instancer whose set a test decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.discovery.fixed import fixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.discovery.instancer import Observer, State

__all__ = ["Changing"]


class Changing:
    """Addresses that a test changes."""

    name = "changing"

    def __init__(self, *addresses: str) -> None:
        self.addresses: tuple[str, ...] = addresses
        self.watchers: list[Observer] = []

    @property
    def state(self) -> State:
        return fixed(self.addresses).state

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        self.watchers.append(changed)
        changed(self.state.instances)
        return lambda: self.watchers.remove(changed)

    def become(self, *addresses: str) -> None:
        self.addresses = addresses
        for changed in self.watchers:
            changed(self.state.instances)

    async def settled(self) -> State:
        return self.state

    async def close(self) -> None:
        self.watchers.clear()
