"""The one rule of where an answer may go: to inboxes, and nowhere else.

A reply subject, a stream's peer and the place of a long body are said by the other side.
If any subject would do, whoever is asked, or asks, could publish with this connection's
rights: a reply to ``$JS.API.STREAM.DELETE.ORDERS`` deletes a stream.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Final

from kitmsg.message import check_subject

__all__ = ["DEFAULT_PREFIX", "Inboxes"]

DEFAULT_PREFIX: Final = "_INBOX"
"""First token of the inboxes of every NATS client, unless it is told another."""

_log = logging.getLogger("kitmsg.bus")

_REMIND: Final = 30.0  # seconds between two lines about what was refused
_SHOWN: Final = 80  # characters of a refused subject


class Inboxes:
    """The subjects that a connection answers on, and a count of those it refused.

    An inbox is a subject whose first token is ``_INBOX``, or begins with ``_INBOX_``, or
    one below a prefix that the operator named.

    Args:
        prefixes: First tokens of inboxes, beside those that every client has.

    Attributes:
        starts: Beginnings of the subjects that are taken.  The hot path compares with them
            itself.
        refused: Messages that wanted an answer, or a stream, elsewhere.
    """

    __slots__ = ("_told_at", "refused", "starts")

    def __init__(self, *prefixes: str) -> None:
        named = [f"{check_subject(prefix)}." for prefix in prefixes]
        common = (f"{DEFAULT_PREFIX}.", f"{DEFAULT_PREFIX}_")
        self.starts: tuple[str, ...] = tuple(dict.fromkeys((*common, *named)))
        self.refused = 0
        self._told_at = -_REMIND

    def takes(self, subject: str) -> bool:
        """Tell whether something may be sent to `subject`; one that may not is counted."""
        if subject.startswith(self.starts):
            return True
        self.refuse(subject)
        return False

    def is_inbox(self, subject: str) -> bool:
        """Tell whether `subject` is an inbox, without counting one that is none."""
        return subject.startswith(self.starts)

    def refuse(self, subject: str) -> None:
        """Count a subject that is no inbox; says so once in a while."""
        self.refused += 1
        now = monotonic()
        if now - self._told_at < _REMIND:
            return
        self._told_at = now
        _log.warning(
            "a peer wants an answer on %r, which is no inbox: refused (%d so far); if it is"
            " the inbox prefix of a client here, name it with --nats-peer-inbox",
            subject[:_SHOWN],
            self.refused,
        )
