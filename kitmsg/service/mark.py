"""The decorator ``@endpoint``: a method, and the options that it is served with."""

from __future__ import annotations

from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from kitmsg.service.declaration import Options, chosen
from kitmsg.service.methods import as_method

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Coroutine,
        Sequence,
    )
    from functools import partialmethod

    from kitmsg.auth.allow import Policy
    from kitmsg.context import Context
    from kitmsg.endpoints import Middleware

__all__ = ["endpoint", "marked", "options_of"]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_SPEC: Final = "__kit_endpoint__"


class _Decorator(Protocol):
    # A coroutine function keeps its type; a plain one becomes awaitable, since it runs in
    # a thread; a stream can be closed.  A `Context` that comes first is not for the caller
    # to give.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, method: Callable[Concatenate[S, Context, P], AsyncIterator[R]], /
    ) -> Callable[Concatenate[S, P], AsyncGenerator[R, None]]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[S, Context, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[S, Context, P], R], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, method: Callable[Concatenate[S, P], AsyncIterator[R]], /
    ) -> Callable[Concatenate[S, P], AsyncGenerator[R, None]]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(
        self, method: Callable[Concatenate[S, P], R], /
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...


@overload
def endpoint(
    method: partialmethod[R], /
) -> Callable[..., Coroutine[Any, Any, Any]]: ...
@overload
def endpoint(  # type: ignore[overload-overlap]
    method: Callable[Concatenate[S, Context, P], AsyncIterator[R]], /
) -> Callable[Concatenate[S, P], AsyncGenerator[R, None]]: ...
@overload
def endpoint(
    method: Callable[Concatenate[S, Context, P], Coroutine[Any, Any, R]], /
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
@overload
def endpoint(
    method: Callable[Concatenate[S, Context, P], R], /
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
@overload
def endpoint(  # type: ignore[overload-overlap]
    method: Callable[Concatenate[S, P], AsyncIterator[R]], /
) -> Callable[Concatenate[S, P], AsyncGenerator[R, None]]: ...
@overload
def endpoint(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
@overload
def endpoint(
    method: Callable[Concatenate[S, P], R], /
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
@overload
def endpoint(
    *,
    name: str = "",
    http: str = "",
    idempotent: bool = False,
    timeout: float | None = None,
    middleware: Sequence[Middleware] = (),
    raises: Sequence[type[Exception]] = (),
    wire: Literal["kit", "gokit"] = "kit",
    subject: str = "",
    unknown_fields: Literal["forbid", "ignore"] = "forbid",
    cache: int | None = None,
    status: int = 200,
    internal: bool = False,
    durable: bool = False,
    allow: Policy | Callable[[Context], bool | Awaitable[bool]] | None = None,
) -> _Decorator: ...
def endpoint(method: Any = None, /, **options: Any) -> Any:
    """Make a method of a `Service` an endpoint.

    A plain ``def`` runs in a thread, so blocking code is safe in it; it is awaited by
    whoever calls it.  One whose result is ``AsyncIterator[T]`` streams its items, one with
    such a parameter takes those of its caller.

    Args:
        method: The method, when used without brackets.
        name: Name in discovery and in the subject; the method's own by default.
        http: Route at the HTTP gateway, such as ``GET /orders/{id}``.
        idempotent: Whether a second call does no harm, so that a caller may retry.
        timeout: Longest turn, in seconds; also a caller's default.
        middleware: Around this endpoint, inside the service's; the first is outermost.
        raises: Exception classes that travel typed to the caller.
        wire: ``kit``, or ``gokit`` to speak as Go kit's NATS transport does.
        subject: Where requests arrive; ``{service}.{endpoint}`` by default.
        unknown_fields: ``forbid`` or ``ignore`` fields of a request nobody declared.
        cache: Seconds for which an HTTP client may keep the answer of a ``GET`` route;
            0 to have it ask each time whether it changed.
        status: HTTP status of a result, such as 201; one of None is 204 if this is 200.
        internal: Whether it is for callers on the bus alone: no gateway serves it or
            names it.
        durable: Whether it may be told as well as asked (`Kit.tell`): the stream of its
            service keeps what it is told until it has returned.
        allow: Policy that says who may call (`kitmsg.auth.allow`), or a function of the
            context, plain or async, that does; by default the service's.
        **options: The arguments from `name` on.

    Raises:
        TypeError: An option is not known or does not have the right type.
        ValueError: `timeout` is not positive, `http` is no route, `status` is none of a
            success, or `cache` is no whole number of seconds or goes with another route
            than ``GET``.
    """
    if method is not None:
        return marked(method, Options())
    picked = chosen(options)
    return lambda method: marked(method, picked)


def marked(member: Any, options: Options) -> Any:
    """Return a member of a class as a method that is an endpoint with `options`.

    Raises:
        TypeError: It is no method.
    """
    method = as_method(member)
    setattr(method, _SPEC, options)
    return method


def options_of(member: Any) -> Options | None:
    """Return the options of a member that is an endpoint; None for any other."""
    inner = getattr(member, "__func__", member)  # under @staticmethod or @classmethod
    found = getattr(inner, _SPEC, None)
    return found if isinstance(found, Options) else None
