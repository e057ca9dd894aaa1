"""Sources of methods: the schemas on the bus, or a .thrift of the user's own.

A service of the user's IDL is the one on the bus that ``--map`` names, else the one of its
``kit.name``, else of its own name, else of its file's, where that declares one service.
Methods are endpoints by name.  What does not fit is said with the field's name.

Without one, the IDL is generated and parsed again, so that what `kitmsg export thrift` gives
to clients is what is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition, KitError
from kitmsg.idl.binding import Mismatch, Names, find_service, nearest, read_map
from kitmsg.idl.generated import Generator
from kitmsg.idl.numbers import misfit
from kitmsg.idl.service import shape_service
from kitmsg_gateways.thrift.generate import (
    generate,
    left_out,
    method_name,
    service_name,
)
from kitmsg_gateways.thrift.load import load, parse
from kitmsg_gateways.thrift.methods import Served, Table, serve_method
from kitmsg_gateways.thrift.protocol import protocols

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes
    from kitmsg_gateways.thrift.model import Idl, Method, ServiceType
    from kitmsg_gateways.thrift.options import GatewayOptions
    from kitmsg_gateways.thrift.protocol.base import Limits

__all__ = ["GeneratedSource", "UserSource"]

_DOT: Final = "."


class GeneratedSource:
    """Serves every service on the bus that says its types: nobody writes an IDL.

    Args:
        options: The lock, and the service that is meant without a name.
        limits: Of a message.

    Raises:
        FailedPrecondition: The lock cannot be read.
    """

    def __init__(self, options: GatewayOptions, limits: Limits) -> None:
        self._generator = Generator(
            options.lock, _generated, lambda types: sorted(left_out(types).values())
        )
        self._plain = options.service
        self._limits = limits

    def table(self, catalog: Catalog) -> Table:
        """Return the routing table for the endpoints in `catalog` now."""
        table = Table(protocols=protocols(self._limits))
        docs = {name: info.description for name, info in catalog.services.items()}
        for each in self._generator.services(catalog.endpoints, docs):
            names = {each.shapes.service, service_name(each.shapes)}
            table.refused += each.refused
            for name, served in (each.result or {}).items():
                served.coders.clear()  # each table has protocols of its own
                table.add(names, name, served)
            for method in each.waiting:
                table.wait(names, method_name(method.endpoint), each.why)
        table.add_plain(self._plain)
        return table


def _generated(
    types: ServiceShapes, endpoints: Mapping[str, CatalogEndpoint], lock: Lock
) -> dict[str, Served]:
    """Return the methods of a service, by name, as its generated IDL declares them.

    Raises:
        ValueError: It has no form in Thrift, or the lock refuses it.
        KitError: Its IDL cannot be read.
    """
    (declared,) = parse(generate([types], lock), types.service)
    names = Names(endpoints)
    found = {
        name: names.find(method.name, method.alias)
        for name, method in declared.methods.items()
    }
    return {
        name: serve_method(declared.methods[name], endpoint, types)
        for name, endpoint in found.items()
        if endpoint is not None
    }


class UserSource:
    """Serves the services of some IDLs.

    Args:
        options: The files, what maps to what, and the service meant without a name.
        limits: Of a message.

    Raises:
        FailedPrecondition: A file cannot be read.
        ValueError: A mapping does not fit the files.
    """

    def __init__(self, options: GatewayOptions, limits: Limits) -> None:
        self._plain = options.service
        self._limits = limits
        try:
            self._idls = [load(file, options.thrift_path) for file in options.thrift]
        except KitError as exc:
            raise FailedPrecondition(str(exc)) from exc
        methods: dict[str, list[str]] = {}
        for each in (declared for idl in self._idls for declared in idl):
            methods.setdefault(each.name, []).extend(each.methods)
        self._map = read_map(options.map, methods, _DOT, ".thrift")

    def table(self, catalog: Catalog) -> Table:
        """Return the routing table for the endpoints in `catalog` now."""
        table = Table(protocols=protocols(self._limits))
        by_service: dict[str, list[CatalogEndpoint]] = {}
        for endpoint in catalog.endpoints:
            by_service.setdefault(endpoint.service, []).append(endpoint)
        for idl in self._idls:
            for declared in idl:
                self._add(table, idl, declared, by_service)
        table.add_plain(self._plain)
        return table

    def _add(
        self,
        table: Table,
        idl: Idl,
        declared: ServiceType,
        by_service: Mapping[str, list[CatalogEndpoint]],
    ) -> None:
        service = self._service(idl, declared, by_service)
        if service not in by_service:
            why = f"there is no service {service!r} on the bus for {declared.name} now"
            for name in declared.methods:
                table.wait({declared.name}, name, why)
            return
        endpoints = by_service[service]
        types = shape_service(service, endpoints)
        for name, method in declared.methods.items():
            try:
                served = self._served(declared, method, service, endpoints, types)
            except Mismatch as exc:
                table.refused.append(f"{declared.name}.{name} is not served: {exc}")
                table.wait({declared.name, service}, name, misfit(service))
                continue
            table.add({declared.name, service}, name, served)

    def _service(
        self,
        idl: Idl,
        declared: ServiceType,
        by_service: Mapping[str, list[CatalogEndpoint]],
    ) -> str:
        """Return the name of the service that an IDL's service is."""
        told = self._map.get(declared.name) or declared.alias
        if told:
            return told
        is_alone = len(idl.services) == 1
        spellings = [declared.name, idl.name] if is_alone else [declared.name]
        return find_service(spellings, by_service) or idl.name

    def _served(
        self,
        declared: ServiceType,
        method: Method,
        service: str,
        endpoints: list[CatalogEndpoint],
        types: ServiceShapes,
    ) -> Served:
        """Return a method with the endpoint that it is.

        Raises:
            Mismatch: There is none, or it does not fit.
        """
        by_name = {endpoint.name: endpoint for endpoint in endpoints}
        mapped = self._map.get(f"{declared.name}{_DOT}{method.name}")
        if mapped is None:
            endpoint = Names(by_name).find(method.name, method.alias)
        else:
            endpoint = by_name.get(mapped.removeprefix(f"{service}{_DOT}"))
        if endpoint is None:
            wanted = mapped or method.alias or method.name
            raise Mismatch(
                f"{service} has no endpoint {wanted!r}; {nearest(wanted, by_name)}"
            )
        if endpoint.stream:
            raise Mismatch(
                f"{service}.{endpoint.name} is a stream, which has no form in Thrift"
            )
        if endpoint.schema and endpoint.name in types.refused:
            raise Mismatch(types.refused[endpoint.name])
        return serve_method(method, endpoint, types if endpoint.schema else None)
