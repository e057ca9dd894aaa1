"""One attempt at a delivery: a turn of the instance's mailbox that ends in an acknowledgement.

    done                             acknowledged
    raised, timed out, cut           delivered again after the next of `retries`
    `Reject`, misfit, out of tries   a dead letter, stored before the original is given up
    drained before it began          given back at once

A process that dies in between acknowledges nothing, so that the store delivers again.

Hot path: `run` is flat for a delivery that comes alone, for the first time, and is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from kitmsg.context import Context, enter
from kitmsg.endpoints import Endpoint
from kitmsg.errors import Code, InvalidArgument, KitError, code_of
from kitmsg.events.attempts import Attempts, OnceIds, once_ids
from kitmsg.events.dead import DeadLetters
from kitmsg.events.retries import RETRIES, Reject
from kitmsg.events.spans import processing
from kitmsg.metrics.stats import EndpointStats
from kitmsg.tracing import tracer

if TYPE_CHECKING:
    from kitmsg.events.measures import Measures
    from kitmsg.jetstream import Delivery
    from kitmsg.message import Message

__all__ = ["Attempt", "Handling", "Owner"]

_log = logging.getLogger("kitmsg.events")

_MOST_TEXT: Final = 512
_NO_NUMBERS: Final[Mapping[int, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """The way deliveries of one consumer are handled.

    Attributes:
        name: Dotted name, such as ``mailer.thank``; in logs, metrics and contexts.
        decode: Makes the request of a message; `InvalidArgument` for one that misfits.
        endpoint: Carries it out, in its middlewares; exchanged when the instance is.
        dead: Takes what failed for good; None where nothing is stored, and so is dropped.
        retries: Seconds before each further attempt.
        timeout: Longest attempt, in seconds.
        in_batches: Whether requests are given as a list.
        attempts: Counts attempts where deliveries are no measure; None where nothing is
            delivered twice.
        once: Whether an attempt that succeeded is noted, and what it publishes has ids of
            its own.
        stats: Counts the attempts.
        measures: Counts the deliveries; None where nothing is stored.
    """

    name: str
    decode: Callable[[Context, Message], Any]
    endpoint: Callable[[], Endpoint[Any, Any]]
    dead: DeadLetters | None
    retries: tuple[float, ...] = RETRIES
    timeout: float = 300.0
    in_batches: bool = False
    attempts: Attempts | None = None
    once: bool = False
    stats: EndpointStats = field(default_factory=EndpointStats)
    measures: Measures | None = None

    def wait_after(self, attempt: int) -> float | None:
        """Return the seconds before the attempt after number `attempt`; None for never."""
        return self.retries[attempt - 1] if attempt <= len(self.retries) else None


class Owner(Protocol):
    """The one that begins attempts.

    Attributes:
        is_leaving: Whether none may begin any more: what it was to be on is given back.
    """

    is_leaving: bool

    def over(self, attempt: Attempt) -> None:
        """Take note that an attempt is over, whatever happened; once for each."""
        ...


# A Struct, because one is made for every delivery: it takes a quarter of the time.
class Attempt(msgspec.Struct, eq=False):
    """A turn that works on a delivery, or on several that are one batch.

    Args:
        handling: How.
        deliveries: On what.
        owner: Whose.
        deadline: When its time is up; None until it runs, as it begins with that.
    """

    handling: Handling
    deliveries: Sequence[Delivery]
    owner: Owner
    deadline: float | None = None
    # Number of the attempt, by the sequence of what was delivered more than once.
    _numbers: Mapping[int, int] = _NO_NUMBERS
    # Of an attempt that a `CancelledError` ended, until `ended` says why.
    _took_ns: int = 0
    # What was found not to fit, before any dead letter is made of it.
    _misfits: tuple[tuple[Delivery, InvalidArgument], ...] = ()
    # Set once; from then on nothing is acknowledged here.
    _is_over: bool = False

    @property
    def reply(self) -> str:
        """Return nothing: no caller waits."""
        return ""

    # Flat, because all of it runs for every delivery.
    async def run(self) -> None:  # noqa: PLR0912, PLR0915
        """Work on it; a `CancelledError` goes out to the mailbox, which calls `ended`."""
        if self.owner.is_leaving:
            self.give_back()
            return
        for delivery in self.deliveries:
            if delivery.glance()[0] > 1:
                await self._count()
                break
        if not self.deliveries:
            self._end()
            return
        handling, message = self.handling, self.deliveries[0].message
        self.deadline = asyncio.get_running_loop().time() + handling.timeout
        ctx = Context(deadline=self.deadline, endpoint=handling.name, message=message)
        enter(ctx)
        if handling.measures is not None:
            handling.measures.begins(self.deliveries)
        if handling.once:
            once_ids.set(OnceIds(self.deliveries[0]))
        started = perf_counter_ns()
        code: Code | None = None
        try:
            if handling.in_batches:
                request = self._batch(ctx)
            else:
                try:
                    request = handling.decode(ctx, message)
                except InvalidArgument as error:
                    request, self._misfits = None, ((self.deliveries[0], error),)
            if self._misfits:
                await self._bury_misfits()
            if self.deliveries:
                if tracer() is None:
                    await handling.endpoint()(ctx, request)
                else:
                    with processing(handling.name, message, ctx):
                        await handling.endpoint()(ctx, request)
                if handling.once:
                    await self._note_done()
            for delivery in self.deliveries:
                try:
                    delivery.ack()
                except KitError as error:
                    _unanswered(delivery, error)
            self._end()
        except asyncio.CancelledError:
            self._took_ns = perf_counter_ns() - started
            raise  # the mailbox knows why, and calls `ended`
        except BaseException as error:
            code = _code_of(error)
            await self._failed(error)
            if isinstance(error, (GeneratorExit, KeyboardInterrupt)):
                raise
        finally:
            took_ns = perf_counter_ns() - started
            handling.stats.observe(took_ns)
            if code is not None:
                handling.stats.broke(code.value, took_ns)
            if handling.once:
                once_ids.set(None)

    async def _note_done(self) -> None:
        if self.handling.attempts is not None:
            for delivery in self.deliveries:
                await self.handling.attempts.done(delivery)

    async def _count(self) -> None:
        """Number the attempts; leave out what is done, and bury what never ended."""
        attempts, most = self.handling.attempts, len(self.handling.retries) + 1
        if attempts is None:
            return
        left: list[Delivery] = []
        numbers: dict[int, int] = {}
        self._numbers = numbers
        for delivery in self.deliveries:
            number = numbers[delivery.sequence] = await attempts.begin(delivery)
            if number == 0:
                _quietly(_ack, delivery)
            elif number > most:
                # Either its dead letter found no room, or every attempt ended with its
                # process, and nobody was left to say why.
                never = f"{most} attempts began and none ended"
                await self._bury(await attempts.why(delivery) or never, [delivery])
            else:
                left.append(delivery)
        self.deliveries = left

    def _number(self, delivery: Delivery) -> int:
        return self._numbers.get(delivery.sequence, delivery.deliveries)

    def _wait(self, delivery: Delivery) -> float | None:
        """Return the seconds before the next attempt; None where this was the last."""
        return self.handling.wait_after(self._number(delivery))

    def _batch(self, ctx: Context) -> list[Any]:
        """Return what the endpoint is called with, and set aside what misfits."""
        found: list[Any] = []
        for delivery in self.deliveries:
            try:
                found.append(self.handling.decode(ctx, delivery.message))
            except InvalidArgument as error:
                self._misfits = (*self._misfits, (delivery, error))
        return found

    async def _bury_misfits(self) -> None:
        """Make dead letters of what misfits; the rest is worked on."""
        handling = self.handling
        for delivery, error in self._misfits:
            handling.stats.invalid += 1
            handling.stats.failed(error.code.value, str(error))
            _log.warning("%s: %s: %s", handling.name, _where(delivery), error)
            await self._bury(str(error), [delivery], error)
        misfits = [delivery for delivery, _ in self._misfits]
        self.deliveries = [d for d in self.deliveries if d not in misfits]

    def ended(self, code: Code) -> None:
        """Deliver again what was cut short, before or while it ran."""
        if self._took_ns:
            self.handling.stats.broke(code.value, self._took_ns)
        if self._is_over:
            return
        if code is Code.DEADLINE_EXCEEDED:
            self._retry(f"it took more than {self.handling.timeout:g} s", code)
        elif code is Code.INTERNAL:
            self._retry("something that it awaited was cancelled", code)
        else:
            self.give_back()

    def give_back(self) -> None:
        """Have it delivered again at once; the attempt counts for nothing to anybody."""
        self._settle(lambda delivery: delivery.nak())

    async def _failed(self, error: BaseException) -> None:
        handling = self.handling
        handling.stats.failed(_code_of(error).value, _text_of(error))
        if isinstance(error, Reject):
            await self._rejected(error)
            return
        attempt = max(map(self._number, self.deliveries))
        wait = handling.wait_after(attempt)
        _log.warning(
            "%s failed on %s, attempt %d of %d%s: %s: %s",
            handling.name,
            self._what,
            attempt,
            len(handling.retries) + 1,
            "" if wait is None else f", again in {wait:g} s",
            type(error).__name__,
            _text_of(error),
            exc_info=None if isinstance(error, KitError) else error,
        )
        final = [d for d in self.deliveries if self._wait(d) is None]
        if final:
            await self._bury(_text_of(error), final, error)
        self._retry_rest()

    async def _rejected(self, error: Reject) -> None:
        if len(self.deliveries) > 1:  # each says so for itself
            self._settle(lambda delivery: delivery.nak())
            return
        _log.warning("%s rejected %s: %s", self.handling.name, self._what, error)
        await self._bury(_text_of(error), self.deliveries, error)
        self._end()

    def _retry(self, why: str, code: Code) -> None:
        """Do as `_failed` where nothing can be awaited."""
        handling = self.handling
        handling.stats.failed(code.value, why)
        _log.warning("%s failed on %s: %s", handling.name, self._what, why)
        final = [d for d in self.deliveries if self._wait(d) is None]
        dead = handling.dead
        if final and dead is not None:
            # Kept out of others' hands until its dead letter is stored.
            dead.bury_soon(self._bury(why, final))
        rest = [d for d in self.deliveries if d not in final]
        self.deliveries = rest
        self._retry_rest()

    def _retry_rest(self) -> None:
        self._settle(lambda d: d.nak(self._wait(d) or 0.0))

    async def _bury(
        self,
        why: str,
        deliveries: Sequence[Delivery],
        error: BaseException | None = None,
    ) -> None:
        """Store dead letters, then give up the originals; one that fails comes again."""
        dead = self.handling.dead
        if dead is None:
            return
        for delivery in deliveries:
            try:
                await dead.bury(
                    delivery,
                    self.handling.name,
                    why,
                    type(error).__name__ if error else "",
                    min(self._number(delivery), len(self.handling.retries) + 1),
                )
            except KitError as failure:
                _log.error(
                    "%s: no dead letter could be stored of %s, so it comes again: %s",
                    self.handling.name,
                    _where(delivery),
                    failure,
                )
                if self.handling.attempts is not None:
                    number = self._number(delivery)
                    await self.handling.attempts.failed(delivery, number, why)
                _quietly(lambda d: d.nak(max((*self.handling.retries, 1.0))), delivery)
            else:
                _quietly(lambda d: d.term(why), delivery)
                if self.handling.measures is not None:
                    self.handling.measures.died()

    @property
    def _what(self) -> str:
        first, *rest = self.deliveries
        more = f" and {len(rest)} more" if rest else ""
        return f"{_where(first)}{more}"

    def _settle(self, answer: Callable[[Delivery], None]) -> None:
        for delivery in self.deliveries:
            _quietly(answer, delivery)
        self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.owner.over(self)

    def __repr__(self) -> str:
        return f"an attempt of {self.handling.name}"


def _ack(delivery: Delivery) -> None:
    delivery.ack()


def _quietly(answer: Callable[[Delivery], None], delivery: Delivery) -> None:
    """Answer a delivery; one that cannot be answered now comes again by itself."""
    try:
        answer(delivery)
    except KitError as error:
        _unanswered(delivery, error)


def _unanswered(delivery: Delivery, error: KitError) -> None:
    _log.debug("no answer to %s: %s", _where(delivery), error)


def _code_of(error: BaseException) -> Code:
    return code_of(error) if isinstance(error, KitError) else Code.INTERNAL


def _where(delivery: Delivery) -> str:
    return f"{delivery.subject} ({delivery.position.stream} #{delivery.sequence})"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:_MOST_TEXT]
    except Exception:  # noqa: BLE001  its class may do anything
        return "(it has no text: its __str__ fails)"
