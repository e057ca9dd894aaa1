"""Streams through a door whose clients have none: all items in at once, or out as a list."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitmsg.errors import Internal, KitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from kitmsg.context import Context
    from kitmsg.message import Message
    from kitmsg.transport.stream import Stream
    from kitmsg_gateways.edge.calls import EdgeCaller

__all__ = ["Collected", "Opening"]


@dataclass(frozen=True, slots=True)
class Collected:
    """The items of a stream.

    Attributes:
        items: The last of them, undecoded.
        count: How many there were.
        is_complete: Whether the stream had ended.
    """

    items: Sequence[bytes]
    count: int
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """A stream to open.

    Attributes:
        caller: Of its endpoint.
        ctx: Of the call.
        data: The request.
        items: Of the client, encoded; None where the client streams none.
    """

    caller: EdgeCaller
    ctx: Context
    data: bytes
    items: Sequence[bytes] | None

    async def only(self) -> Message:
        """Return the one result of a stream of the client's items.

        Raises:
            KitError: The stream ended with an error, or without a result.
        """
        async with self._stream() as stream:
            async for message in stream:
                return message
        raise Internal(f"{self.caller.name} ended without a result")

    async def collect(
        self,
        seconds: float,
        on_item: Callable[[int, bytes], Awaitable[Any]],
        *,
        max_items: int,
        max_bytes: int,
    ) -> Collected:
        """Follow a stream until it ends, or for so long; what is kept is bounded.

        Args:
            seconds: Longest time; the service's turn is cancelled then.
            on_item: Called with each item and its number, from 1; it may be slow, and the
                stream waits for it.
            max_items: Most items to keep, the last ones.
            max_bytes: Most bytes to keep, but for one item that is longer.

        Raises:
            KitError: The stream ended with an error.
        """
        kept: deque[bytes] = deque(maxlen=max_items)
        count, is_complete = 0, True
        try:
            async with asyncio.timeout(seconds), self._stream() as stream:
                async for message in stream:
                    count += 1
                    kept.append(message.data)
                    while len(kept) > 1 and sum(map(len, kept)) > max_bytes:
                        kept.popleft()
                    await on_item(count, message.data)
        except TimeoutError as exc:
            if isinstance(exc, KitError):
                raise
            is_complete = False
        return Collected(tuple(kept), count, is_complete)

    @contextlib.asynccontextmanager
    async def _stream(self) -> AsyncIterator[Stream]:
        stream = await self.caller.open(self.ctx, self.data)
        feeder = asyncio.ensure_future(_feed(stream, self.items))
        try:
            yield stream
        except KitError as exc:
            error = self.caller.stream_error(self.ctx, stream, exc)
            if error is exc:
                raise
            raise error from exc
        finally:
            feeder.cancel()
            stream.cancel()


async def _feed(stream: Stream, items: Sequence[bytes] | None) -> None:
    """Send the client's items to the service, as fast as it takes them."""
    if items is None:
        return
    try:
        for item in items:
            await stream.send(item)
        await stream.finish()
    except KitError as exc:
        stream.fail(exc)  # who reads the stream raises it
