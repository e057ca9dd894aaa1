"""Sources of methods: the schemas on the bus, or a .proto of the user's own.

A method of the user's goes by its name,

    pb.Add            the service `add`, `Add`, `addsvc` or `add_service`
    pb.Add/SumAll     its endpoint `sum_all`, `SumAll` or `sumall`

or as `GatewayOptions.map` says.  It is checked against the live schema at the start and
whenever a service appears.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kitmsg.errors import FailedPrecondition
from kitmsg.idl.binding import Names, find_service, read_map
from kitmsg.idl.generated import Generator
from kitmsg.idl.service import shape_service
from kitmsg_gateways.grpc.bind import bind
from kitmsg_gateways.grpc.convert import Converters
from kitmsg_gateways.grpc.generate import descriptor, file_name
from kitmsg_gateways.grpc.layout import lay_out
from kitmsg_gateways.grpc.load import load
from kitmsg_gateways.grpc.methods import Table, make_method
from kitmsg_gateways.grpc.names import package_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import Message as Proto

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg.errors import KitError
    from kitmsg.idl.lock import Lock
    from kitmsg.idl.model import ServiceShapes
    from kitmsg_gateways.grpc.bind import Binding
    from kitmsg_gateways.grpc.layout import Layout
    from kitmsg_gateways.grpc.methods import Method
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["GeneratedSource", "UserSource"]


@dataclass(frozen=True, slots=True)
class _Served:
    """One service, laid out."""

    layout: Layout
    file: FileDescriptorProto
    methods: tuple[Method, ...]


class GeneratedSource:
    """Makes tables from schemas: no .proto is written.

    Args:
        options: `GatewayOptions.lock` has the numbers to begin with.

    Raises:
        FailedPrecondition: The lock cannot be read.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._generator = Generator(options.lock, _served, _left_out)

    def table(self, catalog: Catalog) -> Table:
        """Return the routing table; an endpoint that cannot be served is refused alone."""
        table = Table()
        owners: dict[str, str] = {}
        docs = {name: info.description for name, info in catalog.services.items()}
        for each in self._generator.services(catalog.endpoints, docs):
            service = f"/{package_name(each.shapes.service)}.{each.shapes.name}"
            table.refused += each.refused
            table.waiting |= {f"{service}/{m.name}": each.why for m in each.waiting}
            if each.result is not None:
                _add(table, each.shapes.service, each.result, owners)
        return table


def _left_out(shapes: ServiceShapes) -> list[str]:
    return [f"{why}; it is not served over gRPC" for why in shapes.refused.values()]


def _served(
    shapes: ServiceShapes, endpoints: Mapping[str, CatalogEndpoint], lock: Lock
) -> _Served:
    layout = lay_out(shapes, lock)
    converters = Converters(layout)
    methods = tuple(
        make_method(
            f"/{layout.full_name}/{rpc.name}",
            layout,
            converters,
            rpc,
            endpoints[rpc.endpoint],
        )
        for rpc in layout.rpcs
    )
    return _Served(layout, descriptor(layout), methods)


def _add(table: Table, service: str, served: _Served, owners: dict[str, str]) -> None:
    """Put a service into the table, unless another has its package."""
    layout = served.layout
    owner = owners.setdefault(file_name(layout), service)
    if owner != service:
        table.refused.append(
            f"{service} is not served: {owner} has the package {layout.package!r} too;"
            " rename one"
        )
        return
    table.services[layout.full_name] = service
    table.files.append(served.file)
    table.methods |= {method.path: method for method in served.methods}


@dataclass(frozen=True, slots=True)
class _Checked:
    """A method, or why it does not fit."""

    endpoint: CatalogEndpoint
    method: Method | None
    problems: tuple[str, ...]


class UserSource:
    """Makes tables from the user's own .proto.

    Args:
        options: Files, folders and the mapping.

    Raises:
        FailedPrecondition: A file cannot be read or compiled, or says nothing to serve.
        ValueError: The mapping does not fit the files.
    """

    def __init__(self, options: GatewayOptions) -> None:
        self._protos = load(options.proto, options.proto_path)
        if not self._protos.services:
            raise FailedPrecondition(
                f"{', '.join(options.proto)} defines no service; give the file that does"
            )
        methods = {
            service.full_name: [method.name for method in service.methods]
            for service in self._protos.services
        }
        self._map = read_map(options.map, methods, "/", ".proto")
        self._checked: dict[str, _Checked] = {}

    def table(self, catalog: Catalog) -> Table:
        """Return the routing table, with the reasons for methods that cannot be served."""
        table = Table(files=list(self._protos.files))
        endpoints: dict[str, dict[str, CatalogEndpoint]] = {}
        for endpoint in catalog.endpoints:
            endpoints.setdefault(endpoint.service, {})[endpoint.name] = endpoint
        names = {service: Names(own) for service, own in endpoints.items()}
        for service in self._protos.services:
            name = service.full_name
            there = self._map.get(name) or find_service(
                [service.name], catalog.services
            )
            table.services[name] = there if there in catalog.services else ""
            for method in service.methods:
                target = self._map.get(f"{name}/{method.name}", "")
                owner, _, own = target.partition(".")
                self._add(table, method, owner or there, own or method.name, names)
        return table

    def _add(
        self,
        table: Table,
        method: MethodDescriptor,
        service: str,
        name: str,
        names: Mapping[str, Names[CatalogEndpoint]],
    ) -> None:
        """Put a method into the table, if it can be served."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        endpoint = names[service].find(name) if service in names else None
        if endpoint is None:
            if service not in names:  # or its schemas are still being fetched
                table.waiting[path] = (
                    f"no instance of the service behind {path} is there"
                )
            else:
                table.refused.append(
                    f"{method.full_name}: {service} has no endpoint {method.name!r}; name"
                    f" one with --map {path[1:]}=SERVICE.ENDPOINT"
                )
            return
        checked = self._checked.get(path)
        if checked is None or checked.endpoint != endpoint:
            checked = self._checked[path] = _check(path, method, endpoint)
        if checked.method is not None:
            table.methods[path] = checked.method
            table.services[method.containing_service.full_name] = endpoint.service
        else:
            table.waiting[path] = f"the service behind {path} does not fit its .proto"
            table.refused += checked.problems


def _check(path: str, method: MethodDescriptor, endpoint: CatalogEndpoint) -> _Checked:
    shapes = shape_service(endpoint.service, [endpoint])
    if shapes.refused:
        return _Checked(endpoint, None, tuple(shapes.refused.values()))
    found = bind(method, shapes, shapes.methods[0])
    if found.problems:
        return _Checked(endpoint, None, tuple(found.problems))
    return _Checked(endpoint, _made(path, found, endpoint), ())


def _made(path: str, found: Binding, endpoint: CatalogEndpoint) -> Method:
    converters = found.converters()
    method = make_method(path, found.layout, converters, found.rpc, endpoint)
    if not found.error_field or method.gives_stream:
        return method
    error_reply = _error_reply(converters.of(found.rpc.output).type, found.error_field)
    return replace(method, error_reply=error_reply)


def _error_reply(reply: type[Proto], field: str) -> Callable[[KitError], bytes]:
    def encode(error: KitError) -> bytes:
        data: bytes = reply.SerializeToString(reply(**{field: str(error)}))
        return data

    return encode
