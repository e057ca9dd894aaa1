"""Instances of one name and version that say different things: two classes, most likely.

A queue group hands each call to any of them, so that a caller of the one is answered by the
other.  Versions apart are a deployment under way, and no conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.wire import Meta

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kitmsg.discovery.subject import ServiceInfo

__all__ = ["conflicts"]


def conflicts(instances: Iterable[ServiceInfo]) -> dict[tuple[str, str], str]:
    """Return a sentence for each name and version under which schemas differ."""
    groups: dict[tuple[str, str], dict[frozenset[str], list[ServiceInfo]]] = {}
    for info in instances:
        said = frozenset(
            f"{endpoint.subject} {(endpoint.metadata or {}).get(Meta.SCHEMA, '')}"
            for endpoint in info.endpoints
        )
        if not any(Meta.SCHEMA in (e.metadata or {}) for e in info.endpoints):
            continue  # no kitmsg service: it does not tell what it takes
        kinds = groups.setdefault((info.name, info.version), {})
        kinds.setdefault(said, []).append(info)
    return {
        key: _sentence(*key, list(kinds.values()))
        for key, kinds in groups.items()
        if len(kinds) > 1
    }


def _sentence(name: str, version: str, kinds: list[list[ServiceInfo]]) -> str:
    shown = "; ".join(sorted(_kind(infos) for infos in kinds))
    return (
        f"{len(kinds)} classes say different things as {name!r} {version}: {shown}."
        " Each is given calls of the other; give one another name or version"
    )


def _kind(infos: list[ServiceInfo]) -> str:
    first = infos[0]
    ids = ", ".join(sorted(info.id for info in infos))
    names = (
        ", ".join(sorted(endpoint.name for endpoint in first.endpoints)) or "nothing"
    )
    text = f" ({first.description})" if first.description else ""
    return f"{ids}{text} has {names}"
