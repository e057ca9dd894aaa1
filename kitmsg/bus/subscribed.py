"""The subscriptions of a connection as commands, for every server it comes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitmsg.bus.natspy import Subscription

__all__ = ["Subscribed"]


class Subscribed:
    """A view of nats-py's subscriptions, by id; ids are never used twice.

    Args:
        subs: nats-py's own table; what is used up is taken out of it.
    """

    def __init__(self, subs: dict[int, Subscription]) -> None:
        self._subs = subs

    def ids(self) -> set[int]:
        """Return the ids of all."""
        return set(self._subs)

    def queued(self) -> set[int]:
        """Return the ids of those in queue groups."""
        return {sid for sid, sub in self._subs.items() if sub._queue}  # noqa: SLF001

    def command(self, sid: int) -> bytes:
        """Return the command that subscribes to one."""
        sub = self._subs[sid]
        queue = sub._queue or ""  # noqa: SLF001
        return f"SUB {sub.subject} {queue} {sid}\r\n".encode()

    def commands(self) -> list[bytes]:
        """Return those that subscribe to all; one with a limit gets what is left of it."""
        commands: list[bytes] = []
        for sid, sub in list(self._subs.items()):
            left = sub._max_msgs - sub._received  # noqa: SLF001
            if sub._max_msgs > 0 and left <= 0:  # noqa: SLF001
                del self._subs[sid]
                continue
            commands.append(self.command(sid))
            if sub._max_msgs > 0:  # noqa: SLF001
                commands.append(b"UNSUB %d %d\r\n" % (sid, left))
        return commands

    def changes(self, known: set[int]) -> list[bytes]:
        """Return the commands for a server that was told of `known` ones only."""
        now = self.ids()
        gone = [b"UNSUB %d\r\n" % sid for sid in known - now]
        return gone + [self.command(sid) for sid in sorted(now - known)]
