"""Events as they happen: heard on the bus, at most once, without a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from kitmsg.events.attempt import Attempt, Handling
from kitmsg.jetstream import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.bus import Bus, Subscription
    from kitmsg.jetstream import Delivery
    from kitmsg.mailbox import Mailbox
    from kitmsg.message import Headers, Message

__all__ = ["Listener"]

_GLANCE: Final = (1, 0.0, 0)  # it comes once, and nothing waits


class _Heard:
    """A message of the bus, in the shape of a `kitmsg.jetstream.Delivery`; acks go nowhere."""

    __slots__ = ("is_settled", "message")

    deliveries = 1
    sequence = 0

    def __init__(self, message: Message) -> None:
        self.message = message
        self.is_settled = False

    @property
    def subject(self) -> str:
        return self.message.subject

    @property
    def data(self) -> bytes:
        return self.message.data

    @property
    def headers(self) -> Headers:
        return self.message.headers

    @property
    def position(self) -> Position:
        return Position("the bus", "", 1, 0, 0, 0.0, 0)

    def glance(self) -> tuple[int, float, int]:
        return _GLANCE

    def ack(self) -> None:
        self.is_settled = True

    def nak(self, delay: float | None = None) -> None:
        self.is_settled = True

    def term(self, reason: str = "") -> None:
        self.is_settled = True

    def in_progress(self) -> None: ...


class Listener:
    """Has events worked on as they happen.

    Args:
        handling: How each is handled.
        bus: Where they are heard.
        subjects: Their subjects.
        queue: Queue group to join; "" to hear each one on each instance.
        mailbox: Where attempts run; one that is full drops events, and counts them.
    """

    is_leaving = False  # what was heard is worked on

    def __init__(
        self,
        handling: Handling,
        bus: Bus,
        subjects: Sequence[str],
        queue: str,
        mailbox: Mailbox,
    ) -> None:
        self.handling = handling
        self._bus = bus
        self._subjects = subjects
        self._queue = queue
        self._mailbox = mailbox
        self._subscriptions: list[Subscription] = []
        self._attempts: set[Attempt] = set()

    @property
    def running(self) -> int:
        """Attempts that wait or run."""
        return len(self._attempts)

    async def start(self) -> None:
        """Begin to hear; returns when the bus knows.

        Raises:
            Disconnected: The bus was lost meanwhile.
        """
        for subject in self._subjects:
            heard = self._bus.subscribe(subject, self._hear, self._queue)
            self._subscriptions.append(heard)
        await self._bus.flush()

    async def leave(self) -> None:
        """Hear no more; attempts run on."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()
        self._subscriptions.clear()

    def stop(self) -> None:
        """Forget what is left; after the mailbox has stopped."""
        self._attempts.clear()

    def _hear(self, message: Message) -> None:
        delivery = cast("Delivery", _Heard(message))
        attempt = Attempt(self.handling, (delivery,), self)
        self._attempts.add(attempt)
        if not self._mailbox.offer(attempt):
            self._attempts.discard(attempt)
            self.handling.stats.shed += 1

    def over(self, attempt: Attempt) -> None:
        """Forget it.  See `Owner`."""
        self._attempts.discard(attempt)
