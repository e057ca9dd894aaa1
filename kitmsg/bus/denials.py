"""Permission violations of a NATS server, and the asks that fail by them.

The server names the subject in a text, such as
``Permissions Violation for Publish to "orders.place"``; nats-py lower-cases it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kitmsg.errors import BusDenied

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.bus.asks import Ask, Asks

__all__ = ["Denials"]

_TEXT = re.compile(
    r'for (publish|subscription)( with reply)?(?: of| to) "([^"]+)"', re.IGNORECASE
)


class Denials:
    """Turns permission violations into errors of the asks they concern.

    Args:
        asks: The asks of the connection.
        inbox: What the subjects of its replies begin with.

    Attributes:
        on_inbox_denied: Called when `inbox_denied` becomes true.
    """

    def __init__(self, asks: Asks, inbox: str) -> None:
        self._asks = asks
        self._inbox = inbox
        self._listeners: list[Callable[[str], None]] = []
        self.on_inbox_denied: Callable[[], object] = lambda: None
        self.inbox_denied = False
        """Whether replies cannot be received at all."""

    def watch(self, on_denied: Callable[[str], None]) -> None:
        """Call `on_denied` with each subject that is denied, in lower case."""
        self._listeners.append(on_denied)

    def note(self, text: str) -> None:
        """Fail the asks that `text` is about, and tell the others."""
        found = _TEXT.search(text)
        if found is None:
            return
        kind, reply, subject = found.groups()
        for on_denied in self._listeners:
            on_denied(subject.lower())
        if kind.lower() == "publish":
            self._asks.fail_where(
                lambda ask: self._about(ask, subject, bool(reply)), _denied
            )
        elif subject.lower() == f"{self._inbox}*".lower():
            self.inbox_denied = True
            self.on_inbox_denied()
            self._asks.fail_where(lambda _: True, lambda _: self.inbox_error())

    def inbox_error(self) -> BusDenied:
        """Return what to tell those who ask although no reply can come."""
        return BusDenied(
            f"this NATS user may not subscribe to {self._inbox}*, so no reply can come;"
            " set inbox_prefix to one it may use"
        )

    def _about(self, ask: Ask, subject: str, is_reply: bool) -> bool:
        mine = f"{self._inbox}{ask.key.decode()}" if is_reply else ask.subject
        return mine.lower() == subject.lower()


def _denied(ask: Ask) -> BusDenied:
    return BusDenied(f"this NATS user may not send to {ask.subject!r}")
