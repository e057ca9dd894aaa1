"""Instancers: the addresses of a service, and their changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["Addresses", "Instancer", "fixed", "instancer"]


@runtime_checkable
class Instancer(Protocol):
    """Knows the instances of a service, and tells when they change."""

    def watch(self, changed: Callable[[Sequence[str]], None], /) -> Callable[[], None]:
        """Call `changed` with all addresses, at once and whenever they change.

        Returns a function that ends the calls.
        """
        ...


Addresses: TypeAlias = "Instancer | str | Iterable[str]"
"""Where a server is: an instancer, an address, or several."""


class _Fixed:
    """Addresses that do not change."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self._addresses = tuple(addresses)

    def watch(self, changed: Callable[[Sequence[str]], None], /) -> Callable[[], None]:
        changed(self._addresses)
        return lambda: None


def fixed(addresses: str | Iterable[str]) -> Instancer:
    """Return an instancer of one address or a list of them, for good."""
    return _Fixed([addresses] if isinstance(addresses, str) else addresses)


def instancer(
    addresses: Addresses, check: Callable[[str], str], example: str
) -> Instancer:
    """Return the instancer of addresses; a `ValueError` if one is wrong, or none is given.

    `check` returns an address in its usual form, and raises with `example` else.
    """
    if isinstance(addresses, Instancer):
        return addresses
    given = [addresses] if isinstance(addresses, str) else list(addresses)
    if not given:
        raise ValueError(f"give the address of the server, such as {example!r}")
    return fixed([check(address) for address in given])
