"""Methods of a ``.thrift`` of the user's own, each with the endpoint that does it.

A service of the IDL is the one on the bus that ``--map`` names, else the one of its
``kit.name``, else of its own name, else of its file's, where that declares one service.
Methods are endpoints by name.  What does not fit is said with the field's name.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition, KitError
from kitmsg.idl.numbers import misfit
from kitmsg.idl.service import shape_service
from kitmsg_gateways.thrift.load import load
from kitmsg_gateways.thrift.match import Mismatch, find
from kitmsg_gateways.thrift.model import fold
from kitmsg_gateways.thrift.table import Served, Table, protocols, serve_method

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg.idl.model import ServiceShapes
    from kitmsg_gateways.thrift.model import Idl, Method, ServiceType
    from kitmsg_gateways.thrift.options import GatewayOptions
    from kitmsg_gateways.thrift.protocol import Limits

__all__ = ["UserSource"]

_DOT: Final = "."


class UserSource:
    """Serves the services of some IDLs.

    Args:
        options: The files, what maps to what, and the service meant without a name.
        limits: What a message may be.

    Raises:
        FailedPrecondition: A file cannot be read, or a mapping names nothing in it.
        ValueError: A mapping is not written as one.
    """

    def __init__(self, options: GatewayOptions, limits: Limits) -> None:
        self._plain = options.service
        self._limits = limits
        try:
            self._idls = [load(file, options.thrift_path) for file in options.thrift]
        except KitError as exc:
            raise FailedPrecondition(str(exc)) from exc
        self._map = _mappings(options.map, self._idls)

    def table(self, catalog: Catalog) -> Table:
        """Return what can be served of `catalog` now."""
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
        mapped = self._map.get(declared.name)
        if mapped is not None or declared.alias:
            return mapped or declared.alias or ""
        known = {name: name for name in by_service}
        found = find(declared, known)
        if found is None and len(idl.services) == 1:
            alike = [name for name in known if fold(name) == fold(idl.name)]
            found = alike[0] if alike else None
        return found or idl.name

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
            endpoint = find(method, by_name)
        else:
            endpoint = by_name.get(mapped.removeprefix(f"{service}{_DOT}"))
        if endpoint is None:
            wanted = mapped or method.alias or method.name
            raise Mismatch(
                f"{service} has no endpoint {wanted!r}; {_hint(wanted, by_name)}"
            )
        if endpoint.stream:
            raise Mismatch(
                f"{service}.{endpoint.name} is a stream, which has no form in Thrift"
            )
        if endpoint.schema and endpoint.name in types.refused:
            raise Mismatch(types.refused[endpoint.name])
        return serve_method(method, endpoint, types if endpoint.schema else None)


def _mappings(given: Iterable[str], idls: Iterable[Idl]) -> dict[str, str]:
    """Return what is mapped to what.

    Raises:
        FailedPrecondition: A mapping names nothing that is there.
        ValueError: A mapping is not written as one.
    """
    known = {
        name
        for idl in idls
        for service in idl
        for name in (
            service.name,
            *(f"{service.name}{_DOT}{method}" for method in service.methods),
        )
    }
    found = {}
    for item in given:
        name, separator, target = item.partition("=")
        if not (name and separator and target):
            raise ValueError(
                f"map must be such as AddService=addsvc or AddService.Sum=addsvc.sum,"
                f" not {item!r}"
            )
        if name not in known:
            raise FailedPrecondition(
                f"map: there is no {name!r} in the .thrift; {_hint(name, known)}"
            )
        found[name] = target
    return found


def _hint(name: str, known: Iterable[str]) -> str:
    listed = sorted(known)
    near = difflib.get_close_matches(name, listed, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(listed)}"
