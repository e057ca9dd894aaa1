"""Methods that are served over Thrift, and the table of them, by the names clients use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kitmsg.codec import JSON, MSGPACK
from kitmsg_gateways.thrift.bind import bind
from kitmsg_gateways.thrift.protocol import protocols
from kitmsg_gateways.thrift.protocol.base import Limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kitmsg.codec import Codec
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.idl import model as idl_model
    from kitmsg_gateways.thrift.bind import Binding
    from kitmsg_gateways.thrift.model import Method
    from kitmsg_gateways.thrift.protocol.base import Reader, ThriftProtocol, Writer

__all__ = ["SEPARATOR", "Served", "Table", "serve_method"]

SEPARATOR = ":"
"""Between service and method, as Thrift's multiplexed protocol has it."""


@dataclass(eq=False, slots=True)
class Served:
    """One method, and what is behind it.

    Attributes:
        name: ``service.endpoint``, for people.
        endpoint: Where its calls go.
        binding: How values pass.
        codec: Of its requests on the bus.
        is_wrapped: Whether its result is no object, which Go kit mode puts into one.
        is_oneway: Whether nobody waits for its answer.
        coders: Readers of parameters and writers of results, by protocol.
    """

    name: str
    endpoint: CatalogEndpoint
    binding: Binding
    codec: Codec
    is_wrapped: bool = False
    coders: dict[str, tuple[Reader, Writer]] = field(default_factory=dict)
    is_oneway: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_oneway = self.binding.method.is_oneway

    def coder(self, protocol: ThriftProtocol) -> tuple[Reader, Writer]:
        """Return the reader of its parameters and the writer of its results."""
        found = self.coders.get(protocol.name)
        if found is None:
            method = self.binding.method
            found = protocol.reader(method.args), protocol.writer(method.result)
            self.coders[protocol.name] = found
        return found


@dataclass(slots=True)
class Table:
    """Routing table: the methods that are served, by name.

    Attributes:
        methods: By name as bytes: ``Service:method``, and ``method`` where that is clear.
        unclear: Why a name cannot be called as it is, by name.
        waiting: Why a method that is known cannot be called now, by name.
        refused: Sentences about what cannot be served.
        protocols: By name; they remember readers and writers, so each table has its own.
    """

    methods: dict[bytes, Served] = field(default_factory=dict)
    unclear: dict[bytes, str] = field(default_factory=dict)
    waiting: dict[bytes, str] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    protocols: Mapping[str, ThriftProtocol] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.protocols:
            self.protocols = protocols(Limits())

    def add(self, services: Iterable[str], method: str, served: Served) -> None:
        """Serve a method under each of its service's names."""
        for service in services:
            self.methods[f"{service}{SEPARATOR}{method}".encode()] = served

    def wait(self, services: Iterable[str], method: str, why: str) -> None:
        """Answer a method with `why` it cannot be called, under its service's names."""
        for service in services:
            self.waiting[f"{service}{SEPARATOR}{method}".encode()] = why

    def add_plain(self, service: str = "") -> None:
        """Serve methods without a service's name in front, where that is clear.

        Args:
            service: Name of the service on the bus that is meant; "" for any.
        """
        found: dict[bytes, list[Served]] = {}
        for name, served in self.methods.items():
            if service and served.endpoint.service != service:
                continue
            alike = found.setdefault(name.rpartition(SEPARATOR.encode())[2], [])
            if served not in alike:
                alike.append(served)
        for name, alike in found.items():
            if len(alike) == 1:
                self.methods[name] = alike[0]
            else:
                listed = ", ".join(sorted(served.name for served in alike))
                self.unclear[name] = (
                    f"it may be {listed}: use the multiplexed protocol, or choose one"
                    " with --service"
                )
        for name, why in list(self.waiting.items()):
            plain = name.rpartition(SEPARATOR.encode())[2]
            if plain not in self.methods and plain not in self.unclear:
                self.waiting[plain] = why

    def keep_plain(self, before: Table) -> None:
        """Let names that were clear before mean what they meant.

        So a service that comes with a method of the same name takes no client's calls
        away; it is said, because after a restart nobody knows.
        """
        for name in list(self.unclear):
            former = before.methods.get(name)
            if former is None:
                continue
            service = former.endpoint.service.encode()
            served = self.methods.get(service + SEPARATOR.encode() + name)
            if served is not None:
                self.methods[name] = served
                self.refused.append(
                    f"{name.decode()!r} still means {served.name}, but"
                    f" {self.unclear.pop(name)}"
                )


def serve_method(
    method: Method, endpoint: CatalogEndpoint, types: idl_model.ServiceShapes | None
) -> Served:
    """Return a method with an endpoint behind it.

    Args:
        method: Of the IDL.
        endpoint: On the bus.
        types: The definition of its service; None if unknown.

    Raises:
        Mismatch: They do not fit; the message names the field.
    """
    name = f"{endpoint.service}.{endpoint.name}"
    known = {each.endpoint: each for each in types.methods} if types else {}
    shape = known.get(endpoint.name)
    is_plain = shape is not None and shape.codec == "msgpack"
    as_json = endpoint.wire == "gokit" or not endpoint.is_kit or not is_plain
    binding = bind(method, types, shape, name, as_json=as_json)
    result = shape.response if shape else None
    is_wrapped = result is None or result.kind not in ("struct", "map")
    return Served(name, endpoint, binding, JSON if as_json else MSGPACK, is_wrapped)
