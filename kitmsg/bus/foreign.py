"""Messages of subscriptions that are nats-py's own: JetStream and its like."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Foreign"]

_log = logging.getLogger("kitmsg.bus")

_Take: TypeAlias = "Callable[[int, bytes, bytes, bytes, bytes], Awaitable[None]]"


class Foreign:
    """Hands messages to nats-py one after the other, from a parser that cannot wait.

    Args:
        take: nats-py's own; arguments: id, subject, reply, data, headers.
        spawn: Runs a coroutine in the background.
        on_bad_subject: Called for each message thrown away because its subject is not UTF-8.
    """

    def __init__(
        self,
        take: _Take,
        spawn: Callable[[Any], object],
        on_bad_subject: Callable[[], object],
    ) -> None:
        self._take = take
        self._spawn = spawn
        self._on_bad_subject = on_bad_subject
        # In order of arrival; not empty exactly while `_pass_on` runs.
        self._waiting: deque[tuple[int, bytes, bytes, bytes, bytes]] = deque()

    def put(
        self, sid: int, subject: bytes, reply: bytes, header_block: bytes, data: bytes
    ) -> None:
        """Take a message as `Parser` gives it."""
        self._waiting.append((sid, subject, reply, data, header_block))
        if len(self._waiting) == 1:
            self._spawn(self._pass_on())

    async def _pass_on(self) -> None:
        while self._waiting:
            await self.take(*self._waiting[0])
            self._waiting.popleft()

    async def take(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Hand one over; whatever it raises is logged, and ends no reader."""
        try:
            await self._take(sid, subject, reply, data, headers)
        except UnicodeDecodeError:
            self._on_bad_subject()
        except Exception:  # noqa: BLE001  # logged; one message must not end the reader
            _log.exception("nats-py could not take a message")
