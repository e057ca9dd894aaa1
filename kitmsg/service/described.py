"""Services without a class of their own: endpoints that are made at run time.

A gateway that puts a server elsewhere on the bus has declarations and, for each, an
endpoint; `described_service` makes a service of them that `Kit.serve` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitmsg.message import check_name
from kitmsg.schema.described import described
from kitmsg.service.declare import Declaration, Options, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kitmsg.endpoint import Endpoint

__all__ = ["describe", "described_service"]


def describe(
    service: str,
    name: str,
    *,
    request: dict[str, Any],
    response: dict[str, Any],
    doc: str = "",
    http: str = "",
    idempotent: bool = False,
    timeout: float | None = None,
    raises: Sequence[type[Exception]] = (),
) -> Declaration:
    """Return the declaration of an endpoint that takes and gives plain objects.

    Args:
        service: Name of the service.
        name: Name of the endpoint.
        request: JSON Schema of the request, an object.
        response: JSON Schema of the response.
        doc: What it does, in a sentence.
        http: Route, such as ``GET /orders/{id}``.
        idempotent: Whether doing it twice is as good as once.
        timeout: Longest turn, in seconds.
        raises: Exception classes that travel typed.

    Raises:
        InvalidArgument: `name` cannot be one on the bus.
    """
    check_name(name, f"an endpoint of {service}")
    options = Options(
        http=http, idempotent=idempotent, timeout=timeout, raises=tuple(raises)
    )
    types = described(name, owner=service, request=request, response=response, doc=doc)
    return Declaration(name, name, f"{service}.{name}", options, types)


def described_service(
    name: str,
    endpoints: Mapping[str, tuple[Declaration, Endpoint[Any, Any]]],
    *,
    version: str = "0.1.0",
    doc: str = "",
    metadata: Mapping[str, str] | None = None,
    stop: Callable[[], Awaitable[None]] | None = None,
) -> Service:
    """Return a service of endpoints that exist already.

    Args:
        name: Name on the bus.
        endpoints: Declaration and endpoint, by name.
        version: Semantic version.
        doc: Description in discovery.
        metadata: Text that INFO shows.
        stop: Called after the last turn.

    Raises:
        InvalidArgument: `name` cannot be one on the bus.
        ValueError: `version` is no semantic version.
    """

    class Made(Service):
        def __endpoint__(self, declaration: Declaration) -> Endpoint[Any, Any]:
            return endpoints[declaration.name][1]

        async def stop(self) -> None:
            if stop is not None:
                await stop()

    body: dict[str, Any] = {"__doc__": doc, "name": name, "version": version}
    cls: type[Service] = type(name, (Made,), body)
    cls.__declarations__ = {n: declared for n, (declared, _) in endpoints.items()}
    service = cls()
    service.metadata = dict(metadata or {})
    return service
