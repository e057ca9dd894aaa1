"""Addresses of a server in the form of its protocol, from whichever system tells them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from kitmsg.discovery import address as discovery
from kitmsg.discovery.address import Addresses
from kitmsg.discovery.fixed import fixed
from kitmsg.discovery.instancer import Instancer, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.discovery.instance import Instance
    from kitmsg.discovery.instancer import Observer

__all__ = ["Addresses", "Instancer", "fixed", "instancer"]

_log = logging.getLogger("kitmsg_gateways.upstream")


class _InForm:  # what is not said here, `Instancer` says
    """Instances of another instancer, each with its address as the protocol writes it.

    Args:
        inner: Tells ``host:port``, or addresses of the protocol.
        form: Returns the address of an instance; a `ValueError` if it has none here.
        owned: Whether `close` closes `inner`.
    """

    def __init__(
        self, inner: Instancer, form: Callable[[Instance], str], *, owned: bool
    ) -> None:
        self._inner = inner
        self._form = form
        self._owned = owned
        self._unusable: set[str] = set()

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def state(self) -> State:
        state = self._inner.state
        return replace(state, instances=self._formed(state.instances))

    def watch(self, changed: Observer, /) -> Callable[[], None]:
        return self._inner.watch(lambda found: changed(self._formed(found)))

    async def settled(self) -> State:
        await self._inner.settled()
        return self.state

    async def close(self) -> None:
        if self._owned:
            await self._inner.close()

    def _formed(self, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        found: list[Instance] = []
        for each in instances:
            try:
                found.append(replace(each, address=self._form(each)))
            except ValueError as exc:
                if each.address not in self._unusable:
                    _log.warning("%s: %s is left out: %s", self.name, each, exc)
                self._unusable.add(each.address)
        return tuple(found)


def instancer(
    addresses: Addresses, check: Callable[[str], str], example: str
) -> Instancer:
    """Return the instancer of addresses; a `ValueError` if one is wrong, or none is given.

    An address with a scheme of discovery says where to ask; others say where a server is.

    Args:
        addresses: One or several, or an instancer, which stays its owner's to close.
        check: Returns an address in its usual form, and raises else.
        example: An address, for messages.
    """

    def form(instance: Instance) -> str:
        return check(_written(instance, example))

    if isinstance(addresses, Instancer):
        return _InForm(addresses, form, owned=False)
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError(f"give the address of the server, such as {example!r}")
    if any(map(discovery.is_discovered, given)):
        return _InForm(discovery.instancer(given), form, owned=True)
    return fixed([check(address) for address in given])


def _written(instance: Instance, example: str) -> str:
    """Return the address of an instance with the scheme that its protocol has.

    The metadata may say another, and a path: ``scheme=https``, ``path=/v1``.
    """
    if "://" in instance.address:
        return instance.address
    usual = "http" if "://" in example else ""
    scheme = instance.metadata.get("scheme", usual)
    where = f"{scheme}://{instance.address}" if scheme else instance.address
    return where + instance.metadata.get("path", "")
