"""Methods made from the schemas on the bus: nobody writes an IDL.

The text is generated and parsed again, so that what `kitmsg export thrift` gives to clients
is what is served.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from gateways.thrift.idl import generate, left_out
from gateways.thrift.load import parse
from gateways.thrift.match import find
from gateways.thrift.table import Served, Table, protocols, serve_method
from kitmsg.errors import FailedPrecondition, KitError
from kitmsg.schema.lock import Lock
from kitmsg.schema.shaping import shape_service

if TYPE_CHECKING:
    from gateways.thrift.options import GatewayOptions
    from gateways.thrift.protocol import Limits
    from kitmsg.discovery.catalog import Catalog, CatalogEndpoint

__all__ = ["GeneratedSource", "read_lock"]

_log = logging.getLogger("gateways.thrift")


class GeneratedSource:
    """Serves every service on the bus that says its types.

    Args:
        options: The lock, and the service that is meant without a name.
        limits: What a message may be.

    Raises:
        FailedPrecondition: The lock cannot be read.
    """

    def __init__(self, options: GatewayOptions, limits: Limits) -> None:
        self._lock = read_lock(options.lock)
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
        table.add_plain(self._plain)
        return table

    def _make(
        self, service: str, endpoints: list[CatalogEndpoint], doc: str
    ) -> _Methods:
        types = shape_service(service, endpoints, doc=doc)
        methods = _Methods(types.name, sorted(left_out(types).values()))
        try:
            idl = parse(generate([types], self._lock), service)
        except (ValueError, KitError) as exc:
            methods.refused.append(f"{service} is not served: {exc}")
            return methods
        (declared,) = idl
        methods.name = declared.name
        by_name = {endpoint.name: endpoint for endpoint in endpoints}
        for name, method in declared.methods.items():
            endpoint = find(method, by_name)
            if endpoint is not None:
                methods.served[name] = serve_method(method, endpoint, types)
        return methods


class _Methods:
    """What is served of one service."""

    def __init__(self, name: str, refused: list[str]) -> None:
        self.name = name
        self.refused = refused
        self.served: dict[str, Served] = {}


def read_lock(file: str) -> Lock:
    """Return the lock in a file; an empty one for "".

    Raises:
        FailedPrecondition: It cannot be read.
    """
    if not file:
        return Lock()
    try:
        return Lock.parse(Path(file).read_text(encoding="utf-8"), file)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise FailedPrecondition(f"the lock {file} cannot be used: {why}") from exc
