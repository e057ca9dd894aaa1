"""Dependency injection by a constructor's annotations: clients, metrics, the kit.

    class Orders(Service):
        def __init__(self, inventory: Inventory) -> None: ...

    await kit.serve(Orders)  # makes Orders(kit.client(Inventory))

Only what can mean one thing is filled in.  Anything else needs a default, or a function
that makes the service.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, get_type_hints

from kitmsg.errors import InvalidArgument
from kitmsg.metrics.provider import Provider
from kitmsg.service.declare import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    Made: TypeAlias = Service | Callable[[], Service]

__all__ = ["Clients", "injected", "made_by", "needed_by"]


class Clients(Protocol):
    """Makes clients; a `kitmsg.service.kit.Kit`."""

    @property
    def metrics(self) -> Provider:
        """Makes counters, gauges and histograms."""
        ...

    def client(self, target: type[Any], /) -> Any:
        """Return a client of a service."""
        ...


def injected(service: Service | Callable[..., Service], kit: Clients) -> Made:
    """Return `service`; a class or function, as one that needs no more arguments.

    A parameter annotated with a service class gets a client of it, one annotated with
    `Kit` gets `kit`, one with `kitmsg.metrics.Provider` its metrics; those with a default
    are left alone.

    Args:
        service: An instance, or the class or function that makes one.
        kit: Where the clients call.

    Raises:
        InvalidArgument: A parameter is neither; the message names it.
    """
    if isinstance(service, Service) or not callable(service):
        return service
    found: dict[str, Any] = {}
    missing: list[str] = []
    hints = _hints(service)
    for name in _required(service):
        wanted = hints.get(name)
        if inspect.isclass(wanted) and issubclass(wanted, Service):
            found[name] = kit.client(wanted)
        elif inspect.isclass(wanted) and isinstance(kit, wanted):
            found[name] = kit
        elif wanted is Provider:
            found[name] = kit.metrics
        else:
            missing.append(name)
    if missing:
        raise _unknown(service, missing)
    return functools.partial(service, **found) if found else service


def made_by(service: Service | Callable[..., Service]) -> type[Service] | None:
    """Return the class of what is served, as far as it can be known before it is made."""
    if isinstance(service, Service):
        return type(service)
    function: Any = inspect.unwrap(service)
    made = function if inspect.isclass(function) else _hints(service).get("return")
    if inspect.isclass(made) and issubclass(made, Service) and made is not Service:
        return made
    return None


def needed_by(service: Service | Callable[..., Service]) -> list[type[Service]]:
    """Return the services that `injected` gives clients of."""
    if isinstance(service, Service) or not callable(service):
        return []
    hints = _hints(service)
    wanted = [hints.get(name) for name in _required(service)]
    return [w for w in wanted if inspect.isclass(w) and issubclass(w, Service)]


def _required(service: Callable[..., Service]) -> list[str]:
    """Return the names of the parameters that must be given."""
    try:
        parameters = inspect.signature(service).parameters.values()
    except ValueError:  # written in C, so no service of anybody's
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


def _hints(service: Callable[..., Service]) -> dict[str, Any]:
    function: Any = inspect.unwrap(service)
    if inspect.isclass(function):
        function = function.__init__
    try:
        return get_type_hints(function)
    except (NameError, TypeError):  # imported for type checkers only, or no function
        return {}


def _unknown(service: Callable[..., Service], names: list[str]) -> InvalidArgument:
    what = getattr(inspect.unwrap(service), "__name__", repr(service))
    listed = ", ".join(map(repr, names))
    return InvalidArgument(
        f"{what} needs {listed}; only services, the kit and a metrics Provider are given by"
        " themselves."
        " Give a default, or serve a function that makes the service"
    )
