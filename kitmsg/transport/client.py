"""An endpoint that asks over the bus.

Phases, in Go kit's order: encode, before, send, after, decode, finalizer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias

from kitmsg.codec import MSGPACK
from kitmsg.context import Context
from kitmsg.endpoints import Endpoint, Req, Resp
from kitmsg.errors import DeadlineExceeded, InvalidArgument, NoResponders
from kitmsg.message import Message, check_subject, encode_headers
from kitmsg.transport import transfer
from kitmsg.transport.replies import Declared, decode_error
from kitmsg.wire import CALLER, TIMEOUT, plain_headers

if TYPE_CHECKING:
    from kitmsg.bus import Bus
    from kitmsg.transport.typed import Decode, Encode

__all__ = ["DEFAULT_TIMEOUT", "Client", "ErrorDecoder", "Hint"]

DEFAULT_TIMEOUT: Final = 5.0

MAX_TIMEOUT: Final = 1e9
"""In seconds; what `Kit-Timeout` has digits for."""

Before: TypeAlias = Callable[[Context, dict[str, str]], None]
"""May add headers; raising aborts the call."""

After: TypeAlias = Callable[[Context, Message], None]
"""Sees the reply before it is decoded."""

Finalizer: TypeAlias = Callable[[Context, BaseException | None], None]
"""Runs last, whatever happened, with what the call raised or None."""

ErrorDecoder: TypeAlias = Callable[[Context, Message], Exception | None]
"""Returns the error that a reply tells of; None for a success."""

Hint: TypeAlias = Callable[[str], Awaitable[str]]
"""Takes a subject nobody serves; returns what to say about it, or ""."""


class Client(Generic[Req, Resp]):
    """One remote procedure at `subject`.

    Args:
        bus: What carries the messages.
        subject: Where requests go.
        encode: Makes the payload of a request.
        decode: Reads the response out of a reply that is no error.
        name: Dotted name in contexts, logs and metrics; the subject by default.
        timeout: Longest wait, in seconds; a nearer deadline of the caller wins.
        raises: Exception classes that the endpoint declares; they are raised as such.
        before: Run after encoding; may add headers.
        after: Run on the reply, errors too, before decoding.
        error_decoder: Finds the error in a reply; by default as `docs/protocol.md` says.
        finalizer: Run last, with the error or None.
        hint: Asked for a helpful word when nobody serves `subject`.
        max_bytes: Longest request, and longest reply.

    Raises:
        ValueError: `timeout` is not positive, or no number that `Kit-Timeout` takes.
        InvalidArgument: `subject` is malformed.
    """

    def __init__(
        self,
        bus: Bus,
        subject: str,
        *,
        encode: Encode,
        decode: Decode,
        name: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        raises: Sequence[type[Exception]] = (),
        before: Sequence[Before] = (),
        after: Sequence[After] = (),
        error_decoder: ErrorDecoder | None = None,
        finalizer: Sequence[Finalizer] = (),
        hint: Hint | None = None,
        max_bytes: int = transfer.MAX_BYTES,
    ) -> None:
        if not 0 < timeout < MAX_TIMEOUT:
            raise ValueError(
                f"timeout must be positive seconds under {MAX_TIMEOUT:g}, not {timeout!r}"
            )
        self.bus = bus
        self.subject = check_subject(subject)
        self.name = name or subject
        self.timeout = timeout
        self.max_bytes = max_bytes
        self._encode = encode
        self._decode = decode
        self._before = tuple(before)
        self._is_bare = not before  # nobody adds headers
        self._after = tuple(after)
        self._finalizer = tuple(finalizer)
        self._declared = {cls.__name__: Declared.of(cls) for cls in raises}
        self._error_decoder = error_decoder or self._default_error
        self._reads_body = error_decoder is not None
        self._plain = plain_headers(int(timeout * 1000) or 1)
        self._hint = hint

    def endpoint(self) -> Endpoint[Req, Resp]:
        """Return the call as an endpoint, ready for middleware.

        The context it takes is the caller's (`kitmsg.current()` inside a turn): its
        deadline bounds the call and its trace goes along.  It raises `KitError`s: those of
        `Bus.request`, the service's own, and `DataLoss` for a reply that does not fit.
        """
        return self._finalized if self._finalizer else self._call

    async def _finalized(self, ctx: Context, request: Req) -> Resp:
        error: BaseException | None = None
        try:
            return await self._call(ctx, request)
        except BaseException as exc:
            error = exc
            raise
        finally:
            for hook in self._finalizer:
                hook(ctx, error)

    async def _call(self, ctx: Context, request: Req) -> Resp:  # noqa: PLR0912
        if ctx.endpoint != self.name or ctx.message is not None:
            ctx = ctx.child(self.name)
        data = self._encode(ctx, request)
        if self._is_bare and ctx.deadline is None and not (ctx.metadata or ctx.caller):
            left, block = self.timeout, self._plain
        else:
            left = self._left(ctx)
            block = self._headers(ctx, int(left * 1000) or 1)
        try:
            reply = await self.bus.request(self.subject, data, left, block)
        except NoResponders as exc:
            hint = await self._hint(self.subject) if self._hint else ""
            if not hint:
                raise
            raise NoResponders(self.subject, hint) from exc
        except InvalidArgument:
            if len(data) + len(block) <= self.bus.max_payload:
                raise
            reply = await transfer.request(
                self.bus, self.subject, data, left, block, max_bytes=self.max_bytes
            )
        if reply.header_block and transfer.is_elsewhere(reply.header_block):
            reply = await transfer.fetch(
                self.bus, reply, left, "the reply", self.max_bytes
            )
        for hook in self._after:
            hook(ctx, reply)
        if reply.header_block or self._reads_body:
            error = self._error_decoder(ctx, reply)
            if error is not None:
                raise error
        response: Resp = self._decode(ctx, reply)
        return response

    def _left(self, ctx: Context) -> float:
        """Return the seconds this call may take."""
        if ctx.deadline is None:
            return self.timeout
        left = ctx.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded(f"no time left to call {self.name}; it was not sent")
        return min(left, self.timeout)

    def _headers(self, ctx: Context, timeout_ms: int) -> bytes:
        if self._is_bare and not (ctx.metadata or ctx.caller):
            return plain_headers(timeout_ms)
        fields = {TIMEOUT: str(timeout_ms), **ctx.metadata}
        if ctx.caller:
            fields[CALLER] = ctx.caller
        for hook in self._before:
            hook(ctx, fields)
        return encode_headers(fields)

    def _default_error(self, ctx: Context, message: Message) -> Any:
        codec = ctx.codec or MSGPACK
        return decode_error(message, codec=codec, declared=self._declared)
