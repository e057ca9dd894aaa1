"""`connect`: a kit on the servers, and with the keys, that are named to it."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kitmsg.auth.signing import AUDIENCE, CallSigner
from kitmsg.auth.trusted import trusted_keys
from kitmsg.auth.vouched import Trust
from kitmsg.bus import Bus
from kitmsg.codec import Codec
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.provider import Provider
from kitmsg.service.kit import Kit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

__all__ = ["DEFAULT_URL", "connect", "trust_of"]

DEFAULT_URL = "nats://127.0.0.1:4222"


def trust_of(
    bus: Bus, sources: str | Sequence[str], audience: str = AUDIENCE
) -> Trust | None:
    """Return the trust in keys that are in files or on the bus; None for no keys.

    Args:
        bus: Where buckets are.
        sources: As `kitmsg.auth.trusted.trusted_keys` takes them.
        audience: The system that principals must be for.

    Raises:
        InvalidArgument: There are no keys in a source.
        FailedPrecondition: A library is missing.
    """
    given = [sources] if isinstance(sources, str) else list(sources)
    if not any(given):
        return None
    return Trust(trusted_keys(given, lambda: bus.request), audience=audience)


class _Connecting:
    """Awaited, a connected kit; as ``async with``, one that closes at the end."""

    def __init__(self, connect: Callable[[], Awaitable[Kit]]) -> None:
        self._connect = connect
        self._kit: Kit | None = None

    def __await__(self) -> Generator[Any, None, Kit]:
        return self._connect().__await__()

    async def __aenter__(self) -> Kit:
        self._kit = await self._connect()
        return self._kit

    async def __aexit__(self, *_: object) -> None:
        if self._kit is not None:
            await self._kit.close()


def connect(
    servers: str | Sequence[str] | None = None,
    *,
    bus: Bus | None = None,
    codec: Codec | None = None,
    trust: str | Sequence[str] = (),
    audience: str = AUDIENCE,
    auth: CallSigner | None = None,
    breaker: bool = True,
    metrics: Provider | None = None,
    makes_streams: bool = False,
    **options: Any,
) -> _Connecting:
    """Connect to a bus: ``async with kitmsg.connect() as kit`` or ``await``.

    Args:
        servers: One NATS URL or several, or where to ask for them, as in
            ``srv://_nats._tcp.example``; by default ``NATS_URL``, else the local bus.
        bus: Use this bus instead.
        codec: How requests travel, as in `Kit`.
        trust: Files, ``env:NAME`` or buckets (``kv:NAME``) with the public keys
            that may vouch for the callers of services here.
        audience: The system that principals must be for.
        auth: Signs calls, as in `Kit`.
        breaker: As in `Kit`.
        metrics: As in `Kit`.  A `MemoryMetrics`, such as `kitmsg.metrics.push.pushing` gives,
            shows the counters of the services and the connection too.
        makes_streams: As in `Kit`.
        options: As in `kitmsg.bus.nats.NatsOptions`: user, password, token, nkey, creds,
            TLS and more.

    Raises:
        Unavailable: No server answered.
        Unauthenticated: The server refused the credentials.
    """
    make_kit = functools.partial(
        Kit,
        codec=codec,
        auth=auth,
        breaker=breaker,
        metrics=metrics,
        makes_streams=makes_streams,
    )

    async def make() -> Kit:
        if bus is not None:
            keys = trust_of(bus, trust, audience)
            return _shown(make_kit(bus, trust=keys), metrics)
        from kitmsg.discovery.pool import connect_bus

        chosen = servers or os.environ.get("NATS_URL") or DEFAULT_URL
        made = await connect_bus(chosen, **options)
        try:
            keys = trust_of(made, trust, audience)
        except BaseException:
            await made.close()
            raise
        return _shown(make_kit(made, trust=keys), metrics)

    return _Connecting(make)


def _shown(kit: Kit, metrics: Provider | None) -> Kit:
    """Return a kit whose counters are shown with the metrics of the program."""
    if isinstance(metrics, MemoryMetrics):
        metrics.register(kit.collect)
    return kit
