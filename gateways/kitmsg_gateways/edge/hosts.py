"""Names under which a door may be called.

A web page of anybody's can have its own name lead to this machine (DNS rebinding); its
requests then pass for the door's own pages', but for the name in ``Host``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kitmsg_gateways.edge.weboptions import HttpOptions

__all__ = ["LOOPBACK", "Hosts"]

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

_MOST_KNOWN: Final = 256
_ANY: Final = "*"


class Hosts:
    """The names under which one door may be called.

    Args:
        options: Which; without any, those of loopback for a door that listens there and
            asks nobody who calls, and all for others.
        has_auth: Whether strangers are refused, so that a foreign page is one.

    Attributes:
        is_any: Whether all are.
    """

    def __init__(self, options: HttpOptions, *, has_auth: bool) -> None:
        names = {each.lower() for each in options.allowed_hosts}
        is_behind = bool(options.trusted_proxies)
        if not names and options.host in LOOPBACK and not (has_auth or is_behind):
            names = {*LOOPBACK}
        self.is_any = not names or _ANY in names
        self._names = frozenset(each for each in names if not each.startswith("*"))
        self._below = tuple(each[1:] for each in names if each.startswith("*."))
        # Headers that were found to be fine, as they came.
        self._known: set[str] = set()

    def allows(self, host: str) -> bool:
        """Tell whether a value of ``Host`` is fine; "" for none is: no page sends that."""
        if self.is_any or host in self._known or not host:
            return True
        name = _name(host)
        if name not in self._names and not name.endswith(self._below or ("\0",)):
            return False
        if len(self._known) < _MOST_KNOWN:
            self._known.add(host)
        return True


def _name(host: str) -> str:
    """Return the name in a host, in lower case, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()
