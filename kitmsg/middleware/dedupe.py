"""Run a call once in the fleet, however often it is sent.

A caller that heard nothing sends its call again, with the same idempotency key (header
``Kit-Idempotency-Key``, over HTTP ``Idempotency-Key``; draft-ietf-httpapi-idempotency-key).
The first one runs, the others get its answer, from a key-value bucket on NATS.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from kitmsg.answers import ANSWERS, Coders, Held, Record, answers_of, settled
from kitmsg.bus import Bus
from kitmsg.bus.reach import Site, site
from kitmsg.endpoints import Middleware
from kitmsg.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    KitError,
    Unavailable,
)
from kitmsg.jetstream import KEEPS
from kitmsg.metrics.resilience import RESILIENCE
from kitmsg.wire import IDEMPOTENCY_KEY

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp
    from kitmsg.jetstream import KeyValue

__all__ = ["Crashed", "dedupe"]

_log = logging.getLogger("kitmsg.middleware.dedupe")

_PART: Final = "dedupe"
_MOST_KEY: Final = 255

Crashed: TypeAlias = Literal["refuse", "run"]
"""A call whose first run nobody knows the end of: is refused, or runs again."""


def dedupe(
    window: float = 86_400.0,
    *,
    crashed: Crashed = "refuse",
    lease: float = 10.0,
    store: Bus | None = None,
    result: Any = None,
) -> Middleware:
    """Run calls with the same idempotency key once; give the others the same answer.

    For a service's endpoint.  Equal keys of other callers (`Principal`) or endpoints are
    other keys; a call without one runs as ever, and so does one that streams.  A second
    call waits for the end of the first, until its own deadline.  Declared errors, and codes
    that say no more than "no", are answers; a call that was refused before it began is
    forgotten.  Any other failure, a cancellation and a crash leave it open how the first
    run ended; `crashed` says what then.

    Args:
        window: Seconds that an answer is kept, rounded up to whole ones; more than zero.
        crashed: ``refuse`` the calls that come after with `Aborted`, or ``run`` again.
        lease: Seconds after which a run that shows no life has crashed; at least 1.
        store: Bus to the store; None for the one that the endpoint is on.
        result: Type of the result, where an endpoint is wrapped by hand.

    Raises:
        ValueError: `window` or `lease` is too small, `crashed` is neither; when an endpoint
            is wrapped, that there is no bus or no type of the result.
        InvalidArgument: From the wrapped endpoint: the key came with another request before,
            or is no key.
        Aborted: Nobody knows how the first run ended.
        Unavailable: The store is out of reach; the call did not begin.
    """
    if not window > 0 or not lease >= 1:
        raise ValueError(
            f"window must be positive and lease at least 1: {window!r}, {lease!r}"
        )
    if crashed not in ("refuse", "run"):
        raise ValueError(f"crashed must be 'refuse' or 'run', not {crashed!r}")

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        place = site()
        if place is not None and place.is_stream:
            return call
        once = _Once(
            answers_of(_bus_of(place, store)),
            _coders(place, result),
            window=window,
            lease=lease,
            runs_again=crashed == "run",
        )

        async def deduped(ctx: Context, request: Req) -> Resp:
            key = ctx.headers.get(IDEMPOTENCY_KEY, "") or ctx.metadata.get(
                IDEMPOTENCY_KEY, ""
            )
            if not key:
                return await call(ctx, request)
            answer: Resp = await once.run(ctx, key, request, lambda: call(ctx, request))
            return answer

        return deduped

    if store is None:
        setattr(wrap, KEEPS, ANSWERS)
    return wrap


def _bus_of(place: Site | None, store: Bus | None) -> Bus:
    if store is not None:
        return store
    if place is None:
        raise ValueError(
            f"{_PART} has no bus here: give one, store=bus, or put it around an endpoint"
            " of a service"
        )
    return place.bus


def _coders(place: Site | None, result: Any) -> Coders:
    if result is None and place is None:
        raise ValueError(
            f"{_PART} does not know the type of the result here: give it, result=..."
        )
    if place is None:
        return Coders(result, ())
    return Coders(place.result if result is None else result, place.raises)


class _Once:
    """Calls of one endpoint, by key."""

    def __init__(
        self,
        open_bucket: Callable[[], Awaitable[KeyValue]],
        coders: Coders,
        *,
        window: float,
        lease: float,
        runs_again: bool,
    ) -> None:
        self._open = open_bucket
        self._coders = coders
        self._window = window
        self._lease = lease
        self._runs_again = runs_again
        self._bucket: KeyValue | None = None
        self._endings: set[asyncio.Task[None]] = set()  # of calls that were cancelled

    async def run(
        self, ctx: Context, key: str, request: Any, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Return the result of the call, or of the one with its key before it."""
        name = ctx.endpoint or "the endpoint"
        running = Record(body=_digest(request), lease=self._lease)
        try:
            async with asyncio.timeout_at(ctx.deadline):
                found = await self._enter(ctx, _place(ctx, key), running)
        except TimeoutError:
            RESILIENCE.refused(_PART, ctx.endpoint)
            raise DeadlineExceeded(
                f"{_PART}: the first call of {name} with this idempotency key still runs",
                retry_after=1.0,
            ) from None
        if isinstance(found, Held):
            return await self._first(ctx, found, call)
        if found.body != running.body and found.body:
            RESILIENCE.refused(_PART, ctx.endpoint)
            raise InvalidArgument(
                f"{_PART}: idempotency key {key!r} came with another request of {name}"
                " before; make a new one for each request",
                field=IDEMPOTENCY_KEY,
            ).before(name)
        if found.state in ("running", "lost"):
            RESILIENCE.refused(_PART, ctx.endpoint)
            raise Aborted(
                f"{_PART}: nobody knows how the first call of {name} with idempotency key"
                f" {key!r} ended; look before you use a new key"
            )
        RESILIENCE.done(_PART, ctx.endpoint)
        return self._coders.replay(found)

    async def _enter(self, ctx: Context, place: str, running: Record) -> Held | Record:
        """Return our own record, or another's that does not run any more."""
        try:
            bucket = self._bucket = self._bucket or await self._open()
            return await self._claim(bucket, place, running)
        except KitError as error:
            self._bucket = None
            RESILIENCE.refused(_PART, ctx.endpoint)
            raise Unavailable(
                f"{_PART}: the store of answers is out of reach for"
                f" {ctx.endpoint or 'this endpoint'}: {error}",
                retry_after=error.retry_after or 1.0,
            ).before(ctx.endpoint) from error

    async def _claim(
        self, bucket: KeyValue, place: str, running: Record
    ) -> Held | Record:
        data = msgspec.msgpack.encode(running)
        while True:
            try:
                revision = await bucket.create(place, data, ttl=self._window)
                return Held(bucket, place, running, revision, self._window)
            except AlreadyExists:
                pass
            found = await settled(bucket, place)
            if found is None:
                continue  # it never began, or its window is over
            record, revision = found
            is_open = record.state in ("running", "lost")
            if not (is_open and self._runs_again and record.body == running.body):
                return record
            try:
                revision = await bucket.update(place, data, revision, ttl=self._window)
                return Held(bucket, place, running, revision, self._window)
            except Aborted:
                continue  # another took it over, or it lives

    async def _first(
        self, ctx: Context, held: Held, call: Callable[[], Awaitable[Any]]
    ) -> Any:
        lost = msgspec.structs.replace(held.record, state="lost")
        try:
            result = await call()
        except Exception as error:
            await self._end(ctx, held, self._ending(ctx, held, error, lost))
            raise
        except BaseException:
            task = asyncio.ensure_future(self._end(ctx, held, lost))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)
            raise
        try:
            answer = self._coders.answer(held.record, result)
        except (TypeError, ValueError):
            answer = lost  # the server says so itself, when it encodes the result
        await self._end(ctx, held, answer)
        return result

    def _ending(
        self, ctx: Context, held: Held, error: Exception, lost: Record
    ) -> Record | None:
        """Return the record of a call that failed; None if it never began."""
        if (
            ctx.endpoint
            and isinstance(error, KitError)
            and error.refused == ctx.endpoint
        ):
            return None
        try:
            return self._coders.error(held.record, error) or lost
        except (TypeError, ValueError):
            return lost

    async def _end(self, ctx: Context, held: Held, record: Record | None) -> None:
        """Write how it ended; a caller that waits gets its answer in any case."""
        try:
            await held.end(record)
        except KitError as error:
            _log.warning("the answer of %s is not kept: %s", ctx.endpoint, error)


def _place(ctx: Context, key: str) -> str:
    """Return where the record of a call is: by endpoint, caller and key."""
    if len(key) > _MOST_KEY or not key.isascii() or not key.isprintable():
        RESILIENCE.refused(_PART, ctx.endpoint)
        raise InvalidArgument(
            f"{_PART}: an idempotency key is 1 to {_MOST_KEY} printable ASCII characters,"
            f" unlike that of {ctx.endpoint or 'this call'}",
            field=IDEMPOTENCY_KEY,
        ).before(ctx.endpoint)
    who = None if ctx.principal is None else (ctx.principal.method, ctx.principal.name)
    text = repr((ctx.endpoint, who, key))
    return hashlib.sha256(text.encode()).hexdigest()


def _digest(request: Any) -> bytes:
    body = msgspec.msgpack.encode(request, order="deterministic", enc_hook=repr)
    return hashlib.sha256(body).digest()[:16]
