"""`WebGateway`: a gateway whose protocol's library is an ASGI app, on the edge's lifecycle."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from kitmsg.errors import FailedPrecondition, NotFound
from kitmsg.logs.access import LINE
from kitmsg_gateways.edge.asgi import Connections, Guard
from kitmsg_gateways.edge.catalogue import unavailable
from kitmsg_gateways.edge.lifecycle import SocketGateway
from kitmsg_gateways.edge.listener import Listener
from kitmsg_gateways.edge.metrics import OTHER
from kitmsg_gateways.edge.turns import Turns
from kitmsg_gateways.edge.weboptions import WebOptions

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from starlette.types import Receive, Scope, Send

    from kitmsg.bus import Bus
    from kitmsg.discovery.catalog import CatalogEndpoint
    from kitmsg.errors import Unavailable
    from kitmsg_gateways.edge.admission import Place

__all__ = ["Running", "WebGateway", "quieten"]

_SHOWN: Final = 128
_ANSWER_SECONDS: Final = 3.0  # for answers that are on their way at the end

W = TypeVar("W", bound=WebOptions)
T = TypeVar("T")


_STOP_SECONDS: Final = 5.0


class Running:
    """A context that is open from `start` to `stop`.

    Args:
        enter: Makes it.
    """

    def __init__(self, enter: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._enter = enter
        self._is_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Enter the context; raises what that raises."""
        is_open = asyncio.Event()
        self._task = asyncio.create_task(self._run(is_open))
        opened = asyncio.create_task(is_open.wait())
        await asyncio.wait({self._task, opened}, return_when="FIRST_COMPLETED")
        opened.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Leave the context; what does not end in five seconds is cancelled."""
        self._is_over.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_STOP_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, is_open: asyncio.Event) -> None:
        async with self._enter():
            is_open.set()
            await self._is_over.wait()


class WebGateway(SocketGateway[W, T]):
    """A gateway whose requests an ASGI app answers: a subclass has `_app`.

    With the option ``stdio`` it serves the process that started it instead, over standard
    input and output, in the context that `_lasting` returns.

    Attributes:
        turns: Those that run.
        ended: Set when the client over standard input has gone.
    """

    protocols: ClassVar[tuple[str, ...]] = ("http/1.1",)
    path: ClassVar[str] = "/"
    """The one path there is."""

    exposed: ClassVar[tuple[str, ...]] = ("X-Request-Id", "WWW-Authenticate")
    """Response headers that web pages may read."""

    def __init__(
        self,
        bus: Bus,
        options: W,
        table: T,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        super().__init__(bus, options, table, sockets)
        # Over stdio, standard output is the client's.
        access = LINE if options.stdio and options.access_log else options.access_format
        self.turns = Turns(self.kind, self.admission, self.metrics, access)
        self.ended = asyncio.Event()
        self._running = Running(self._lasting)
        # Keeps tasks that nobody waits for.
        self._tasks: set[asyncio.Task[None]] = set()
        self._guard = Guard(
            self._app, options, self.gate, self.health, self.budget, self.path
        )
        self._http = Connections(self._guard, options, self.metrics, self.exposed)

    @staticmethod
    def listen(options: W) -> list[socket.socket]:  # noqa: D102
        if options.stdio:
            raise FailedPrecondition(
                "stdio: it is served by one process; leave out --health and --workers"
            )
        return SocketGateway.listen(options)

    @property
    def url(self) -> str:
        """Address, such as ``https://127.0.0.1:8084/mcp``, or ``stdio``."""
        if self.options.stdio:
            return "stdio"
        scheme = "https" if self.options.tls_cert else "http"
        return f"{scheme}://{self.address}{self.path}"

    def missing(
        self,
        name: str,
        find: Callable[[T, str], CatalogEndpoint | None],
        known: Iterable[str],
    ) -> Unavailable | NotFound:
        """Return the error of a call to what is not served, and count it.

        Args:
            name: As the client gives it.
            find: Returns the endpoint of that name in a table.
            known: The names that are served.
        """
        shown = name[:_SHOWN]
        error: Unavailable | NotFound
        if why := self.catalogue.why_gone(lambda table: find(table, name)):
            error = unavailable(why)
        else:
            near = difflib.get_close_matches(shown, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            error = NotFound(f"there is no {shown!r} here{hint}")
        self.metrics.observe(OTHER, error.code.value, 0.0)
        return error

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that was let in; its scope has a `Visit` under ``visit``."""
        raise NotImplementedError

    def _lasting(self) -> contextlib.AbstractAsyncContextManager[Any]:
        """Return a context that is open while the gateway runs."""
        return contextlib.nullcontext()

    def _finish(self) -> None:
        """Have long responses end: no more calls come."""

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bind(self, stack: contextlib.AsyncExitStack) -> None:
        if self.options.stdio:
            self._listener = Listener([], self._protocol, self.connections)
        else:
            await super()._bind(stack)

    async def _open(self) -> None:
        await self._running.start()
        await super()._open()

    def _protocol(self, place: Place) -> asyncio.BaseProtocol:
        return self._http.connection(place)

    async def _drain(self) -> None:
        await super()._drain()
        self.turns.end()
        self._finish()
        self._http.finish()
        await self._guard.drained(_ANSWER_SECONDS)
        await self._http.abort()
        await self._running.stop()


def quieten(library: str) -> None:
    """Log a library's warnings and nothing less, unless its level was chosen."""
    logger = logging.getLogger(library)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.WARNING)
