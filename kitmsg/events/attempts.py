"""Attempts at deliveries that came more than once: how many began, and which one succeeded.

The store counts deliveries, but one that was given back before it began is no attempt.  So an
attempt at what was delivered before is noted in a key-value bucket as it begins: nothing is
written for the deliveries that succeed at once, which are nearly all.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Final

from kitmsg.errors import KitError, NotFound
from kitmsg.jetstream import Bucket
from kitmsg.wire import Js

if TYPE_CHECKING:
    from kitmsg.jetstream import Delivery, JetStream, KeyValue, Outgoing

__all__ = ["ATTEMPTS", "Attempts", "OnceIds", "once_ids"]

_log = logging.getLogger("kitmsg.events")

ATTEMPTS: Final = "kit-attempts"
"""Name of the bucket."""

_MOST_SKEW: Final = 60.0  # seconds between the clocks of two servers
_DONE: Final = b"done"
_KEPT_SECONDS: Final = 7 * 86_400.0


class Attempts:
    """Counts attempts at deliveries, for all instances.

    Where the bucket cannot be had, an attempt is a delivery.

    Args:
        jetstream: The store.
        replicas: Servers that keep the bucket, where it has yet to be made.
    """

    def __init__(self, jetstream: JetStream, replicas: int = 1) -> None:
        self._jetstream = jetstream
        self._options = Bucket(replicas=replicas)
        self._bucket: KeyValue | None = None

    async def begin(self, delivery: Delivery) -> int:
        """Return the number of the attempt that begins; 0 where one is known to be done."""
        if delivery.deliveries == 1:
            return 1
        try:
            return await self._begin(delivery)
        except KitError as error:
            _log.debug("attempts are not counted: %s", error)
            return delivery.deliveries

    async def _begin(self, delivery: Delivery) -> int:
        bucket, key = await self._opened(), _key(delivery)
        try:
            noted = (await bucket.get(key)).value
        except NotFound:
            # The first one noted nothing; it may have begun.
            noted = b"1"
        if noted == _DONE:
            return 0
        before, _, why = noted.partition(b" ")
        number = int(before) + 1
        await bucket.put(key, b"%d %b" % (number, why), ttl=_KEPT_SECONDS)
        return number

    async def failed(self, delivery: Delivery, number: int, why: str) -> None:
        """Note why the last attempt failed, until its dead letter can be stored."""
        with contextlib.suppress(KitError):
            bucket, note = await self._opened(), f"{number} {why}".encode()
            await bucket.put(_key(delivery), note, ttl=_KEPT_SECONDS)

    async def why(self, delivery: Delivery) -> str:
        """Return what `failed` noted; "" for nothing."""
        with contextlib.suppress(KitError):
            note = (await (await self._opened()).get(_key(delivery))).value
            return note.partition(b" ")[2].decode("utf-8", "replace")
        return ""

    async def done(self, delivery: Delivery) -> None:
        """Note that an attempt succeeded, before the delivery is acknowledged."""
        with contextlib.suppress(KitError):
            bucket = await self._opened()
            await bucket.put(_key(delivery), _DONE, ttl=_KEPT_SECONDS)

    async def _opened(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._jetstream.key_value(ATTEMPTS, self._options)
        return self._bucket


def _key(delivery: Delivery) -> str:
    position = delivery.position
    return f"{position.consumer}.{position.identity}"


class OnceIds:
    """Message ids for what one attempt publishes: the same in each attempt.

    Args:
        delivery: What is worked on.

    Attributes:
        since: Time after which an earlier attempt may have published, in unix seconds; None
            where this is the first one.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._prefix = _key(delivery)
        self._count = count(1)
        is_again = delivery.deliveries > 1
        self.since = max(0.0, delivery.time - _MOST_SKEW) if is_again else None

    def next(self) -> str:
        """Return the id of the next thing that is published."""
        return f"{self._prefix}.{next(self._count)}"

    async def stored(
        self, jetstream: JetStream, stream: str, message: Outgoing
    ) -> int | None:
        """Return the sequence of what an earlier attempt published; None where there is none.

        A stream knows an id for as long as its dedupe window, and attempts may be further
        apart.  Where it may not be read, the window has to do.
        """
        if self.since is None:
            return None
        with contextlib.suppress(KitError):
            found = await jetstream.stream(stream)
            async for one in found.read(message.subject, since=self.since):
                if one.headers.get(Js.MESSAGE_ID) == message.message_id:
                    return one.sequence
        return None


once_ids: Final[ContextVar[OnceIds | None]] = ContextVar(
    "kitmsg_once_ids", default=None
)
"""Ids for what the running attempt publishes; None where they are made up."""
