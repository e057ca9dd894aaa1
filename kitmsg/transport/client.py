"""An endpoint that asks over the bus: encode, call, decode.

Phases, in Go kit's order: encode, before, send, after, decode, finalizer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeAlias

from kitmsg.bus import Bus
from kitmsg.context import Context
from kitmsg.endpoints import Endpoint, Req, Resp
from kitmsg.transport import transfer
from kitmsg.transport.caller import (
    DEFAULT_TIMEOUT,
    After,
    Before,
    Caller,
    ErrorDecoder,
    Hint,
)
from kitmsg.transport.typed import Decode, Encode

__all__ = ["Client", "Finalizer"]

Finalizer: TypeAlias = Callable[[Context, BaseException | None], None]
"""Runs last, whatever happened, with what the call raised or None."""


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
        breaker: As in `kitmsg.transport.caller.Caller`.
        counts: Likewise.

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
        breaker: bool = True,
        counts: bool = True,
    ) -> None:
        self.caller = Caller(
            bus,
            subject,
            name=name,
            timeout=timeout,
            before=before,
            after=after,
            raises=raises,
            error_decoder=error_decoder,
            hint=hint,
            max_bytes=max_bytes,
            breaker=breaker,
            counts=counts,
        )
        self.name = self.caller.name
        self._call: Endpoint[Req, Resp] = _call(self.caller, encode, decode)
        self._finalizer = tuple(finalizer)

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


def _call(caller: Caller, encode: Encode, decode: Decode) -> Endpoint[Any, Any]:
    """Return the call as an endpoint; a closure, because it runs for every call."""
    name, ask = caller.name, caller.ask

    def call(ctx: Context, request: Any) -> Awaitable[Any]:
        if ctx.endpoint != name or ctx.message is not None:
            ctx = ctx.child(name)
        return ask(ctx, request, encode, decode)

    return call
