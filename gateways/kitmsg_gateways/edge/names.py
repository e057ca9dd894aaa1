"""One flat list of names for all endpoints, for protocols that know no services."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from kitmsg.discovery.catalog import CatalogEndpoint

__all__ = ["flat_names"]

_MOST: Final = 128
_REFUSED: Final = re.compile(r"[^A-Za-z0-9_.-]")


def flat_names(
    endpoints: Iterable[CatalogEndpoint],
    separator: str,
    wanted: Sequence[str],
    had: Collection[str],
) -> tuple[dict[str, CatalogEndpoint], list[str]]:
    """Return endpoints by name, sorted, and sentences about those that get none.

    A name has letters, digits, ``_``, ``-`` and ``.``, 128 at most.  Another character
    becomes its number, such as ``_x2f_``.  A name that two endpoints would have goes to
    the one that had it.

    Args:
        endpoints: On the bus.
        separator: Between service and endpoint.
        wanted: Patterns of dotted names, such as ``shop.*``; none for all.
        had: Subjects of the endpoints that had names before.
    """
    found: dict[str, CatalogEndpoint] = {}
    refused = []
    for endpoint in sorted(endpoints, key=lambda each: each.subject not in had):
        dotted = f"{endpoint.service}.{endpoint.name}"
        if wanted and not any(fnmatchcase(dotted, pattern) for pattern in wanted):
            continue
        plain = f"{endpoint.service}{separator}{endpoint.name}"
        name = _REFUSED.sub(lambda match: f"_x{ord(match[0]):x}_", plain)
        if name in found:
            other = found[name]
            why = f"belongs to {other.service}.{other.name}"
        elif len(name) > _MOST:
            why = f"is longer than {_MOST} characters"
        else:
            found[name] = endpoint
            continue
        refused.append(f"{dotted} is not served: the name {name!r} {why}")
    return dict(sorted(found.items())), refused
