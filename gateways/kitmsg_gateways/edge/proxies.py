"""The client's address behind trusted proxies.

Anybody can send these headers, so they count only as far as they were written by proxies
whose addresses are known; and of the two kinds only the one that our proxies write, as
they pass the other on unread.

Sources: RFC 7239 (``Forwarded``); for ``X-Forwarded-For``, ``-Proto`` and ``-Host`` there
is only custom: each proxy appends the address that it saw.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final, TypeAlias

from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Values: TypeAlias = Callable[[str], Sequence[str]]

__all__ = [
    "FORWARDED",
    "X_FORWARDED",
    "Proxies",
    "Via",
    "node_address",
    "parse_forwarded",
]

FORWARDED: Final = "forwarded"
X_FORWARDED: Final = "x-forwarded"

_MAX_HOPS: Final = 32
_MAX_KNOWN: Final = 4096
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # RFC 9110's word
_PAIR: Final = re.compile(rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")')
_GAP: Final = re.compile(r"[ \t]*([;,]|$)[ \t]*")
_ESCAPE: Final = re.compile(r"\\(.)")
_HOST: Final = re.compile(
    r"[A-Za-z0-9._-]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?"
)
_PORT: Final = re.compile(r":(\d{1,5}|_[A-Za-z0-9._-]{1,64})")


@dataclass(frozen=True, slots=True)
class Via:
    """Address, scheme and host of a request, as a trusted proxy forwards them.

    Attributes:
        address: Of the client.
        scheme: ``http`` or ``https``, as the client used it.
        host: As the client wrote it; "" when the proxy does not say.
    """

    address: str
    scheme: str
    host: str


class Proxies:
    """Reads the client's address from headers.

    Args:
        trusted: Addresses and networks (CIDR) of the proxies.
        header: Which headers they write: ``x-forwarded`` or ``forwarded``.

    Raises:
        InvalidArgument: One is no network.
    """

    def __init__(self, trusted: Iterable[str], header: str = X_FORWARDED) -> None:
        self._networks = [_network(text) for text in trusted]
        self._is_standard = header == FORWARDED
        self._known: dict[str, bool] = {}

    def trusts(self, address: str) -> bool:
        """Tell whether an address is that of a proxy of ours."""
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[address] = self._looks(address)
        return known

    def via(self, peer: str, scheme: str, values: Values) -> Via | None:
        """Return how a request came; None if no proxy of ours says anything.

        Args:
            peer: Address at the other end of the connection.
            scheme: Of the connection.
            values: Returns the values of a header of the request, by its name.
        """
        if not self.trusts(peer):
            return None
        hops = (_standard if self._is_standard else _customary)(values)
        address, host = node_address(peer), ""
        for node, proto, named in reversed(hops[-_MAX_HOPS:]):
            if not self.trusts(address):
                break  # whoever this is wrote the rest
            scheme = proto.lower() if proto.lower() in ("http", "https") else scheme
            host = named if _HOST.fullmatch(named) else host
            before = node_address(node)
            if not before:
                break  # "unknown", hidden, or broken: the nearest that we know
            address = before
        return Via(address, scheme, host)

    def _looks(self, address: str) -> bool:
        plain = node_address(address)
        if not plain:
            return False
        parsed = ipaddress.ip_address(plain)
        return any(parsed in network for network in self._networks)


def node_address(node: str) -> str:
    """Return the address in a node such as ``192.0.2.1:80`` or ``[2001:db8::1]``.

    It is in the usual form, an IPv4 address inside an IPv6 one by itself; "" for a node
    that has none.
    """
    text = node.strip()
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _PORT.fullmatch(port)):
            return ""
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _PORT.fullmatch(f":{port}"):
            return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if "%" in text:
        return ""  # a zone means something on one machine only
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def parse_forwarded(value: str) -> list[dict[str, str]] | None:
    """Return the elements of a ``Forwarded`` header, as names to values.

    Names are in lower case.  None when it is not as RFC 7239 (section 4) wants: half of
    it may be somebody else's.
    """
    found: list[dict[str, str]] = [{}]
    at = len(value) - len(value.lstrip(" \t"))
    while True:
        pair = _PAIR.match(value, at)
        if pair is not None:
            name = pair[1].lower()
            if name in found[-1]:
                return None
            plain, quoted = pair[2], pair[3]
            found[-1][name] = plain if plain is not None else _ESCAPE.sub(r"\1", quoted)
            at = pair.end()
        gap = _GAP.match(value, at)
        if gap is None:
            return None
        at = gap.end()
        if gap[1] == ",":
            found.append({})
        elif not gap[1]:
            return [element for element in found if element]


def _standard(values: Values) -> list[tuple[str, str, str]]:
    elements = parse_forwarded(",".join(values("Forwarded"))) or []
    return [
        (one.get("for", ""), one.get("proto", ""), one.get("host", ""))
        for one in elements
    ]


def _customary(values: Values) -> list[tuple[str, str, str]]:
    # Each proxy appends, so the lists belong together from their ends.
    lists = [
        reversed(_listed(values(f"X-Forwarded-{name}")))
        for name in ("For", "Proto", "Host")
    ]
    hops = [(a, b, c) for a, b, c in zip_longest(*lists, fillvalue="")]
    return hops[::-1]


def _listed(given: Sequence[str]) -> Sequence[str]:
    return [part.strip() for part in ",".join(given).split(",")] if given else []


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise InvalidArgument(
            f"trusted_proxies: {text!r} is no network such as 10.0.0.0/8: {exc}"
        ) from exc
