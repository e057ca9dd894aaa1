"""Declarations of a service class: endpoints, limits, lifecycle.

All of it is read when the class is defined; a mistake is a `TypeError` or `ValueError`
there, not a failed call later.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

from kitmsg.auth.allow import Policy
from kitmsg.endpoints import Middleware
from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.events.background import Tasks
from kitmsg.events.event import Event
from kitmsg.service.declaration import Declaration, Options
from kitmsg.service.mark import endpoint
from kitmsg.service.members import abstract_methods, declarations, unbound
from kitmsg.service.settings import check_settings
from kitmsg.service.work import Work, work_of
from kitmsg.transport.stream_server import MAX_STREAMS
from kitmsg.transport.transfer import MAX_BYTES

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint

__all__ = [
    "DEFAULTS",
    "Declaration",
    "Options",
    "Service",
    "Supervision",
    "endpoint",
    "need_apart",
    "service_name",
    "unservable",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """Supervision policy: keep or replace an instance whose turn failed by an undeclared error.

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


T = TypeVar("T")

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def service_name(cls: type) -> str:
    """Return the name of a service class: its own word in snake case."""
    return _HUMP.sub("_", cls.__name__).lower()


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
        allow: Policy of the endpoints that have none of their own; None for anyone.
        concurrency: Turns at once.
        mailbox: Turns that may wait; more are refused at once.
        max_streams: Streams at once, for each endpoint that streams.
        max_bytes: Longest request, and longest reply, in bytes.
        queue: Queue group in which instances share the load; "" to give every instance
            every message.
        drain_timeout: Seconds to finish what is in the mailbox when stopping.
        supervision: What happens after a turn failed in a way nobody declared.
        metadata: Text that INFO shows.
        publishes: Events that it publishes; for the rights of its user, its streams and the
            docs.  What it publishes beside them is published all the same.
        replicas: Servers of a cluster that keep what it is told, its schedules and its dead
            letters, 1 to 5; no fewer than keep the events that it subscribes to.
        off: Which of the `DEFAULTS` to do without: ``deadline`` (ends late turns, drops
            expired asks), ``limit`` (of turns at once and waiting), ``shedding`` (lets few
            wait in an overload, leaves the queue group when full), ``metrics``,
            ``error_log``, ``trace`` (passes trace headers on).
    """

    name: ClassVar[str]
    version: ClassVar[str] = "0.1.0"
    middleware: Sequence[Middleware] = ()
    allow: ClassVar[Policy | Callable[..., bool | Awaitable[bool]] | None] = None
    concurrency: int = 64
    mailbox: int = 4096
    max_streams: int = MAX_STREAMS
    max_bytes: int = MAX_BYTES
    queue: str = "q"
    drain_timeout: float = 25.0
    supervision: Supervision = Supervision()
    metadata: Mapping[str, str] = {}
    publishes: ClassVar[Collection[type[Event]]] = ()
    replicas: ClassVar[int] = 1
    off: Collection[str] = ()

    __declarations__: ClassVar[Mapping[str, Declaration]] = {}
    __work__: ClassVar[Work] = Work()
    __tasks__: Tasks | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = service_name(cls)
        check_settings(cls, DEFAULTS)
        cls.__declarations__ = declarations(cls)
        cls.__work__ = work_of(cls, cls.__declarations__)

    async def start(self) -> None:
        """Get ready: open what the endpoints need.  Called before the first turn."""

    async def stop(self) -> None:
        """Put away what `start` opened.  Called after the last turn."""

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str = "") -> asyncio.Task[T]:
        """Run a coroutine beside the turns, supervised with the instance.

        A failure is logged.  Drain waits for it, for the service's `drain_timeout`, and
        cancels it then.

        Args:
            work: The coroutine.
            name: Name of the task, in the log.

        Raises:
            FailedPrecondition: The instance is not served.
        """
        if self.__tasks__ is None:
            work.close()
            raise FailedPrecondition(
                f"{type(self).__name__} is not served, so nobody would look after the task"
            )
        return self.__tasks__.spawn(work, name)

    def __endpoint__(self, declaration: Declaration) -> Endpoint[Any, Any]:
        """Return what carries out `declaration`: by default the method it was made of."""
        return declaration.signature.adapter(getattr(self, declaration.attribute))


def unservable(cls: type) -> str:
    """Return why a class cannot be served, as a sentence; "" if it can."""
    names = [parameter.__name__ for parameter in unbound(cls)]
    if names:
        return (
            f"{cls.__name__} is generic in {', '.join(names)}; serve a subclass such as"
            f" class Mine({cls.__name__}[int])"
        )
    left = abstract_methods(cls)
    if left:
        return f"{cls.__name__} is abstract: {left[0]!r} is missing; serve a subclass"
    return ""


def need_apart(cls: type[Service], other: type[Service]) -> None:
    """Refuse two classes of one name, which would be given each other's calls.

    Raises:
        InvalidArgument: They have one name; the message names both.
    """
    mine, theirs = (f"{c.__module__}.{c.__qualname__}" for c in (cls, other))
    if cls.name == other.name and mine != theirs:
        raise InvalidArgument(
            f"{mine} and {theirs} both have the name {cls.name!r}, so each would be given"
            " the calls of the other; give one of them another name ="
        )
