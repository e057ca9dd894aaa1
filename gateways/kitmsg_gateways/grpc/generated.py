"""Methods made from the schemas on the bus: no .proto is written.

Each service is laid out by itself, and anew only when something of it has changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from kitmsg.idl.numbers import Numbers, misfit
from kitmsg.idl.service import shape_service
from kitmsg_gateways.grpc.coders import make_method
from kitmsg_gateways.grpc.convert import Converters
from kitmsg_gateways.grpc.layout import lay_out
from kitmsg_gateways.grpc.proto import descriptor, file_name
from kitmsg_gateways.grpc.spelling import package_name
from kitmsg_gateways.grpc.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg_gateways.grpc.layout import Layout
    from kitmsg_gateways.grpc.method import Method
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["GeneratedSource"]


@dataclass(frozen=True, slots=True)
class _Piece:
    """One service, laid out."""

    layout: Layout | None = None
    file: FileDescriptorProto | None = None
    methods: tuple[Method, ...] = ()
    waiting: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


class GeneratedSource:
    """Makes tables from schemas.

    The numbers of fields stay what they are for as long as this lives, whatever becomes of
    the services.

    Args:
        options: `GatewayOptions.lock` has the numbers to begin with.

    Raises:
        FailedPrecondition: The lock cannot be read.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._numbers = Numbers(options.lock)
        self._pieces: dict[str, tuple[tuple[CatalogEndpoint, ...], str, _Piece]] = {}

    def table(self, catalog: Catalog) -> Table:
        """Return what can be served of `catalog`; what cannot is refused by itself."""
        table = Table()
        names: dict[str, str] = {}
        pieces = {}
        for service, grouped in groupby(catalog.endpoints, lambda each: each.service):
            endpoints = tuple(grouped)
            doc = catalog.services[service].description
            known = self._pieces.get(service)
            if known is None or known[:2] != (endpoints, doc):
                known = endpoints, doc, self._piece(service, endpoints, doc)
            pieces[service] = known
            _add(table, service, known[2], names)
        self._pieces = pieces
        return table

    def _piece(
        self, service: str, endpoints: tuple[CatalogEndpoint, ...], doc: str
    ) -> _Piece:
        shapes = shape_service(service, endpoints, doc=doc)
        refused = tuple(
            f"{why}; it is not served over gRPC" for why in shapes.refused.values()
        )
        made = self._numbers.make(shapes, lay_out)
        refused += tuple(made.sentences(service))
        waiting = {
            f"/{package_name(service)}.{shapes.name}/{method.name}": misfit(service)
            for method in shapes.methods
            if method.endpoint in made.refused
        }
        layout = made.result
        if layout is None:
            return _Piece(waiting=waiting, refused=refused)
        converters = Converters(layout)
        by_name = {endpoint.name: endpoint for endpoint in endpoints}
        methods = tuple(
            make_method(
                f"/{layout.full_name}/{rpc.name}",
                layout,
                converters,
                rpc,
                by_name[rpc.endpoint],
            )
            for rpc in layout.rpcs
        )
        return _Piece(layout, descriptor(layout), methods, waiting, refused)


def _add(table: Table, service: str, piece: _Piece, names: dict[str, str]) -> None:
    """Put a service into the table, unless another has its package."""
    table.refused += piece.refused
    table.waiting |= piece.waiting
    if piece.layout is None or piece.file is None:
        return
    owner = names.setdefault(file_name(piece.layout), service)
    if owner != service:
        table.refused.append(
            f"{service} is not served: {owner} has the package"
            f" {piece.layout.package!r} too; rename one"
        )
        return
    table.services[piece.layout.full_name] = service
    table.files.append(piece.file)
    for method in piece.methods:
        table.methods[method.path] = method
