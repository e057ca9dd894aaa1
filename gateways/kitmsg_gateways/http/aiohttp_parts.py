"""aiohttp's private parts that the gateway's fast paths rest on: named once, checked here.

    RequestHandler   a connection without a task for each request, and whole writes
    Brief            a response without a header map, until somebody looks
    buffered         a request body that came with its headers
    unmask           a WebSocket frame's payload, unmasked in C

With an aiohttp that was not tried, or lacks a part, each does the same by the public way;
one warning says so.  No other module of the gateway touches what is aiohttp's own.
"""

from __future__ import annotations

import asyncio
import email.utils
import functools
import importlib
import inspect
import warnings
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import helpers, web, web_protocol
from aiohttp.http_writer import StreamWriter
from aiohttp.streams import StreamReader
from multidict import CIMultiDict

from kitmsg_gateways.edge.parting import part

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Brief", "RequestHandler", "buffered", "http_date", "is_tried", "unmask"]

_TRIED: Final = "3.14."

# fmt: off
_PARTS: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (web.RequestHandler, (
        "_buffer_paused", "_close", "_force_close", "_handle_request", "_keepalive",
        "_keepalive_handle", "_keepalive_timeout", "_lingering_time", "_loop",
        "_make_error_handler", "_manager", "_messages", "_msg_queue_resume_size",
        "_next_keepalive_close_time", "_parser", "_process_keepalive",
        "_request_factory", "_request_handler", "_resume_reading_if_drained",
        "_task_handler", "_upgraded", "_waiter",
    )),
    (web_protocol, ("ERROR", "_ErrInfo", "_PAYLOAD_ACCESS_ERROR")),
    (web.BaseRequest, ("_finish",)),
    (web.StreamResponse, ("_keep_alive",)),
)
_STATE: Final[tuple[tuple[Any, set[str]], ...]] = (  # what their `__init__` sets
    (web.BaseRequest, {"_task"}),
    (web.StreamResponse, {"_headers", "_state", "_set_status"}),
    (web.Response, {"_zlib_executor", "_zlib_executor_size"}),
    (StreamReader, {"_buffer", "_buffer_offset"}),
)
_CALLS: Final[tuple[tuple[Any, str, str], ...]] = (
    (web.RequestHandler, "_handle_request", "self request start_time request_handler"),
    (web.RequestHandler, "_make_error_handler", "self err_info"),
    (web.RequestHandler, "finish_response", "self request resp start_time"),
    (StreamWriter, "__init__", "self protocol loop"),
)
# fmt: on


def _missing() -> list[str]:
    """Return the parts that this aiohttp lacks, or takes otherwise."""
    found = [
        f"{owner.__name__}.{name}"
        for owner, names in _PARTS
        for name in names
        if not hasattr(owner, name)
    ]
    for owner, state in _STATE:
        set_there = state & {*owner.__init__.__code__.co_names}
        found += [f"{owner.__name__}.{name}" for name in sorted(state - set_there)]
    for owner, name, wanted in _CALLS:
        taken = list(inspect.signature(getattr(owner, name, bool)).parameters)
        if taken[: wanted.count(" ") + 1] != wanted.split():
            found.append(f"{owner.__name__}.{name}({', '.join(wanted.split())})")
    return found


def _checked() -> bool:
    """Tell whether the fast paths may be taken; warn once if not."""
    missing = _missing()
    if aiohttp.__version__.startswith(_TRIED) and not missing:
        return True
    lacks = f"; it lacks {', '.join(missing)}" if missing else ""
    warnings.warn(
        f"aiohttp {aiohttp.__version__} was not tried with kitmsg's fast paths; using"
        f" its own{lacks}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


_is_tried = _checked()


http_date: Callable[[], str] = getattr(helpers, "rfc822_formatted_time", None) or (
    functools.partial(email.utils.formatdate, usegmt=True)
)
"""Returns the time as the header ``Date`` has it."""


def is_tried() -> bool:
    """Tell whether the fast paths are taken."""
    return _is_tried


class RequestHandler(web.RequestHandler):
    """A connection whose task answers the requests itself, one after the other.

    aiohttp gives each request a task of its own, so that what a handler does to its
    context variables ends with it.  The handler here is ours and sets none: two turns of
    the loop less for each.
    """

    __slots__ = ()

    async def start(self) -> None:
        """Answer requests until the connection ends."""
        if not _is_tried:
            return await super().start()
        while not self._force_close:
            if not self._messages:
                self._waiter = self._loop.create_future()
                try:
                    await self._waiter
                finally:
                    self._waiter = None
            message, payload = self._messages.popleft()
            self._make_room()
            if not await self._take(message, payload):
                break
            if not self._keepalive or self._close or self._force_close:
                break
            self._stay()
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()
        return None

    def write_whole(
        self, request: web.BaseRequest, response: web.Response, data: bytes
    ) -> bool:
        """Write a response in one go; return False when the client is gone."""
        request._finish()  # as aiohttp's own does
        if self.transport is None or self.transport.is_closing():
            return False
        self.transport.write(data)
        response._keep_alive = True  # aiohttp asks it whether to go on
        return True

    def part(self) -> None:
        """End a connection that was answered; `force_close` still ends it at once."""
        if not _is_tried:
            self.force_close()
            return
        self._force_close = True
        if self._waiter:
            self._waiter.cancel()
        if self.transport is not None:
            part(self.transport, self)

    @property
    def is_idle(self) -> bool:
        """Whether no request waits, and the connection has not become another kind."""
        return not self._messages and not self._upgraded

    @property
    def may_write_whole(self) -> bool:
        """Whether `write_whole` may be used."""
        return _is_tried and not self._upgraded

    def _make_room(self) -> None:
        """Let the parser know that a request is taken; it may go on."""
        if self._parser is not None:
            self._parser.message_consumed()
        is_low = len(self._messages) <= self._msg_queue_resume_size
        if self._buffer_paused and is_low:
            self._resume_reading_if_drained()

    def _stay(self) -> None:
        """Start the clock for the next request."""
        until = self._loop.time() + self._keepalive_timeout
        self._next_keepalive_close_time = until
        if self._keepalive_handle is None:
            self._keepalive_handle = self._loop.call_at(until, self._process_keepalive)

    async def _take(self, message: Any, payload: Any) -> bool:
        """Answer one request; False if the client is gone."""
        manager, factory = self._manager, self._request_factory
        if manager is None or factory is None:
            return False  # lost while the request waited for its turn
        manager.requests_count += 1
        answer: Callable[..., Awaitable[web.StreamResponse]] | None
        answer = self._request_handler
        if isinstance(message, web_protocol._ErrInfo):
            answer = self._make_error_handler(message)
            message = web_protocol.ERROR
        assert answer is not None  # noqa: S101  # as the factory
        writer = StreamWriter(self, self._loop)
        request = factory(message, payload, self, writer, self._task_handler)  # type: ignore[arg-type]
        try:
            response, is_lost = await self._handle_request(request, None, answer)
            self._keepalive = bool(response.keep_alive)
            if not is_lost:
                if not payload.is_eof():
                    await self._drop_rest(payload)
                payload.set_exception(web_protocol._PAYLOAD_ACCESS_ERROR)
        except asyncio.CancelledError:
            self.force_close()
            raise
        except ConnectionError:
            return False
        except Exception as error:  # noqa: BLE001  # it ends this connection alone
            self.log_exception("a connection failed", exc_info=error)
            self.force_close()
            return False
        finally:
            request._task = None  # type: ignore[assignment]  # a cycle
        return not is_lost

    async def _drop_rest(self, payload: Any) -> None:
        """Read and drop what a client still sends, for a while, or end the connection."""
        try:
            async with asyncio.timeout(self._lingering_time):
                while not payload.is_eof() and not self._force_close:
                    await payload.readany()
        except TimeoutError:
            self.part()


class Brief(web.Response):
    """A 200 with a body and the usual headers, as nearly every answer is.

    Args:
        body: The body.
        media_type: What it is; no line breaks.
        id_: The request id; no line breaks.

    Attributes:
        size: Bytes of the body, as it was given.
    """

    # What `web.Response` sets for each one; it does not change here.
    _status = HTTPStatus.OK.value
    _reason = HTTPStatus.OK.phrase
    _zlib_executor_size = 1 << 10
    _zlib_executor = None

    def __init__(self, body: bytes, media_type: str, id_: str) -> None:
        self._body = body
        self.size = len(body)
        self._media_type = media_type
        self._id = id_
        if not _is_tried:
            super().__init__(body=body, headers=self._usual())

    def _usual(self) -> CIMultiDict[str]:
        return CIMultiDict(
            {
                "X-Request-Id": self._id,
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Content-Type": self._media_type,
                "Server": "kitmsg",
            }
        )

    @functools.cached_property
    def _headers(self) -> CIMultiDict[str]:  # type: ignore[override]
        return self._usual()

    @functools.cached_property
    def _state(self) -> dict[Any, Any]:  # type: ignore[override]
        return {}

    def encode(self) -> bytes:
        """Return all of it as bytes, while nobody has looked at its headers."""
        body: Any = self._body
        head = (
            f"HTTP/1.1 200 OK\r\nX-Request-Id: {self._id}\r\nCache-Control: no-store\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"Content-Type: {self._media_type}\r\nServer: kitmsg\r\n"
            f"Content-Length: {len(body)}\r\nDate: {http_date()}\r\n\r\n"
        )
        return head.encode("ascii") + bytes(body)


def buffered(content: StreamReader) -> bytes | None:
    """Return a body that came with its headers, in one piece; None if it did not.

    It is read, not consumed, and nothing is asked of the connection.
    """
    if type(content) is not StreamReader or not _is_tried or not content.is_eof():
        return None
    pieces = content._buffer
    if len(pieces) != 1 or content._buffer_offset or content.exception() is not None:
        return None
    return pieces[0]


def _unmask_in_python(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    pad = mask * (size // 4 + 1)
    return (int.from_bytes(data) ^ int.from_bytes(pad[:size])).to_bytes(size)


try:
    _mask: Any = importlib.import_module("aiohttp._websocket.helpers").websocket_mask
except (ImportError, AttributeError):
    _mask = None


def unmask(data: bytes, mask: bytes) -> bytes:
    """Return the payload of a WebSocket frame as it was before its client masked it."""
    if _mask is None or not _is_tried:
        return _unmask_in_python(data, mask)
    found = bytearray(data)
    _mask(mask, found)
    return bytes(found)
