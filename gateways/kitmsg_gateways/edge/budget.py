"""Budget of bytes: what a gateway holds for its clients at one time, and its bound.

Headers, bodies, frames and messages count from before they are read until they are answered
or passed on.  Over the budget new work is refused.  Before that the slowest goes: a client
that has been sending one thing for more than a second gives way to others, so those that
send a little for ever keep nobody out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from kitmsg_gateways.edge.admission import full

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.errors import ResourceExhausted

__all__ = ["Budget", "Claim"]

SHORT_BYTES: Final = 64 << 10
"""Length up to which messages have room of their own when longer ones have none."""

SLOW_SECONDS: Final = 1.0
"""Seconds that a message may take to arrive before it has to give way."""

_MOST_WAITING: Final = 10_000


class Claim:
    """The bytes that one client's request, frame or message may hold.

    Args:
        budget: Of which they are part.
        give_way: Ends what arrives; called at most once.

    Attributes:
        size: How many they are now.
        since: When it began to arrive, on the loop's clock.
    """

    __slots__ = ("_budget", "_give_way", "since", "size")

    def __init__(self, budget: Budget, give_way: Callable[[], object]) -> None:
        self._budget = budget
        self._give_way = give_way
        self.size = 0
        self.since = 0.0

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on; 0 for none, so that another can follow.

        Raises:
            ResourceExhausted: They do not fit; what was held is held still.
        """
        budget, more = self._budget, size - self.size
        if more > 0:
            if not self.size:
                self.since = budget.loop().time()
                budget.arriving[self] = None
            budget.take(more, size)
        elif more:
            budget.give(-more)
        self.size = size
        if not size:
            budget.arriving.pop(self, None)

    def settle(self, size: int) -> None:
        """Note that it is here, with no more than `size` bytes: it gives way no more."""
        self._budget.arriving.pop(self, None)
        if size < self.size:
            self._budget.give(self.size - size)
            self.size = size

    def end(self) -> None:
        """Give all of it back; once is enough, more does nothing."""
        self._budget.arriving.pop(self, None)
        size, self.size = self.size, 0
        self._budget.give(size)

    def give_way(self) -> None:
        """End what arrives, for the sake of others; its bytes are free at once."""
        self.end()
        self._give_way()


class Budget:
    """Counts the bytes that are held, and refuses those beyond the limit.

    Hot path: `take` and `give` run for each call.

    Args:
        limit: Most bytes.

    Attributes:
        limit: As given.
        longest: Most bytes of one thing that is not short.
        held: Bytes that are held now.
        refused: How often there was no room.
        arriving: What has begun and is not all there, the oldest first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.longest = limit - limit // 8
        self.held = 0
        self.refused = 0
        self.arriving: dict[Claim, None] = {}
        # Those that wait for room, by client, the client whose turn is next first.
        self._waiting: dict[str, deque[tuple[Claim, int, asyncio.Future[None]]]] = {}
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop."""
        loop = self._loop
        # As in `kitmsg.transport.caller`: to ask for it costs 1 us.
        if loop is None or not loop.is_running():
            loop = self._loop = asyncio.get_running_loop()
        return loop

    def take(self, size: int, whole: int = 0) -> None:
        """Hold more bytes.

        Args:
            size: How many more.
            whole: How many there are then of what they are part of, where they are.

        Raises:
            ResourceExhausted: They do not fit, and nothing slow can give way.
        """
        held = self.held + size
        if held > self.longest and not (
            self._fits(size, whole) or self._make_room(size, whole)
        ):
            raise self._full()
        self.held += size  # not `held`: what gave way is free

    def give(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size
        if self._waiting:
            self._pass_on()

    def holds(self, claim: Claim, size: int) -> bool:
        """Have a claim that holds nothing hold `size` bytes; False if it has to `wait`."""
        if self._waiting or not (self._fits(size) or self._make_room(size)):
            return False
        claim.resize(size)
        return True

    async def wait(self, claim: Claim, size: int, client: Callable[[], str]) -> None:
        """Have a claim hold `size` bytes, as soon as they fit; clients take turns.

        Args:
            claim: That holds nothing yet.
            size: Bytes it may come to.
            client: Tells who sends, such as a connection.

        Raises:
            ResourceExhausted: Too many wait already, or it can never fit.
        """
        if self.holds(claim, size):
            return
        if self._count >= _MOST_WAITING or size > self.longest:
            raise self._full()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client(), deque()).append((claim, size, turn))
        self._count += 1
        self._look_again()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it has the bytes already
                claim.end()
            raise

    def _fits(self, size: int, whole: int = 0) -> bool:
        """Tell whether there is room; the last eighth is for what is short."""
        is_short = size <= SHORT_BYTES and whole <= SHORT_BYTES
        return self.held + size <= (self.limit if is_short else self.longest)

    def _full(self) -> ResourceExhausted:
        self.refused += 1
        return full(self.limit, "bytes are held for clients")

    def _make_room(self, size: int, whole: int = 0) -> bool:
        """Let what is slow give way; tell whether `size` bytes fit then."""
        slow = self.loop().time() - SLOW_SECONDS
        while not self._fits(size, whole) and self.arriving:
            oldest = next(iter(self.arriving))
            if oldest.since > slow:
                return False
            oldest.give_way()
        return self._fits(size, whole)

    def _pass_on(self) -> None:
        """Give what is free to those that wait."""
        while self._waiting:
            client, queue = next(iter(self._waiting.items()))
            claim, size, turn = queue[0]
            if not turn.done() and not self._fits(size):
                return
            queue.popleft()
            self._count -= 1
            del self._waiting[client]
            if queue:
                self._waiting[client] = queue  # behind the others
            if not turn.done():
                claim.resize(size)
                turn.set_result(None)

    def _look_again(self) -> None:
        """See that somebody slow gives way to those that wait, when it is time."""
        if self._timer is None and self._waiting:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(SLOW_SECONDS / 4, self._slow_goes)

    def _slow_goes(self) -> None:
        self._timer = None
        first = next((queue[0] for queue in self._waiting.values()), None)
        if first is not None:
            self._make_room(first[1])
            self._pass_on()
            self._look_again()
