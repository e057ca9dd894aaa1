"""Methods made from the schemas on the bus: nobody writes an IDL.

The text is generated and parsed again, so that what `kitmsg export thrift` gives to clients
is what is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.idl.numbers import Numbers, misfit
from kitmsg.idl.service import shape_service
from kitmsg_gateways.thrift.idl import generate, left_out, method_name, service_name
from kitmsg_gateways.thrift.load import parse
from kitmsg_gateways.thrift.match import find
from kitmsg_gateways.thrift.table import Served, Table, protocols, serve_method

if TYPE_CHECKING:
    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes
    from kitmsg_gateways.thrift.model import ServiceType
    from kitmsg_gateways.thrift.options import GatewayOptions
    from kitmsg_gateways.thrift.protocol import Limits

__all__ = ["GeneratedSource"]


class GeneratedSource:
    """Serves every service on the bus that says its types.

    The numbers of fields stay what they are for as long as this lives, whatever becomes of
    the services.

    Args:
        options: The lock, and the service that is meant without a name.
        limits: What a message may be.

    Raises:
        FailedPrecondition: The lock cannot be read.
    """

    def __init__(self, options: GatewayOptions, limits: Limits) -> None:
        self._numbers = Numbers(options.lock)
        self._plain = options.service
        self._limits = limits
        self._made: dict[str, tuple[list[CatalogEndpoint], _Methods]] = {}

    def table(self, catalog: Catalog) -> Table:
        """Return what can be served of `catalog` now."""
        table = Table(protocols=protocols(self._limits))
        before, self._made = self._made, {}
        for service, info in catalog.services.items():
            endpoints = [each for each in catalog.endpoints if each.service == service]
            made = before.get(service)
            if made is None or made[0] != endpoints:
                made = endpoints, self._make(service, endpoints, info.description)
            self._made[service] = made
            methods = made[1]
            table.refused += methods.refused
            for name, served in methods.served.items():
                served.coders.clear()  # each table has protocols of its own
                table.add({service, methods.name}, name, served)
            for name in methods.waiting:
                table.wait({service, methods.name}, name, misfit(service))
        table.add_plain(self._plain)
        return table

    def _make(
        self, service: str, endpoints: list[CatalogEndpoint], doc: str
    ) -> _Methods:
        types = shape_service(service, endpoints, doc=doc)
        refused = sorted(left_out(types).values())
        methods = _Methods(service_name(types), refused)
        made = self._numbers.make(types, _parsed)
        methods.refused += made.sentences(service)
        methods.waiting = [method_name(endpoint) for endpoint in made.refused]
        if made.result is None:
            return methods
        methods.name = made.result.name
        by_name = {endpoint.name: endpoint for endpoint in endpoints}
        for name, method in made.result.methods.items():
            endpoint = find(method, by_name)
            if endpoint is not None:
                methods.served[name] = serve_method(method, endpoint, types)
        return methods


def _parsed(types: ServiceShapes, lock: Lock) -> ServiceType:
    """Return a service as its IDL declares it.

    Raises:
        ValueError: It has no form in Thrift, or the lock refuses it.
        KitError: Its IDL cannot be read.
    """
    (declared,) = parse(generate([types], lock), types.service)
    return declared


class _Methods:
    """What is served of one service."""

    def __init__(self, name: str, refused: list[str]) -> None:
        self.name = name
        self.refused = refused
        self.waiting: list[str] = []
        self.served: dict[str, Served] = {}
