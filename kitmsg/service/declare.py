"""What a service class says of itself: endpoints, limits, lifecycle.

All of it is read when the class is defined; a mistake is a `TypeError` or `ValueError`
there, not a failed call later.
"""

from __future__ import annotations

import functools
import inspect
import re
from dataclasses import dataclass
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Final,
    Literal,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from kitmsg.discovery.subject import check_version
from kitmsg.errors import Code, code_of
from kitmsg.message import check_name, check_subject
from kitmsg.schema import Signature, error_schema, signature
from kitmsg.schema.errortype import need_exception
from kitmsg.schema.jsonschema import digest
from kitmsg.schema.places import HEADER_KEY
from kitmsg.schema.pointers import resolve
from kitmsg.threads import in_thread
from kitmsg.transport.stream_server import MAX_STREAMS
from kitmsg.transport.transfer import MAX_BYTES
from kitmsg.wire import MAX_TIMEOUT, Meta

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Collection,
        Coroutine,
        Mapping,
        Sequence,
    )

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Middleware

__all__ = [
    "DEFAULTS",
    "Declaration",
    "Service",
    "Supervision",
    "endpoint",
    "service_name",
]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

_SPEC: Final = "__kit_endpoint__"
_OK: Final = 200
_STATUSES: Final = frozenset({200, 201, 202, 203, 207, 208, 226})
_MAX_CACHE: Final = 31_536_000  # a year; caches take more for a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What ``@endpoint(...)`` was told; fields as its arguments."""

    name: str = ""
    http: str = ""
    idempotent: bool = False
    timeout: float | None = None
    middleware: tuple[Middleware, ...] = ()
    raises: tuple[type[Exception], ...] = ()
    wire: Literal["kit", "gokit"] = "kit"
    subject: str = ""
    unknown_fields: Literal["forbid", "ignore"] = "forbid"
    cache: int | None = None
    status: int = 200


@dataclass(frozen=True, slots=True)
class Declaration:
    """One endpoint of a service class.

    Attributes:
        name: Name in discovery and in the subject.
        attribute: Name of the method.
        subject: Where requests arrive.
        options: What the decorator was told.
        signature: What the method takes and gives.
    """

    name: str
    attribute: str
    subject: str
    options: Options
    signature: Signature

    def metadata(self) -> dict[str, str]:
        """Return what INFO says of it beside name and subject: text by name."""
        options = self.options
        facts = {
            Meta.SCHEMA: self.describe()["hash"],
            Meta.HTTP: options.http,
            Meta.IDEMPOTENT: "true" if options.idempotent else "",
            Meta.TIMEOUT: "" if options.timeout is None else f"{options.timeout:g}",
            Meta.CACHE: "" if options.cache is None else str(options.cache),
            Meta.STATUS: "" if options.status == _OK else str(options.status),
            Meta.STREAM: self.signature.stream,
            Meta.WIRE: "" if options.wire == "kit" else options.wire,
            Meta.DESCRIPTION: " ".join(self.signature.doc.split()),
        }
        return {name: text for name, text in facts.items() if text}

    def describe(self) -> dict[str, Any]:
        """Return its JSON Schemas: request, response, errors by class name, and hash.

        An error's schema has its code under ``x-code``; the hash tells of errors too.
        """
        found = self.signature.describe()
        errors = {cls.__name__: _described(cls) for cls in self.options.raises}
        if errors:
            found["hash"] = digest(found, errors)
        return {**found, "errors": errors}


def _described(error: type[Exception]) -> dict[str, Any]:
    """Return the JSON Schema of a declared error, and its code as ``x-code``."""
    known: Any = error  # a class has the code of its instances
    code = code_of(known) if hasattr(error, "code") else Code.FAILED_PRECONDITION
    return {**error_schema(error), "x-code": code.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """What happens to an instance whose turn failed in a way nobody declared.

    After OTP's supervisors: the turn fails; the instance is kept, or replaced by a fresh
    one; too many replacements in a window end the worker, whose parent starts another.

    Attributes:
        policy: ``keep`` the instance or ``restart`` it.
        max_restarts: More than so many within `window` end the worker.
        window: Length of the window, in seconds.
    """

    policy: Literal["keep", "restart"] = "keep"
    max_restarts: int = 3
    window: float = 60.0


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
        **options: The arguments from `name` on.

    Raises:
        TypeError: An option is not known or does not have the right type.
        ValueError: `timeout` is not positive, `http` is no route, `status` is none of a
            success, or `cache` is no whole number of seconds or goes with another route
            than ``GET``.
    """
    if method is not None:
        return _mark(method, Options())
    for name in options:
        if name not in Options.__dataclass_fields__:
            known = ", ".join(Options.__dataclass_fields__)
            raise TypeError(f"@endpoint has no option {name!r}; it has {known}")
    for many in ("middleware", "raises"):
        options[many] = tuple(options.get(many, ()))
    chosen = Options(**options)
    _check(chosen)
    return lambda method: _mark(method, chosen)


_ROUTE = re.compile(
    r"(GET|HEAD|POST|PUT|PATCH|DELETE) (/([^\s/{}?#%]*|\{[A-Za-z_][A-Za-z0-9_]*\}))+"
)


def _check(options: Options) -> None:
    for error in options.raises:
        need_exception(error)
    for middleware in options.middleware:
        if not callable(middleware):
            raise TypeError(f"middleware= takes middleware, not {middleware!r}")
    if options.timeout is not None and not 0 < options.timeout < MAX_TIMEOUT:
        raise ValueError(
            f"timeout must be positive seconds under {MAX_TIMEOUT:g},"
            f" not {options.timeout!r}"
        )
    if options.http and not _ROUTE.fullmatch(str(options.http)):
        raise ValueError(
            f"http={options.http!r}: write a route as 'GET /orders/{{id}}'"
        )
    _check_cache(options)
    if options.status not in _STATUSES:
        raise ValueError(
            f"status must be a success such as 201, not {options.status!r}; errors have"
            " codes, and what returns None is 204 by itself"
        )
    if options.wire not in ("kit", "gokit"):
        raise ValueError(f"wire={options.wire!r}: use 'kit' or 'gokit'")
    if options.subject:
        check_subject(options.subject)


def _check_cache(options: Options) -> None:
    if options.cache is None:
        return
    if type(options.cache) is not int or not 0 <= options.cache <= _MAX_CACHE:
        raise ValueError(
            f"cache must be whole seconds from 0 to {_MAX_CACHE}, not {options.cache!r}"
        )
    if not options.http.startswith("GET "):
        raise ValueError(
            f"cache={options.cache} needs a GET route, such as"
            " http='GET /orders/{id}'; answers to other methods are not kept"
        )


def _mark(method: Any, options: Options) -> Any:
    if not callable(method):
        raise TypeError(f"@endpoint goes on a method, not on {method!r}")
    if not inspect.iscoroutinefunction(method) and not inspect.isasyncgenfunction(
        method
    ):
        method = _threaded(method)
    setattr(method, _SPEC, options)
    return method


def _threaded(method: Callable[..., R]) -> Callable[..., Coroutine[Any, Any, R]]:
    @functools.wraps(method)
    async def run(*args: Any, **kwargs: Any) -> R:
        return await in_thread(functools.partial(method, *args, **kwargs))

    return run


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def service_name(cls: type) -> str:
    """Return the name of a service class: its own word in snake case."""
    return _HUMP.sub("_", cls.__name__).lower()


_OURS: Final = frozenset({"_kit", "_inbox"})

DEFAULTS: Final = frozenset(
    {"deadline", "error_log", "limit", "metrics", "shedding", "trace"}
)
"""What every service has without asking, each with a switch; see `Service.off`."""


class Service:
    """Base of services: endpoints are its ``@endpoint`` methods.

    Write ``__init__`` as you like: dependencies are plain arguments.

    Attributes:
        name: Name on the bus; by default the class's name in snake case.
        version: Semantic version.
        middleware: Around all endpoints; the first is outermost.
        concurrency: Turns at once.
        mailbox: Turns that may wait; more are refused at once.
        max_streams: Streams at once, for each endpoint that streams.
        max_bytes: Longest request, and longest reply, in bytes.
        queue: Queue group in which instances share the load; "" to give every instance
            every message.
        drain_timeout: Seconds to finish what is in the mailbox when stopping.
        supervision: What happens after a turn failed in a way nobody declared.
        metadata: Text that INFO shows.
        off: Which of the `DEFAULTS` to do without: ``deadline`` (ends late turns, drops
            expired asks), ``limit`` (of turns at once and waiting), ``shedding`` (leaves
            the queue group when full), ``metrics``, ``error_log``, ``trace`` (passes trace
            headers on).
    """

    name: ClassVar[str]
    version: ClassVar[str] = "0.1.0"
    middleware: Sequence[Middleware] = ()
    concurrency: int = 64
    mailbox: int = 4096
    max_streams: int = MAX_STREAMS
    max_bytes: int = MAX_BYTES
    queue: str = "q"
    drain_timeout: float = 25.0
    supervision: Supervision = Supervision()
    metadata: Mapping[str, str] = {}
    off: Collection[str] = ()

    __declarations__: ClassVar[Mapping[str, Declaration]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = service_name(cls)
        for attribute in _SETTINGS & vars(cls).keys():
            if hasattr(vars(cls)[attribute], _SPEC):
                raise TypeError(
                    f"{cls.__name__}.{attribute} is a setting of every service; call the"
                    f" method otherwise and give @endpoint(name={attribute!r})"
                )
        check_name(cls.name, f"the service {cls.__name__}")
        if cls.name.lower() in _OURS:
            raise ValueError(
                f"{cls.__name__}: the name {cls.name!r} is the toolkit's own"
            )
        check_version(cls.version, cls.__name__)
        unknown = sorted(set(cls.off) - DEFAULTS)
        if unknown:
            known = ", ".join(sorted(DEFAULTS))
            raise ValueError(
                f"{cls.__name__}: off names {unknown[0]!r}; known are {known}"
            )
        cls.__declarations__ = _declarations(cls)

    async def start(self) -> None:
        """Get ready: open what the endpoints need.  Called before the first turn."""

    async def stop(self) -> None:
        """Put away what `start` opened.  Called after the last turn."""

    def __endpoint__(self, declaration: Declaration) -> Endpoint[Any, Any]:
        """Return what carries out `declaration`: by default the method it was made of."""
        return declaration.signature.adapter(getattr(self, declaration.attribute))


# What a subclass sets, and so cannot be an endpoint.
_SETTINGS: Final = frozenset(
    {*Service.__annotations__, "start", "stop"} - {"__declarations__"}
)


def _declarations(cls: type[Service]) -> dict[str, Declaration]:
    """Return the endpoints of a class and its bases, by name, in order of definition."""
    found: dict[str, Declaration] = {}
    for attribute in _attributes(cls):
        method = getattr(cls, attribute, None)
        options = getattr(method, _SPEC, None)
        if method is None or not isinstance(options, Options):
            continue
        name = check_name(options.name or attribute, f"{cls.__name__}.{attribute}")
        if name.startswith("_"):
            raise ValueError(
                f"{cls.__name__}.{attribute}: {name!r} begins with '_', which is kept for"
                " control subjects; choose another name="
            )
        if name in found:
            raise TypeError(f"{cls.__name__}: two endpoints are named {name!r}")
        subject = options.subject or f"{cls.name}.{name}"
        read = _signature(cls, method, options)
        found[name] = Declaration(name, attribute, subject, options, read)
    return found


def _signature(cls: type[Service], method: Any, options: Options) -> Signature:
    read = signature(
        method,
        owner=cls.__name__,
        skip_self=True,
        unknown_fields=options.unknown_fields,
    )
    if read.stream and options.wire == "gokit":
        raise TypeError(f"{read.where}: Go kit has no streams on NATS; leave out wire=")
    if options.unknown_fields == "forbid":
        _check_route(options.http, read)
    return read


def _check_route(route: str, read: Signature) -> None:
    """Check that what a route takes from the path is a parameter, and free to be taken."""
    schema = read.request_schema()
    fields = resolve(schema, schema).get("properties", {})
    for name in re.findall(r"\{(\w+)\}", route):
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise ValueError(
                f"{read.where}: the route {route!r} has {{{name}}}, which is no"
                f" parameter; there is {known}"
            )
        if HEADER_KEY in fields[name]:
            raise ValueError(
                f"{read.where}: {name!r} is in the route {route!r} and also comes from a"
                " header"
            )


def _attributes(cls: type) -> list[str]:
    return list(dict.fromkeys(a for base in reversed(cls.__mro__) for a in vars(base)))
