"""Poison requests: those that restart an instance again and again are refused.

A request that breaks an instance is often sent again, by a retry or by the next click.  Under
``Supervision(policy="restart")`` it would use up all restarts and end one worker after the
other.  It is known by a hash of its subject and body, since headers differ each time.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.context import Context
    from kitmsg.message import Message

__all__ = ["Quarantine"]

_log = logging.getLogger("kitmsg.service")

_MAX_KNOWN: Final = 256  # requests; the one that failed longest ago makes room


class Quarantine:
    """Refuses requests that restarted the instance `most` times within `window` seconds.

    Args:
        most: Restarts by one request before it is refused; 0 for no quarantine, since then
            the first failure ends the worker.
        window: In seconds.
        clock: Tells the time, in seconds.

    Attributes:
        refused: How many requests were refused.
    """

    def __init__(self, most: int, window: float, clock: Callable[[], float]) -> None:
        self.refused = 0
        self._most = most
        self._window = window
        self._clock = clock
        # Times of the restarts by each request, oldest first; never empty.  The order of
        # the keys is that of their last failures.
        self._known: dict[str, deque[float]] = {}
        # Keys of `_known` with `most` times: `check` hashes nothing while there are none.
        self._held: set[str] = set()

    def note(self, message: Message) -> tuple[str, bool]:
        """Note a request that made a restart necessary.

        Returns:
            Its hash, and whether it is refused from now on.
        """
        key, now = _hash(message), self._clock()
        times = self._known.pop(key, None) or deque()
        self._known[key] = times
        times.append(now)
        self._forget(key, now)
        if len(self._known) > _MAX_KNOWN:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._held.discard(oldest)
        is_held = 0 < self._most <= len(times)
        if is_held:
            self._held.add(key)
            _log.error(
                "%s: the request with hash %s restarted the service %d times in %g s; it is"
                " refused now",
                *(message.subject, key, len(times), self._window),
            )
        return key, is_held

    def check(self, ctx: Context, message: Message) -> None:
        """Refuse a request in quarantine; a `before` of servers.

        Raises:
            FailedPrecondition: It is; the message has its hash.
        """
        if not self._held:
            return
        key = _hash(message)
        if key not in self._held:
            return
        self._forget(key, self._clock())
        if key not in self._held:
            return
        self.refused += 1
        count = len(self._known[key])
        raise FailedPrecondition(
            f"{message.subject}: this request, with hash {key}, restarted the service"
            f" {count} times in {self._window:g} s, so it is refused for a while"
        ).before(ctx.endpoint)

    def _forget(self, key: str, now: float) -> None:
        """Forget what was before the window."""
        times = self._known[key]
        while times and times[0] < now - self._window:
            times.popleft()
        if len(times) < self._most:
            self._held.discard(key)
        if not times:
            del self._known[key]


def _hash(message: Message) -> str:
    subject = message.subject.encode()
    digest = hashlib.blake2b(subject + b"\0" + message.data, digest_size=8)
    return digest.hexdigest()
