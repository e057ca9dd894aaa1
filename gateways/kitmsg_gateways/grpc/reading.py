"""Messages of clients, read as far as the budget of bytes allows.

gRPC's core opens its window for the whole of a message as soon as somebody wants to read
it, and tells nobody how long it is.  So nothing is read before there is room for the
longest; until then the core holds no more of a call than `WINDOW_BYTES`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grpc.aio import EOF

from kitmsg.errors import InvalidArgument, ResourceExhausted
from kitmsg_gateways.edge.budget import Claim

if TYPE_CHECKING:
    from kitmsg_gateways.edge.budget import Budget

__all__ = ["WINDOW_BYTES", "Reader"]

WINDOW_BYTES: Final = 16 << 10

_ServicerContext: TypeAlias = Any


class Reader:
    """Reads the messages of one gateway's clients.

    Args:
        budget: Of all bytes that it holds.
        longest: Longest message, in bytes.
    """

    def __init__(self, budget: Budget, longest: int) -> None:
        self._budget = budget
        self._longest = min(longest, budget.longest)
        self._streams_left = max(1, budget.limit // 2 // self._longest)

    async def message(self, context: _ServicerContext) -> tuple[bytes, Claim]:
        """Return the one message of a call, and what holds its bytes: to be ended.

        Raises:
            ResourceExhausted: There is no room, or it came so slowly that others had to
                have it.
            InvalidArgument: None came.
        """
        budget, longest = self._budget, self._longest
        task = asyncio.current_task(budget.loop())
        claim = _Message(budget, task)
        if not budget.holds(claim, longest):
            await budget.wait(claim, longest, context.peer)
        try:
            data = await context.read()
        except asyncio.CancelledError:
            claim.end()
            if claim.has_given_way and task is not None and not task.uncancel():
                raise ResourceExhausted(
                    "the message came too slowly, and others need the room",
                    retry_after=1.0,
                ) from None
            raise
        except BaseException:
            claim.end()
            raise
        if data is EOF:
            claim.end()
            raise InvalidArgument("the call ended before its request")
        claim.settle(len(data))
        return data, claim

    def stream(self) -> Claim:
        """Return what holds the bytes of a client's stream, one message at a time.

        Raises:
            ResourceExhausted: There is no room.  Streams have half of the budget.
        """
        if not self._streams_left:
            raise ResourceExhausted(
                "there is no room for another stream of a client; the gateway's"
                " --max-held-bytes over its --max-message-bytes is what there can be",
                retry_after=1.0,
            )
        claim = _Stream(self._budget, self)
        claim.resize(self._longest)
        claim.settle(self._longest)  # it may be idle for long, and not give way
        self._streams_left -= 1
        return claim

    def left(self) -> None:
        """Note that a stream has ended."""
        self._streams_left += 1


class _Message(Claim):
    """The bytes of the one message of a call, whose reading ends when it gives way.

    As `asyncio.timeout` does it, which costs a twentieth of a call and is needed by none
    in a thousand.
    """

    __slots__ = ("_task", "has_given_way")

    def __init__(self, budget: Budget, task: asyncio.Task[Any] | None) -> None:
        super().__init__(budget, _nothing)
        self._task = task
        self.has_given_way = False

    def give_way(self) -> None:
        self.end()
        self.has_given_way = True
        if self._task is not None:
            self._task.cancel()


def _nothing() -> None:
    """Do nothing more."""


class _Stream(Claim):
    """The bytes of a stream, which are counted among those of streams too."""

    __slots__ = ("_reader",)

    def __init__(self, budget: Budget, reader: Reader) -> None:
        super().__init__(budget, _nothing)
        self._reader: Reader | None = reader

    def end(self) -> None:
        if self._reader is not None:
            self._reader.left()
            self._reader = None
        super().end()
