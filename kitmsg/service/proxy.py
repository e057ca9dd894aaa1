"""The typed client: a service's own methods, called over the bus."""

from __future__ import annotations

import dataclasses
import functools
from asyncio import get_running_loop
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from kitmsg.balance.routes import Route, direct
from kitmsg.bus.reach import at_site
from kitmsg.codec import MSGPACK, Codec
from kitmsg.context import NOWHERE, Context, entered
from kitmsg.endpoints import Endpoint, Middleware, chain
from kitmsg.message import encode_headers
from kitmsg.middleware.hedge import Hedge, fitting
from kitmsg.middleware.metrics import counts_calls
from kitmsg.service.declare import Declaration, Service
from kitmsg.service.peers import Call, Peers
from kitmsg.transport import gokit
from kitmsg.transport.caller import DEFAULT_TIMEOUT, After, Hint
from kitmsg.transport.client import Client
from kitmsg.transport.stream_client import StreamCall, StreamClient
from kitmsg.transport.traced import around
from kitmsg.transport.typed import decode_response, encode_item, encode_request
from kitmsg.wire import CALLER, CONTENT_TYPE, TIMEOUT, direct_subject

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from kitmsg.auth.signing import CallSigner
    from kitmsg.balance.fleet import Fleet
    from kitmsg.bus import Bus

__all__ = ["local_client", "make_client"]

S = TypeVar("S", bound=Service)

_RESERVED: Final = {name.lower() for name in (CALLER, CONTENT_TYPE, TIMEOUT)}


class _Proxy:
    """Stands for a service elsewhere; its attributes are the endpoints."""

    def __init__(self, service: type[Service]) -> None:
        self.__service = service

    def __getattr__(self, name: str) -> Any:
        known = ", ".join(d.attribute for d in self.__service.__declarations__.values())
        raise AttributeError(
            f"{self.__service.__name__} has no endpoint {name!r}; it has: {known}"
        )

    def __repr__(self) -> str:
        return f"<client of {self.__service.name}>"


def make_client(
    bus: Bus,
    service: type[S],
    *,
    timeout: float | None = None,
    middleware: Sequence[Middleware] = (),
    metadata: dict[str, str] | None = None,
    instance: str = "",
    codec: Codec | None = None,
    after: Sequence[After] = (),
    auth: CallSigner | None = None,
    hint: Hint | None = None,
    peers: Peers | None = None,
    breaker: bool = True,
    route: Route | None = None,
    fleet: Callable[[str], Fleet] | None = None,
) -> S:
    """Return an object with the endpoints of `service` as methods; see `Kit.client`.

    Raises:
        TypeError: `service` is no class of a service.
        ValueError: `timeout` is not positive, or `metadata` names a header that each call
            sets itself; there are a route and an instance; or no endpoint takes the field
            that the route goes by.
        InvalidArgument: `metadata` holds what cannot be a header.
    """
    given: object = service  # not everybody has a type checker
    if not (isinstance(given, type) and issubclass(given, Service)):
        raise TypeError(f"{service!r} is no class of a service; give a kitmsg.Service")
    proxy = _Proxy(service)
    fields = metadata or {}
    _check_metadata(fields)
    route = _checked(route, service, middleware, instance)
    for declaration in service.__declarations__.values():
        subject = declaration.subject
        name = f"{service.name}.{declaration.name}"
        if instance:
            subject = direct_subject(service.name, instance, subject)
        make: Callable[[Codec], Endpoint[Any, Any]] = functools.partial(
            _call_in,
            declaration=declaration,
            bus=bus,
            subject=subject,
            name=name,
            given_timeout=timeout,
            after=after,
            before=() if auth is None else (auth,),
            hint=hint,
            breaker=breaker,
            counts=not counts_calls(middleware),
        )
        if route is not None and fleet is not None:
            make = _routed(fleet(service.name), route, subject, name, make)
        most = _longest(declaration, timeout)
        is_open = codec is None and declaration.options.wire != "gokit"
        if is_open and peers is not None:
            peer = f"{service.name}.{instance}" if instance else service.name
            call: Endpoint[Any, Any] = peers.endpoint(
                peer, declaration.subject, make, most
            )
        else:
            call = make(codec or MSGPACK)
        call = _around(call, middleware, declaration, bus, most)
        call = _spanned(call, declaration, name, is_one=not middleware and not route)
        method = _method(call, declaration, name, fields)
        setattr(proxy, declaration.attribute, method)
    return cast("S", proxy)


def _checked(
    route: Route | None,
    service: type[Service],
    middleware: Sequence[Middleware],
    instance: str,
) -> Route | None:
    """Return the route of a client; raises as `make_client`."""
    if route is not None and instance:
        raise ValueError(f"instance={instance!r} leaves no choice to a route; give one")
    if route is None and not instance and any(isinstance(m, Hedge) for m in middleware):
        return direct()  # a hedge is for another instance
    if route is not None and route.field:
        _check_field(route, service)
    return route


def _check_field(route: Route, service: type[Service]) -> None:
    """Raise a `ValueError` where no request has the field that a route goes by."""
    known: dict[str, None] = {}
    for declaration in service.__declarations__.values():
        found = _fields_of(declaration)
        if found is None:  # it may have any
            return
        known |= dict.fromkeys(found)
    if route.field not in known:
        raise ValueError(
            f"{route.spec}: no endpoint of {service.name} takes {route.field!r}; they take"
            f" {', '.join(known) or 'nothing'}"
        )


def _fields_of(declaration: Declaration) -> Sequence[str] | None:
    signature = declaration.signature
    if not signature.is_single:
        return signature.parameters
    type_ = signature.request
    if dataclasses.is_dataclass(type_):
        return [each.name for each in dataclasses.fields(type_)]
    found: Sequence[str] | None = getattr(type_, "__struct_fields__", None)
    return found


def local_client(service: type[S], calls: Mapping[str, Endpoint[Any, Any]]) -> S:
    """Return an object with the methods of `service`, carried out by endpoints at hand.

    Args:
        service: The class.
        calls: An endpoint for each of its endpoints, by name.
    """
    proxy = _Proxy(service)
    for name, declaration in service.__declarations__.items():
        method = _method(calls[name], declaration, f"{service.name}.{name}", {})
        setattr(proxy, declaration.attribute, method)
    return cast("S", proxy)


def _around(
    call: Endpoint[Any, Any],
    middleware: Sequence[Middleware],
    declaration: Declaration,
    bus: Bus,
    most: float | None,
) -> Endpoint[Any, Any]:
    """Return `call` in its middleware, with one deadline over all that this does."""
    around = fitting(middleware, idempotent=declaration.options.idempotent)
    with at_site(declaration.site(bus)):
        wrapped = chain(*around)(call)
    seconds = most or declaration.options.timeout
    if not around or seconds is None:
        return wrapped

    def limited(ctx: Context, request: Any) -> Awaitable[Any]:
        deadline = get_running_loop().time() + seconds
        if ctx.deadline is None or deadline < ctx.deadline:
            ctx.deadline = deadline
        return wrapped(ctx, request)

    return limited


def _spanned(
    call: Endpoint[Any, Any], declaration: Declaration, name: str, *, is_one: bool
) -> Endpoint[Any, Any]:
    """Return `call` with one span over all its tries.

    `is_one`: there is one try, which has its own span; a stream's outlives its opening.
    """
    if is_one or declaration.signature.stream:
        return call
    return around(call, name, declaration.subject)


def _routed(
    fleet: Fleet, route: Route, subject: str, name: str, make: Callable[..., Any]
) -> Callable[[Codec], Endpoint[Any, Any]]:
    """Return what makes a routed call in a codec."""

    def routed(codec: Codec) -> Endpoint[Any, Any]:
        def at(where: str) -> Endpoint[Any, Any]:
            # Nobody is asked who is there: the route knows.
            hint = {} if where == subject else {"hint": None}
            return cast("Endpoint[Any, Any]", make(codec, subject=where, **hint))

        return fleet.routed(route, subject, name, at)

    return routed


def _call_in(
    codec: Codec,
    *,
    declaration: Declaration,
    bus: Bus,
    subject: str,
    given_timeout: float | None,
    after: Sequence[After],
    **options: Any,
) -> Endpoint[Any, Any]:
    """Return the call of one endpoint in `codec`."""
    options |= _coders(declaration, codec)
    options["raises"] = declaration.options.raises
    if not declaration.signature.stream:
        timeout = _timeout(declaration, given_timeout)
        return Client[Any, Any](
            bus, subject, timeout=timeout, after=after, **options
        ).endpoint()
    # What the endpoint declares is for the whole stream; what a client is given is for
    # its asks, and so for the opening of a stream.
    return StreamClient(
        bus,
        subject,
        timeout=DEFAULT_TIMEOUT if given_timeout is None else given_timeout,
        lifetime=declaration.options.timeout,
        gives_items=declaration.signature.gives_items,
        **options,
    ).endpoint()


def _longest(declaration: Declaration, given: float | None) -> float | None:
    """Return the seconds that an ask may take; None for a stream."""
    return None if declaration.signature.stream else _timeout(declaration, given)


def _timeout(declaration: Declaration, given: float | None) -> float:
    if given is not None:
        return given
    return declaration.options.timeout or DEFAULT_TIMEOUT


def _check_metadata(fields: Mapping[str, str]) -> None:
    """Refuse headers that a call writes itself, or that cannot be sent."""
    for name in fields:
        if name.lower() in _RESERVED or name.lower().startswith("nats-"):
            raise ValueError(f"metadata may not set {name}: each call does that itself")
    encode_headers(fields)


def _coders(declaration: Declaration, codec: Codec) -> dict[str, Any]:
    signature = declaration.signature
    if declaration.options.wire == "gokit":
        return {
            "encode": gokit.encode_request(signature),
            "decode": gokit.decode_response(signature),
            "error_decoder": gokit.decode_error,
        }
    coders: dict[str, Any] = {
        "encode": encode_request(signature, codec),
        "decode": decode_response(signature),
    }
    if signature.stream:
        takes = signature.takes_items
        coders["encode_item"] = encode_item(signature, codec) if takes else None
    return coders


class _Fixed:
    """A call that is what it is, in the shape of a `Call`."""

    __slots__ = ("current",)

    def __init__(self, call: Endpoint[Any, Any]) -> None:
        self.current = call


def _method(
    call: Endpoint[Any, Any],
    declaration: Declaration,
    name: str,
    metadata: dict[str, str],
) -> Callable[..., Awaitable[Any]]:
    signature = declaration.signature
    bind = signature.bind_stream if signature.stream else signature.bind
    make = signature.quick_bind or bind
    at = call if isinstance(call, Call) else _Fixed(call)

    async def method(*args: Any, **kwargs: Any) -> Any:
        # `current().child(name)`, in one step for a call made outside any turn.
        here = entered(NOWHERE)
        ctx = Context(endpoint=name) if here is NOWHERE else here.child(name)
        if metadata:
            ctx.metadata = {**ctx.metadata, **metadata}
        try:
            request = make(*args, **kwargs)
        except TypeError:
            request = bind(*args, **kwargs)  # it says what is wrong
        return await at.current(ctx, request)

    if signature.gives_items:
        method = _stream_method(method)
    method.__name__ = declaration.attribute
    method.__qualname__ = f"{declaration.signature.owner}.{declaration.attribute}"
    method.__doc__ = declaration.signature.doc
    return method


def _stream_method(open_: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Return a method that opens its stream when that is first read."""

    def method(*args: Any, **kwargs: Any) -> StreamCall[Any]:
        return StreamCall(functools.partial(open_, *args, **kwargs))

    return method
