"""The typed teller: a service's own methods, stored to be done rather than called."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from kitmsg.codec import MSGPACK
from kitmsg.errors import InvalidArgument
from kitmsg.service.declare import Declaration, Service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.events.tells import Teller

__all__ = ["make_teller"]

S = TypeVar("S", bound=Service)


class _Told:
    """Stands for a service that is told; its attributes are its durable endpoints."""

    def __init__(self, service: type[Service]) -> None:
        self.__service = service

    def __getattr__(self, name: str) -> Any:
        known = self.__service.__declarations__.values()
        if any(d.attribute == name for d in known):
            raise AttributeError(
                f"{self.__service.__name__}.{name} cannot be told; write"
                " @endpoint(durable=True) before it"
            )
        durable = [d.attribute for d in known if d.options.durable]
        raise AttributeError(
            f"{self.__service.__name__} has no endpoint {name!r}; it may be told:"
            f" {', '.join(durable) or 'nothing'}"
        )

    def __repr__(self) -> str:
        return f"<teller of {self.__service.name}>"


def make_teller(service: type[S], teller: Teller) -> S:
    """Return an object with the durable endpoints of `service`, which returns once stored.

    Raises:
        TypeError: `service` is no class of a service.
    """
    given: object = service
    if not (isinstance(given, type) and issubclass(given, Service)):
        raise TypeError(f"{service!r} is no class of a service; give a kitmsg.Service")
    told = _Told(service)
    for attribute, method in _methods(given):  # type: ignore[arg-type]  # mypy: a class is hashable
        setattr(told, attribute, functools.partial(method, teller))
    return cast("S", told)


_Method: TypeAlias = "Callable[..., Awaitable[None]]"


@functools.cache
def _methods(service: type[Service]) -> tuple[tuple[str, _Method], ...]:
    """Return the durable endpoints of a class, as functions of a teller and arguments."""
    return tuple(
        (declaration.attribute, _method(declaration))
        for declaration in service.__declarations__.values()
        if declaration.options.durable
    )


def _method(declaration: Declaration) -> _Method:
    signature = declaration.signature
    encode = signature.request_encoder(MSGPACK)
    decode = signature.request_decoder(MSGPACK)

    async def tell(teller: Teller, /, *args: Any, **kwargs: Any) -> None:
        request = signature.bind(*args, **kwargs)
        try:
            data = encode(request)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{signature.where}: {error}") from error
        decode(data)  # refused here rather than a dead letter there
        await teller.tell(declaration.name, data, MSGPACK.content_type)

    return tell
