"""Services without a class of their own: endpoints that are made at run time.

A gateway that puts a server elsewhere on the bus has declarations and, for each, an
endpoint; `described_service` makes a service of them that `Kit.serve` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kitmsg.message import check_name
from kitmsg.schema.described import described
from kitmsg.service.declaration import Declaration, Options
from kitmsg.service.declare import Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kitmsg.endpoints import Endpoint

__all__ = ["describe", "described_service"]


def describe(
    service: str,
    name: str,
    *,
    request: dict[str, Any],
    response: dict[str, Any],
    items: dict[str, Any] | None = None,
    gives_items: bool = False,
    doc: str = "",
    http: str = "",
    idempotent: bool = False,
    timeout: float | None = None,
    raises: Sequence[type[Exception]] = (),
) -> Declaration:
    """Return the declaration of an endpoint that takes and gives plain values.

    Its endpoint is called with a dict that fits `request`, and bytes stand for base64.
    One that streams is called with a `kitmsg.schema.calls.StreamRequest`, and returns an
    asynchronous iterator if it gives items.

    Args:
        service: Name of the service.
        name: Name of the endpoint.
        request: JSON Schema of the request, an object.
        response: JSON Schema of the response, or of each item of a stream out.
        items: JSON Schema of each item of a stream in; None without.
        gives_items: Whether it answers with a stream.
        doc: What it does, in a sentence.
        http: Route, such as ``GET /orders/{id}``.
        idempotent: Whether doing it twice is as good as once.
        timeout: Longest turn, in seconds.
        raises: Exception classes that travel typed.

    Raises:
        ValueError: `name` cannot be one on the bus.
    """
    check_name(name, f"an endpoint of {service}")
    options = Options(
        http=http, idempotent=idempotent, timeout=timeout, raises=tuple(raises)
    )
    types = described(
        name,
        owner=service,
        request=request,
        response=response,
        items=items,
        gives_items=gives_items,
        doc=doc,
    )
    return Declaration(name, name, f"{service}.{name}", options, types)


def described_service(
    name: str,
    endpoints: Mapping[str, tuple[Declaration, Endpoint[Any, Any]]],
    *,
    version: str = "0.1.0",
    doc: str = "",
    stop: Callable[[], Awaitable[None]] | None = None,
    settings: Mapping[str, Any] | None = None,
    around: Callable[[str], Endpoint[Any, Any]] | None = None,
) -> Service:
    """Return a service of endpoints that exist already.

    Args:
        name: Name on the bus.
        endpoints: Declaration and endpoint, by name.
        version: Semantic version.
        doc: Description in discovery.
        stop: Called after the last turn.
        settings: Other attributes of `Service`, such as `metadata` or `concurrency`.
        around: Returns an endpoint in middlewares of its maker, by its name; called where
            the service is served, with the bus at hand.

    Raises:
        ValueError: `name` cannot be one on the bus, or `version` is no semantic version.
    """

    class Made(Service):
        def __endpoint__(self, declaration: Declaration) -> Endpoint[Any, Any]:
            name = declaration.name
            return endpoints[name][1] if around is None else around(name)

        async def stop(self) -> None:
            if stop is not None:
                await stop()

    own = {"__doc__": doc, "name": name, "version": version}
    body: dict[str, Any] = {**(settings or {}), **own}
    cls: type[Service] = type(name, (Made,), body)
    cls.__declarations__ = {n: declared for n, (declared, _) in endpoints.items()}
    return cls()
