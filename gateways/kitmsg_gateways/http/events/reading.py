"""A follower of a log, as the answers that stream read it: in pieces that are written whole."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from kitmsg.errors import Cancelled, InvalidArgument
from kitmsg.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kitmsg.errors import KitError
    from kitmsg_gateways.edge.events import Batch, Follower

__all__ = ["Reading"]


class Reading:
    """The events of a follower; an `Items` of `kitmsg_gateways.http.streams.live`.

    Args:
        follower: Where they come from.
        form: Makes pieces of a batch.
        gap: A piece that says that events may be missing; b"" for none.

    Attributes:
        on_item: Not called: nothing comes in between two batches.
        moved: Always the same: a log is never done, so a gateway that stops need not wait.
        is_open: Whether it was not ended yet.
    """

    moved = 0

    def __init__(
        self, follower: Follower, form: Callable[[Batch], Iterator[bytes]], gap: bytes
    ) -> None:
        self.on_item: Callable[[Message], bool] | None = None
        self.is_open = True
        self._follower = follower
        self._form = form
        self._gap = gap
        self._ready: deque[bytes] = deque()

    def __aiter__(self) -> Reading:
        return self

    async def __anext__(self) -> Message:
        """Return the next piece.

        Raises:
            KitError: The log cannot be read, or the reading was ended.
        """
        ready = self._ready
        while not ready:
            batch = await anext(self._follower)
            if self._follower.gap:
                self._follower.gap = False
                if self._gap:
                    ready.append(self._gap)
            ready.extend(self._form(batch))
        return Message("", ready.popleft())

    def fail(self, error: KitError) -> None:
        """End it with `error`."""
        self.is_open = False
        self._follower.fail(error)

    def cancel(self) -> None:
        """End it."""
        self.fail(Cancelled("nobody reads it any more"))

    def push(self, item: bytes) -> bool:
        """Take nothing: a log is read only."""
        del item
        return False

    async def send(self, item: bytes) -> None:
        """Refuse an item.

        Raises:
            InvalidArgument: Always.
        """
        del item
        raise InvalidArgument("a log takes no items")

    async def finish(self) -> None:
        """Do nothing: the client says that it sends nothing more."""
