"""One instance of a service, as a system of discovery knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Instance", "whole_set"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """Address of an instance, and its facts.

    Equal instances have equal addresses and equal facts: an endpointer that keeps a
    connection for an instance keeps it by `address`.

    Args:
        address: ``host:port``, with an IPv6 host in brackets; the instance's id on the bus.
        weight: Share of the calls against others of the same priority; 0 is the least
            that still gets some, as RFC 2782 has it.
        priority: Those of the lowest number come first; others when none is left.
        zone: Failure domain, such as an availability zone; empty when unknown.
        version: Of the service; empty when unknown.
        tags: Words without values, sorted.
        metadata: Words with values.
    """

    address: str
    weight: float = 1.0
    priority: int = 0
    zone: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return self.address


def whole_set(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    """Return instances sorted by priority and address, one for each address.

    Two systems' answers are the same set exactly when the results are equal.
    """
    by_address: dict[str, Instance] = {}
    for each in instances:
        by_address.setdefault(each.address, each)
    return tuple(sorted(by_address.values(), key=lambda i: (i.priority, i.address)))
