"""Errors of a service, as its callers, the log and the supervision hear of them.

The text of an error that nobody declared stays here: the caller gets a request id.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias

from kitmsg.codec import JSON
from kitmsg.context import Context
from kitmsg.errors import (
    BusDenied,
    Disconnected,
    Internal,
    InvalidArgument,
    KitError,
    error_for,
    outward,
)
from kitmsg.message import Message
from kitmsg.transport.replies import declaration, encode_error, error_code
from kitmsg.wire import SPANS, with_fields

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.metrics.stats import EndpointStats
    from kitmsg.transport.replies import ErrorTypes

__all__ = ["ErrorEncoder", "Failures", "OnFailure", "set_by_handler", "text_of"]

_log = logging.getLogger("kitmsg.service")

OnFailure: TypeAlias = Callable[[BaseException, Message], None]
"""Told of a failure that nobody declared, and of the request."""

ErrorEncoder: TypeAlias = Callable[[Context, BaseException], tuple[bytes, bytes]]
"""Returns payload and header block of the reply that tells of an error."""

_Send: TypeAlias = Callable[[Message, bytes, bytes], None]
_SendLong: TypeAlias = Callable[[Message, bytes, bytes], Awaitable[KitError | None]]


class Failures:
    """Tells of the errors of one endpoint.

    Args:
        bus: What carries the answers.
        name: Dotted name of the endpoint.
        stats: Where answers are counted.
        declared: The exceptions that travel typed.
        encoder: Makes the reply for an error; None for that of `docs/protocol.md`.
        on_failure: Told of each error that nobody declared, and of the request.
        logs: Whether these are logged.
        send: Sends an error reply: to a request, its payload and its headers.
        respond_long: Likewise, one that is too long for a message; returns what went wrong.
    """

    def __init__(
        self,
        bus: Bus,
        name: str,
        stats: EndpointStats,
        *,
        declared: ErrorTypes,
        encoder: ErrorEncoder | None,
        on_failure: OnFailure | None,
        logs: bool,
        send: _Send,
        respond_long: _SendLong,
    ) -> None:
        self._bus = bus
        self._name = name
        self._stats = stats
        self._declared = declared
        self._encode = encoder or self._default
        self._on_failure = on_failure
        self._logs = logs
        self._send, self._respond_long = send, respond_long

    def is_told(self, error: BaseException) -> bool:
        """Tell whether the text of `error` is meant for others than the log."""
        return isinstance(error, KitError) or bool(declaration(error, self._declared))

    def failed(self, ctx: Context, message: Message, error: BaseException) -> None:
        """Log what is the service's fault, and answer."""
        self.note(ctx, message, error)
        self.answer(ctx, message, _outward(error))

    async def fail(self, ctx: Context, message: Message, error: BaseException) -> None:
        """Do as `failed`; an error that is too long for a message goes as a long reply."""
        self.note(ctx, message, error)
        told = _outward(error)
        over = self._tell(ctx, message, told)
        if over is not None and await self._respond_long(message, *over) is not None:
            self._answer_briefly(ctx, message, told)

    def note(self, ctx: Context, message: Message, error: BaseException) -> None:
        """Log what is the service's fault, and tell the supervision."""
        if not self.is_told(error):
            if self._logs:
                self._log_failure(ctx, error)
            if self._on_failure is not None:
                self._on_failure(error, message)
        elif isinstance(error, BusDenied) and self._logs:
            self._log_failure(ctx, error)

    def answer(self, ctx: Context, message: Message, error: BaseException) -> None:
        """Send an error reply and count it.

        One that cannot be made or sent is logged, and a plain one takes its place.
        """
        if self._tell(ctx, message, error) is not None:
            self._answer_briefly(ctx, message, error)

    def _tell(
        self, ctx: Context, message: Message, error: BaseException
    ) -> tuple[bytes, bytes] | None:
        """Do as `answer`; returns payload and headers of one that is too long, unsent."""
        text = str(error) if self.is_told(error) else f"request id {_request_id(ctx)}"
        self._stats.failed(error_code(error, self._declared).value, text)
        if isinstance(error, InvalidArgument):
            self._stats.invalid += 1
        if not message.reply:
            return None
        try:
            data, header_block = self._encode(ctx, error)
            header_block = with_fields(header_block, set_by_handler(ctx))
            if len(data) + len(header_block) > self._bus.max_payload:
                return data, header_block
            self._send(message, data, header_block)
        except Disconnected:
            _log.debug("%s: no connection to answer on", self._name)
        except Exception:  # noqa: BLE001  a custom encoder may fail in any way
            _log.exception("%s: the error reply failed", self._name)
            failed = Internal(f"{self._name} failed, and so did its error reply")
            self._answer_plainly(ctx, message, failed)
        return None

    def _answer_briefly(
        self, ctx: Context, message: Message, error: BaseException
    ) -> None:
        """Send the code and text of an error whose fields are too long."""
        brief: KitError = Internal(f"{self._name} failed, and so did its error reply")
        if self.is_told(error):
            brief = error_for(error_code(error, self._declared), str(error))
        self._answer_plainly(ctx, message, brief)

    def _answer_plainly(self, ctx: Context, message: Message, error: KitError) -> None:
        data, header_block = self._default(ctx, error)
        try:
            self._send(message, data, header_block)
        except KitError as exc:
            _log.warning("%s: no answer to %s: %s", self._name, message.reply, exc)

    def _default(self, ctx: Context, error: BaseException) -> tuple[bytes, bytes]:
        return encode_error(
            error,
            request_id=_request_id(ctx),
            codec=ctx.codec or JSON,
            declared=self._declared,
            endpoint=self._name,
        )

    def _log_failure(self, ctx: Context, error: BaseException) -> None:
        _log.error(
            "%s failed: %s: %s",
            self._name,
            type(error).__name__,
            text_of(error),
            exc_info=error,
            extra={"endpoint": self._name, "request_id": _request_id(ctx)},
        )


def _outward(error: BaseException) -> BaseException:
    """Return the error that callers see."""
    return outward(error) if isinstance(error, KitError) else error


def set_by_handler(ctx: Context) -> dict[str, str]:
    """Return the headers that the handler gave its reply, and the spans that go back."""
    given = ctx._reply  # noqa: SLF001
    fields = {} if given is None else dict(given)
    span = ctx._span  # noqa: SLF001
    if span is not None and span.gathers:
        fields[SPANS] = span.gathered()
    return fields


def text_of(error: BaseException) -> str:
    """Return the text of an error of any class."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001  its class may do anything
        return "(it has no text: its __str__ fails)"


def _request_id(ctx: Context) -> str:
    """Return the request's id; one is made up where its headers cannot be read."""
    try:
        return ctx.request_id
    except InvalidArgument:
        return Context().request_id
