"""Values of entries in etcd and ZooKeeper: an instance as JSON, or an address alone.

    {"address": "10.0.0.5:8080", "weight": 2, "zone": "eu-1", "metadata": {"team": "pay"}}
    10.0.0.5:8080

The first is written; the second is Go kit's, and read too, as is an object with ``address``
and ``port`` apart, which Curator writes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import msgspec

from kitmsg.discovery.address import host_port, join_host_port
from kitmsg.discovery.instance import Instance

__all__ = ["Reader", "encode"]

_log = logging.getLogger("kitmsg.discovery")


class _Value(msgspec.Struct, omit_defaults=True):
    address: str
    port: int | None = None
    weight: float = 1.0
    priority: int = 0
    zone: str = ""
    version: str = ""
    tags: list[str] = []
    metadata: dict[str, str] = {}


def encode(instance: Instance) -> bytes:
    """Return the value of an instance."""
    return msgspec.json.encode(
        _Value(
            address=instance.address,
            weight=instance.weight,
            priority=instance.priority,
            zone=instance.zone,
            version=instance.version,
            tags=list(instance.tags),
            metadata=dict(instance.metadata),
        )
    )


def _decode(data: bytes) -> Instance:
    if not data.lstrip().startswith(b"{"):
        return Instance(address=host_port(data.decode("utf-8").strip()))
    value = msgspec.json.decode(data, type=_Value)
    address = value.address
    if value.port is not None:
        address = join_host_port(address, value.port)
    return Instance(
        address=host_port(address),
        weight=value.weight,
        priority=value.priority,
        zone=value.zone,
        version=value.version,
        tags=tuple(sorted(value.tags)),
        metadata=value.metadata,
    )


class Reader:
    """Reads values; one that makes no sense is left out, and named in the log once.

    Args:
        name: Address of the system, for the log.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._unreadable: dict[str, bytes] = {}

    def read(self, entries: Mapping[str, bytes]) -> list[Instance]:
        """Return the instances of entries by key."""
        found: list[Instance] = []
        for key, data in entries.items():
            try:
                found.append(_decode(data))
            except ValueError as exc:  # msgspec's and of Unicode are such
                if self._unreadable.get(key) != data:
                    _log.warning("%s: %s is left out: %s", self._name, key, exc)
                self._unreadable[key] = data
        for key in self._unreadable.keys() - entries.keys():
            del self._unreadable[key]
        return found
