"""Features of a server, by the level of its JetStream API (NATS ADR-44)."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from kitmsg.errors import FailedPrecondition

if TYPE_CHECKING:
    from kitmsg.jetstream.api import Api
    from kitmsg.jetstream.configs import StreamConfig

__all__ = ["Levels", "level_of"]

_KNOWN: Final = 60.0  # seconds; behind the bus may be another server then
_VERSIONS: Final = {1: "2.11", 2: "2.12", 3: "2.13", 4: "2.14"}


class Levels:
    """The level of the server behind an API, asked for once in a while."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._known = -1
        self._asked_at = -math.inf

    async def need(self, level: int, feature: str) -> None:
        """Return if the server has `level`.

        Args:
            level: As in ADR-44: 1 for nats-server 2.11, 2 for 2.12, 4 for 2.14.
            feature: What needs it, for the sentence.

        Raises:
            FailedPrecondition: It is older.
        """
        now = asyncio.get_running_loop().time()
        if self._known < level or now - self._asked_at > _KNOWN:
            account = await self._api.ask("INFO")
            self._known = int(account.get("api", {}).get("level", 0))
            self._asked_at = now
        if self._known < level:
            raise FailedPrecondition(
                f"{feature} needs nats-server {_VERSIONS[level]} or later (JetStream API"
                f" level {level}); this server has level {self._known}: update it"
            )


def level_of(config: StreamConfig) -> tuple[int, str]:
    """Return the level that a stream needs, and what needs it."""
    if config.allow_schedules:
        return 2, "a stream with schedules"
    if config.allow_atomic:
        return 2, "a stream with atomic batches"
    if config.allow_ttl or config.marker_ttl:
        return 1, "a stream with times to live"
    return 0, ""
