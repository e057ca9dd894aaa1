"""Methods of a .proto of the user's own, mapped to endpoints by their names.

    pb.Add            the service `add`, `Add`, `addsvc` or `add_service`
    pb.Add/SumAll     its endpoint `sum_all`, `SumAll` or `sumall`

or as `GatewayOptions.map` says.  Each method is checked against the live schema at the
start and whenever a service appears.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from google.protobuf.message_factory import GetMessageClass

from kitmsg.errors import FailedPrecondition
from kitmsg.idl.naming import plain
from kitmsg.idl.service import shape_service
from kitmsg_gateways.grpc.coders import make_method
from kitmsg_gateways.grpc.convert import Converters
from kitmsg_gateways.grpc.fit import ERROR_FIELD, fit
from kitmsg_gateways.grpc.protofile import load
from kitmsg_gateways.grpc.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message as Proto

    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint
    from kitmsg.errors import KitError
    from kitmsg_gateways.grpc.fit import Fit
    from kitmsg_gateways.grpc.method import Method
    from kitmsg_gateways.grpc.options import GatewayOptions

__all__ = ["UserSource"]

_SUFFIX: Final = re.compile(r"(?<=.)(service|server|svc)$")
_TARGET: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")


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
        self._map = _parsed(options.map, self._protos.services)
        self._checked: dict[str, _Checked] = {}

    def table(self, catalog: Catalog) -> Table:
        """Return what can be served of `catalog`, and why the rest cannot."""
        table = Table(files=list(self._protos.files))
        endpoints = {(e.service, plain(e.name)): e for e in catalog.endpoints}
        for service in self._protos.services:
            name = service.full_name
            there = self._map.get(name) or _named(name, catalog.services)
            table.services[name] = there if there in catalog.services else ""
            for method in service.methods:
                path = f"/{name}/{method.name}"
                target = self._map.get(f"{name}/{method.name}", "")
                owner, _, own = target.partition(".")
                key = (owner or there, plain(own or method.name))
                self._add(table, path, method, key, endpoints.get(key), catalog)
        return table

    def _add(
        self,
        table: Table,
        path: str,
        method: MethodDescriptor,
        key: tuple[str, str],
        endpoint: CatalogEndpoint | None,
        catalog: Catalog,
    ) -> None:
        """Put a method into the table, if it can be served."""
        if endpoint is None:
            service = key[0] or method.containing_service.name
            table.waiting[path] = f"no instance of the service behind {path} is there"
            # One whose schemas are still being fetched has no endpoint yet.
            if any(known.service == key[0] for known in catalog.endpoints):
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
    found = fit(method, shapes, shapes.methods[0])
    if found.problems:
        return _Checked(endpoint, None, tuple(found.problems))
    return _Checked(endpoint, _made(path, found, endpoint), ())


def _made(path: str, found: Fit, endpoint: CatalogEndpoint) -> Method:
    classes = {name: GetMessageClass(d) for name, d in found.classes.items()}
    converters = Converters(found.layout, classes.__getitem__)
    method = make_method(path, found.layout, converters, found.rpc, endpoint)
    if not found.has_error_field or method.gives_stream:
        return method
    return replace(method, confess=_confession(classes[found.rpc.output]))


def _confession(reply: type[Proto]) -> Callable[[KitError], bytes]:
    def confess(error: KitError) -> bytes:
        data: bytes = reply(**{ERROR_FIELD: str(error)}).SerializeToString()
        return data

    return confess


def _named(name: str, services: Iterable[str]) -> str:
    """Return the service that goes by the name of a .proto's; "" for none."""
    wanted = name.rpartition(".")[2]
    services = tuple(services)
    for known in (plain, _stem):
        for service in services:
            if known(service) == known(wanted):
                return service
    return ""


def _stem(name: str) -> str:
    return _SUFFIX.sub("", plain(name.replace("-", "_")))


def _parsed(
    texts: Iterable[str], services: Iterable[ServiceDescriptor]
) -> dict[str, str]:
    """Return the mapping: full names of services or methods to names on the bus.

    Raises:
        ValueError: An entry is malformed, or names what no file has.
    """
    services = tuple(services)
    known = {s.full_name: 0 for s in services}
    known |= {f"{s.full_name}/{m.name}": 1 for s in services for m in s.methods}
    found: dict[str, str] = {}
    for text in texts:
        source, _, target = text.partition("=")
        if source not in known:
            listed = ", ".join(name for name, depth in known.items() if not depth)
            raise ValueError(
                f"map {text!r}: there is no {source!r} in the .proto; it has {listed}"
            )
        if not _TARGET.fullmatch(target) or target.count(".") != known[source]:
            form = "SERVICE.ENDPOINT" if known[source] else "SERVICE"
            raise ValueError(f"map {text!r}: write {source}={form}")
        found[source] = target
    return found
