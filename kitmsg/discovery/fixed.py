"""Instances that do not change: addresses as they were given."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kitmsg.discovery.instance import Instance
from kitmsg.discovery.instancer import Observer, State, Told

__all__ = ["FixedInstancer", "fixed"]


class FixedInstancer:
    """Tells a set that never changes.

    Args:
        instances: The set; its order is kept.
    """

    def __init__(self, instances: Iterable[Instance]) -> None:
        by_address = {each.address: each for each in instances}
        self._instances = tuple(by_address.values())

    @property
    def name(self) -> str:
        """The addresses."""
        return ", ".join(each.address for each in self._instances)

    @property
    def state(self) -> State:
        """The set; it is never old."""
        return State(instances=self._instances, age=0.0)

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        """Tell `changed` the set."""
        told = Told(changed, self.name)
        told.tell(self._instances)

        def unwatch() -> None:
            busy = told.stop()
            if busy is not None:
                busy.cancel()

        return unwatch

    async def settled(self) -> State:
        """Return the state."""
        return self.state

    async def close(self) -> None:
        """Do nothing: there is nothing to end."""


def fixed(addresses: str | Iterable[str]) -> FixedInstancer:
    """Return an instancer of one address or a list of them, for good."""
    given = [addresses] if isinstance(addresses, str) else addresses
    return FixedInstancer(Instance(address=each) for each in given)
