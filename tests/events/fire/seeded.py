"""Faults in kitmsg's own code, each of which breaks a promise; `test_seeded` catches each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.events.attempt import Attempt
from kitmsg.events.receiver import Receiver
from kitmsg.jetstream.api import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kitmsg.jetstream import Delivery, PubAck

__all__ = ["FAULTS", "switch_on"]

_ID: Final = re.compile(rb"Nats-Msg-Id:[^\r]*\r\n")


def switch_on(name: str) -> None:
    """Break this process; "" breaks nothing."""
    if name:
        FAULTS[name]()


def ack_before_the_effect() -> None:
    """A delivery is acknowledged as its attempt begins."""
    right = Attempt.run

    async def wrong(self: Attempt) -> None:
        for delivery in self.deliveries:
            delivery.ack()
        await right(self)

    Attempt.run = wrong  # type: ignore[method-assign]


def no_message_id_on_a_retry() -> None:
    """A message that is sent again has no id that the stream would know it by."""
    right, sent = Api.put, set[bytes]()

    async def wrong(
        self: Api, subject: str, data: bytes, block: bytes, *more: Any, **named: Any
    ) -> PubAck:
        known = block in sent
        sent.add(block)
        block = _ID.sub(b"", block) if known else block
        return await right(self, subject, data, block, *more, **named)

    Api.put = wrong  # type: ignore[method-assign]


def no_in_progress() -> None:
    """Nobody tells the store that a delivery is worked on."""
    Receiver._say_alive = lambda _: None  # type: ignore[assignment,method-assign]


def dead_letter_after_the_ack() -> None:
    """A delivery is given up before its dead letter is stored."""
    right = Attempt._bury

    async def wrong(
        self: Attempt, why: str, deliveries: Sequence[Delivery], *more: Any
    ) -> None:
        for delivery in deliveries:
            delivery.term(why)
        await right(self, why, deliveries, *more)

    Attempt._bury = wrong  # type: ignore[assignment,method-assign]


FAULTS: Final[dict[str, Callable[[], None]]] = {
    "ack before the effect": ack_before_the_effect,
    "no message id on a retry": no_message_id_on_a_retry,
    "no in-progress": no_in_progress,
    "dead letter after the ack": dead_letter_after_the_ack,
}
