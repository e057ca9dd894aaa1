"""Dead letters: deliveries that failed for good, stored with the reason, to be replayed.

One is under ``dead.{service}.{subscription}`` in the stream `DEAD`, with the payload and the
headers of the original and these:

    Kit-Dead-Reason    the last error, in its own words
    Kit-Dead-Error     its class
    Kit-Dead-Attempts  how many there were
    Kit-Dead-Subject   where it was published
    Kit-Dead-Stream    the stream that it was in, and Kit-Dead-Sequence its number there
    Kit-Dead-Time      when it died, in unix seconds
    Kit-Dead-Replays   how often it was replayed before

A replay is published under ``replay.{service}.{subscription}``, which that subscription
alone reads.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import NotFound
from kitmsg.jetstream import StreamConfig
from kitmsg.wire import (
    DEAD_ATTEMPTS,
    DEAD_ERROR,
    DEAD_REASON,
    DEAD_REPLAYS,
    DEAD_SEQUENCE,
    DEAD_STREAM,
    DEAD_SUBJECT,
    DEAD_TIME,
)

if TYPE_CHECKING:
    from kitmsg.jetstream import Delivery, JetStream, Stored

__all__ = [
    "DEAD",
    "DeadLetters",
    "dead_stream",
    "dead_subject",
    "replay",
    "replay_subject",
]

DEAD: Final = "dead"
"""Name of the stream of dead letters and replays."""

_REPLAY: Final = "replay"
_OWN: Final = (DEAD_REASON, DEAD_ERROR, DEAD_ATTEMPTS, DEAD_TIME)


def dead_subject(name: str) -> str:
    """Return the subject of the dead letters of a subscription, by its dotted name."""
    return f"{DEAD}.{name}"


def replay_subject(name: str) -> str:
    """Return the subject of the replays for a subscription, by its dotted name."""
    return f"{_REPLAY}.{name}"


def dead_stream() -> StreamConfig:
    """Return the declaration of the stream of dead letters; nothing in it expires."""
    return StreamConfig(name=DEAD, subjects=(f"{DEAD}.>", f"{_REPLAY}.>"))


async def replay(jetstream: JetStream, letter: Stored) -> None:
    """Give a dead letter to the subscription that failed, and remove it.

    It is removed when its replay is stored, and a replay of one letter is stored once, so
    that it comes once however often this is tried.

    Args:
        jetstream: The store.
        letter: From the stream `DEAD`.

    Raises:
        KitError: It is not stored.
    """
    headers = {
        name: value
        for name, value in letter.headers.items()
        if not name.lower().startswith("nats-")
    }
    headers[DEAD_REPLAYS] = str(int(letter.headers.get(DEAD_REPLAYS, "0")) + 1)
    await jetstream.publish(
        replay_subject(letter.subject.removeprefix(f"{DEAD}.")),
        letter.data,
        headers,
        message_id=f"replay:{letter.sequence}",
    )
    with contextlib.suppress(NotFound):
        await (await jetstream.stream(DEAD)).delete(letter.sequence)


class DeadLetters:
    """Stores the dead letters of an instance.

    Args:
        jetstream: The store.
    """

    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self._soon: set[asyncio.Task[Any]] = set()
        self.count = 0

    async def bury(
        self, delivery: Delivery, name: str, reason: str, error: str, attempts: int
    ) -> None:
        """Store the dead letter of a delivery; returns when the store has it.

        Args:
            delivery: What failed.
            name: Dotted name of its subscription.
            reason: Why, for people.
            error: Name of the error's class; "" where there was none.
            attempts: How many there were.

        Raises:
            KitError: It is not stored.
        """
        position = delivery.position
        headers = {
            key: value
            for key, value in delivery.headers.items()
            if not key.lower().startswith("nats-") and key not in _OWN
        }
        headers |= {
            DEAD_REASON: _one_line(reason),
            DEAD_ATTEMPTS: str(attempts),
            DEAD_SUBJECT: delivery.headers.get(DEAD_SUBJECT, delivery.subject),
            DEAD_STREAM: delivery.headers.get(DEAD_STREAM, position.stream),
            DEAD_SEQUENCE: delivery.headers.get(DEAD_SEQUENCE, str(position.sequence)),
            DEAD_TIME: f"{self._jetstream.now():.3f}",
        }
        if error:
            headers[DEAD_ERROR] = error
        # The same death is stored once, however often it is told.
        id_ = f"{position.identity}:{name}"
        await self._jetstream.publish(
            dead_subject(name), delivery.data, headers, message_id=id_
        )
        self.count += 1

    def bury_soon(self, burial: Coroutine[Any, Any, None]) -> None:
        """Run a burial beside the turns."""
        task = asyncio.create_task(burial)
        self._soon.add(task)
        task.add_done_callback(self._soon.discard)

    async def drain(self, timeout: float) -> None:
        """Wait for burials that run, at most `timeout` seconds."""
        if self._soon:
            await asyncio.wait(tuple(self._soon), timeout=timeout)


def _one_line(text: str) -> str:
    """Return a reason as a header can carry it."""
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:512]
