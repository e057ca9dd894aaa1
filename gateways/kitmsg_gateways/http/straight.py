"""Requests without a task each: what a connection saves over aiohttp's own loop.

aiohttp gives each request a task of its own, so that what a handler does to its context
variables ends with it.  The handler here is ours and sets none, so the connection's task
answers the requests itself: two turns of the loop less for each.

It takes the place of `RequestHandler.start` and touches what that touches.  With an
aiohttp it was not tried with, aiohttp's own runs.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp
from aiohttp import web, web_protocol
from aiohttp.http_writer import StreamWriter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Straight"]

_IS_TRIED: Final = aiohttp.__version__.startswith("3.14.")


class Straight(web.RequestHandler):
    """A connection whose task answers the requests itself, one after the other."""

    __slots__ = ()

    async def start(self) -> None:
        """Answer requests until the connection ends."""
        if not _IS_TRIED:
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
        if isinstance(message, web_protocol._ErrInfo):  # noqa: SLF001
            answer = self._make_error_handler(message)
            message = web_protocol.ERROR
        assert answer is not None  # noqa: S101  # as the factory
        writer = StreamWriter(self, self._loop)
        request = factory(message, payload, self, writer, self._task_handler)  # type: ignore[arg-type]
        try:
            response, is_lost = await self._handle_request(request, None, answer)
            self._keepalive = bool(response.keep_alive)
            if not is_lost:
                await self._finish(payload)
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
            request._task = None  # type: ignore[assignment]  # noqa: SLF001  # a cycle
        return not is_lost

    async def _finish(self, payload: Any) -> None:
        """Read and drop what a client still sends, for a while, or end the connection."""
        if not payload.is_eof() and not self._force_close:
            try:
                async with asyncio.timeout(self._lingering_time):
                    while not payload.is_eof():
                        await payload.readany()
            except TimeoutError:
                self.close()
        payload.set_exception(web_protocol._PAYLOAD_ACCESS_ERROR)  # noqa: SLF001
