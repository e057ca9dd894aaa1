"""Routes each message that came in: to the ask that awaits it, or a subscription's handler.

Hot path: `deliver` runs for every message, straight from the parser.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kitmsg.errors import Disconnected
from kitmsg.message import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus import Handler
    from kitmsg.bus.asks import Asks

__all__ = ["Inbound"]

_log = logging.getLogger("kitmsg.bus")


class Inbound:
    """The subscriptions of one connection, by id.

    Args:
        asks: The replies that are awaited.
        inbox: What the subjects of replies begin with; an ask's key follows.
        on_foreign: Called, as `deliver` is, with a message of no subscription here.

    Attributes:
        handlers: What to call, by subscription id.
        inbox_sid: Id of the subscription that replies come on; 0 for none yet.
        bad_subjects: Messages thrown away because their subject is not UTF-8.
    """

    __slots__ = (
        "_key_at",
        "_on_foreign",
        "_resolve",
        "bad_subjects",
        "handlers",
        "inbox_sid",
    )

    def __init__(
        self,
        asks: Asks,
        inbox: str,
        on_foreign: Callable[[int, bytes, bytes, bytes, bytes], None],
    ) -> None:
        # An id is added before its SUB is sent and taken out only when nothing more can
        # come for it: when the server has answered the PING behind its UNSUB, or without a
        # connection.  Ids are never used twice.
        self.handlers: dict[int, Handler] = {}
        # Set once, before the first reply can come; the same after every reconnect.
        self.inbox_sid = 0
        self.bad_subjects = 0
        self._resolve = asks.resolve
        self._key_at = len(inbox.encode())
        self._on_foreign = on_foreign

    def deliver(
        self, sid: int, subject: bytes, reply: bytes, header_block: bytes, data: bytes
    ) -> None:
        """Hand over one message; arguments as `Parser` gives them."""
        if sid == self.inbox_sid:
            self._resolve(subject[self._key_at :], Message("", data, "", header_block))
            return
        handler = self.handlers.get(sid)
        if handler is None:
            self._on_foreign(sid, subject, reply, header_block, data)
            return
        try:
            message = Message(subject.decode(), data, reply.decode(), header_block)
        except UnicodeDecodeError:
            self.bad_subjects += 1
            return
        try:
            handler(message)
        except Disconnected:
            _log.debug("no connection to answer %r on", message.subject)
        except Exception:  # noqa: BLE001  # logged; it harms nobody else
            _log.exception("handler of %r failed", message.subject)
