"""An endpoint that streams, called over the bus.

The endpoint that `StreamClient` makes takes a `StreamRequest` and returns an asynchronous
iterator of items, or the one result of an endpoint that only takes items.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from kitmsg.bus import Bus
from kitmsg.context import Context
from kitmsg.endpoints import Endpoint
from kitmsg.errors import (
    Cancelled,
    DataLoss,
    FailedPrecondition,
    KitError,
)
from kitmsg.transport.caller import Before, Caller, Hint
from kitmsg.transport.opening import OPEN_TIMEOUT
from kitmsg.transport.stream import Stream
from kitmsg.transport.typed import Decode, Encode

if TYPE_CHECKING:
    from collections.abc import Generator

    from kitmsg.message import Message
    from kitmsg.schema.calls import StreamRequest

__all__ = ["StreamCall", "StreamClient"]

T = TypeVar("T")


class StreamClient:
    """One remote procedure that streams, at a subject.

    Args:
        bus: What carries the messages.
        subject: Where streams are asked for.
        encode: Makes the payload of a request.
        decode: Reads an item, or the result, out of a message.
        encode_item: Makes the payload of an item; None where the caller streams nothing.
        gives_items: Whether the answer is a stream, not one result.
        name: As for `Client`.
        timeout: Longest wait for somebody to take the stream, in seconds.
        lifetime: Seconds the whole stream may take; None for as long as it likes.  A
            nearer deadline of the caller wins.
        raises: As for `Client`.
        before: As for `Client`.
        hint: As for `Client`.
        breaker: As for `Client`.
        counts: As for `Client`.
    """

    def __init__(
        self,
        bus: Bus,
        subject: str,
        *,
        encode: Encode,
        decode: Decode,
        encode_item: Encode | None,
        gives_items: bool,
        name: str = "",
        timeout: float = OPEN_TIMEOUT,
        lifetime: float | None = None,
        raises: Sequence[type[Exception]] = (),
        before: Sequence[Before] = (),
        hint: Hint | None = None,
        breaker: bool = True,
        counts: bool = True,
    ) -> None:
        self.caller = Caller(
            bus,
            subject,
            name=name,
            timeout=timeout,
            lifetime=lifetime,
            before=before,
            raises=raises,
            hint=hint,
            breaker=breaker,
            counts=counts,
        )
        self.name = self.caller.name
        self._encode = encode
        self._encode_item = encode_item
        self._gives_items = gives_items
        self.decode_item = decode

    def endpoint(self) -> Endpoint[Any, Any]:
        """Return the call as an endpoint, ready for middleware.

        It raises what `open_stream` raises; iterating raises the service's own errors.
        """
        return self._stream

    async def _stream(self, ctx: Context, request: StreamRequest) -> Any:
        if ctx.endpoint != self.name or ctx.message is not None:
            ctx = ctx.child(self.name)
        if request.has_begun:
            raise FailedPrecondition(
                f"items of this call of {self.name} went already; make a new one"
            )
        data = self._encode(ctx, request.request)
        stream = await self.caller.open(ctx, data)
        answer = _Answer(self, ctx, stream)
        if self._encode_item is not None and request.items is not None:
            request.has_begun = True
            answer.pump(request.items, self._encode_item)
        return answer if self._gives_items else await answer.result()

    def error_of(self, ctx: Context, stream: Stream, error: KitError) -> Exception:
        """Return what ended a stream: the endpoint's own error, if it was one."""
        if stream.end is None:
            return error
        return self.caller.error_in(ctx, stream.end) or error


class _Answer(AsyncIterator[Any]):
    """Decoded items of a stream's response, and the task that sends those of its request."""

    def __init__(self, client: StreamClient, ctx: Context, stream: Stream) -> None:
        self._client = client
        self._decode = client.decode_item
        self._ctx = ctx
        self.stream = stream
        self._pump: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._broken: BaseException | None = None  # by the caller's own iterator

    async def __anext__(self) -> Any:
        # Hot path: a coroutine less where the item is here.
        message = self.stream.pop() or await self._next()
        try:
            return self._decode(self._ctx, message)
        except BaseException:
            self.stop()
            raise

    async def _next(self) -> Message:
        try:
            return await self.stream.__anext__()
        except StopAsyncIteration:
            self.stop()
            raise
        except KitError as exc:
            self.stop()
            if self._broken is not None:
                raise self._broken from None
            error = self._client.error_of(self._ctx, self.stream, exc)
            if error is exc:
                raise
            raise error from None

    async def result(self) -> Any:
        """Return the one item."""
        try:
            found = await anext(self)
            async for _ in self:
                raise DataLoss(f"{self._client.name} gave more than one result")
        except StopAsyncIteration:
            raise DataLoss(f"{self._client.name} ended without a result") from None
        finally:
            self.stop()
        return found

    def pump(self, items: AsyncIterator[Any], encode: Encode) -> None:
        """Send the caller's items, in a task."""
        self._pump = asyncio.create_task(self._send(items, encode))

    async def _send(self, items: AsyncIterator[Any], encode: Encode) -> None:
        stream = self.stream
        try:
            async for item in items:
                await stream.send(encode(self._ctx, item))
                if not stream.is_open:
                    return
            await stream.finish()
        except asyncio.CancelledError:
            raise
        except BaseException as exc:  # noqa: BLE001  the reader is told
            if stream.is_open:
                self._broken = exc
                stream.fail(Cancelled("the caller's own stream failed"))

    def stop(self) -> None:
        """Give up what is still going on."""
        self.stream.cancel()
        if self._pump is not None:
            self._pump.cancel()

    def abandon(self) -> None:
        """Do as `stop`, wherever the garbage collector happens to run."""
        loop = self._loop
        is_sending = self._pump is not None and not self._pump.done()
        if loop.is_closed() or not (self.stream.is_open or is_sending):
            return
        try:
            is_here = asyncio.get_running_loop() is loop
        except RuntimeError:
            is_here = False
        if is_here:
            self.stop()
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            loop.call_soon_threadsafe(self.stop)

    async def aclose(self) -> None:
        self.stop()


class StreamCall(AsyncGenerator[T, None]):
    """A stream that a client reads: iterate over it, or await it to open it first.

    It is opened by the first step.  Leaving it, or closing it with `aclose`, ends the
    work of the service.  Several tasks may read it; each item goes to one of them.
    """

    def __init__(self, start: Callable[[], Awaitable[AsyncIterator[T]]]) -> None:
        self._start: Callable[[], Awaitable[AsyncIterator[T]]] | None = start
        self._items: AsyncIterator[T] | None = None
        self._opening = asyncio.Lock()
        self._is_closed = False

    def __await__(self) -> Generator[Any, None, Self]:
        return self._opened().__await__()

    async def _opened(self) -> Self:
        async with self._opening:
            if self._start is not None and not self._is_closed:
                start, self._start = self._start, None
                self._items = await start()
        if self._is_closed:
            await self.aclose()
        return self

    def __anext__(self) -> Awaitable[T]:  # type: ignore[override]  # one layer less
        """Return the next item, awaited."""
        return self._first() if self._items is None else self._items.__anext__()

    async def _first(self) -> T:
        await self._opened()
        if self._items is None:
            raise StopAsyncIteration
        return await self._items.__anext__()

    async def asend(self, value: None) -> T:
        """Return the next item, as `anext` does."""
        return await self.__anext__()

    async def athrow(self, *error: Any) -> T:
        """Give up with `error`."""
        await self.aclose()
        kind, value, *_ = *error, None
        raise kind if value is None else value

    async def aclose(self) -> None:
        """Give up; the service stops too."""
        self._is_closed = True
        items, self._items = self._items, None
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()

    def __del__(self) -> None:
        # Whoever breaks out of a loop does not close; the service must not go on.
        if isinstance(self._items, _Answer):
            self._items.abandon()
