"""What is served at one time: methods by path, services by name, their descriptors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from kitmsg.discovery.catalog import Catalog
    from kitmsg_gateways.grpc.method import Method

__all__ = ["Source", "Table"]


@dataclass(slots=True)
class Table:
    """What is served.

    Attributes:
        methods: By path, ``/package.Service/Method``.
        services: Names of the services on the bus by their full gRPC names; "" for one
            that is known, but of which nothing is on the bus now.
        files: Descriptors, each after those it imports.
        waiting: Why a method that is known cannot be called now, by path.
        refused: Sentences about what cannot be served.
    """

    methods: dict[str, Method] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    files: list[FileDescriptorProto] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


class Source(Protocol):
    """Makes tables: from the schemas on the bus, or from a .proto of the user's own."""

    def table(self, catalog: Catalog) -> Table:
        """Return what can be served of `catalog` now."""
        ...
