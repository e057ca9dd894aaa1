"""Calls a method with the fields of a request: the server's side of a signature.

There is one closure per shape of signature, because each runs for every call.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

from kitmsg.threads import in_thread

__all__ = ["Adapter", "Shape", "StreamRequest", "adapt"]

Adapter: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
"""Takes the context and the request; runs the method."""


class StreamRequest:
    """Request of an endpoint that streams.

    Attributes:
        request: The parameters that are no stream, as for any endpoint.
        items: What the caller streams; None if nothing.
        send: Sends all of an iterator to the caller, where the endpoint does that itself;
            None where it returns the iterator.
        has_begun: Whether an item was sent or taken, so that a call with this request
            cannot be made again.
    """

    __slots__ = ("has_begun", "items", "request", "send")

    def __init__(self, request: Any, items: AsyncIterator[Any] | None) -> None:
        self.request = request
        self.items = items
        self.send: Callable[[AsyncIterator[Any]], Awaitable[None]] | None = None
        self.has_begun = False


class Shape(NamedTuple):
    """The parameters of a method, as the fields of its request are passed to them.

    Attributes:
        names: Its parameters that are fields of the request, in order.
        is_single: Whether the one parameter is the request itself.
        context: Name of the parameter that takes the context; "" for none.
        context_at: Its position among all parameters; -1 without one.
        by_name: Whether there are keyword-only parameters.
        is_async: Whether the method is a coroutine function.
        streams: Whether it takes a stream or gives one.
        items: Name of the parameter that takes a stream; "" for none.
        is_wrapped: Whether a coroutine function is underneath, so that what is called
            never blocks but may hide a coroutine.
    """

    names: tuple[str, ...]
    is_single: bool
    context: str
    context_at: int
    by_name: bool
    is_async: bool
    streams: bool = False
    items: str = ""
    is_wrapped: bool = False


def adapt(method: Callable[..., Any], shape: Shape) -> Adapter:
    """Return a function from context and request to the awaited result of `method`.

    A plain ``def`` runs in a thread, with the context variables of the caller; see
    `kitmsg.threads`.  One that streams takes a `StreamRequest`.
    """
    if shape.streams:
        return _streaming(method, shape)
    call = _choose(shape)(method, shape)
    if shape.is_async:
        return call
    return _unwrapped(call) if shape.is_wrapped else _threaded(call)


_Call: TypeAlias = Callable[[Any, Any], Any]


def _choose(shape: Shape) -> Callable[[Callable[..., Any], Shape], _Call]:
    if shape.by_name:
        return _by_name
    if shape.context:
        return _single_with_context if shape.is_single else _with_context
    return _single if shape.is_single else _fields


def _single(method: Callable[..., Any], _: Shape) -> _Call:
    return lambda ctx, request: method(request)


def _single_with_context(method: Callable[..., Any], shape: Shape) -> _Call:
    if shape.context_at == 0:
        return method
    return lambda ctx, request: method(request, ctx)


def _fields(method: Callable[..., Any], shape: Shape) -> _Call:
    if not shape.names:
        return lambda ctx, request: method()
    get = attrgetter(*shape.names)
    if len(shape.names) == 1:
        return lambda ctx, request: method(get(request))
    return lambda ctx, request: method(*get(request))


def _with_context(method: Callable[..., Any], shape: Shape) -> _Call:
    names, at = shape.names, shape.context_at

    def call(ctx: Any, request: Any) -> Any:
        values = [getattr(request, name) for name in names]
        values.insert(at, ctx)
        return method(*values)

    return call


def _by_name(method: Callable[..., Any], shape: Shape) -> Callable[..., Any]:
    names, context, is_single = shape.names, shape.context, shape.is_single

    def call(ctx: Any, request: Any, **values: Any) -> Any:
        if context:
            values[context] = ctx
        for name in names:
            values[name] = request if is_single else getattr(request, name)
        return method(**values)

    return call


def _streaming(method: Callable[..., Any], shape: Shape) -> Adapter:
    rest = _by_name(method, shape)
    items = shape.items

    async def run(ctx: Any, request: StreamRequest) -> Any:
        given = {items: request.items} if items else {}
        result = rest(ctx, request.request, **given)
        # A generator function gives its iterator at once, a coroutine function awaited.
        return await result if inspect.isawaitable(result) else result

    return run


def _unwrapped(call: _Call) -> Adapter:
    async def run(ctx: Any, request: Any) -> Any:
        result = call(ctx, request)
        return await result if inspect.isawaitable(result) else result

    return run


def _threaded(call: _Call) -> Adapter:
    async def run(ctx: Any, request: Any) -> Any:
        result = await in_thread(call, ctx, request)
        # A decorator may hide that the method is async.
        return await result if inspect.isawaitable(result) else result

    return run
