"""Hooks: functions that run around each call, in the order of Go kit's clients."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kitmsg_gateways.upstream.items import Items

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint

__all__ = ["Hooks", "told_of_its_end"]

Q = TypeVar("Q")
A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks(Generic[Q, A]):
    """Functions around each call: encode, `before`, send, `after`, decode, `finalizer`.

    The types of request and reply are the protocol's.

    Attributes:
        before: See the request before it is sent, and may change it; raising ends the call.
        after: See the reply before it is read, errors too; the beginning of a reply that
            streams, or each of its messages where it has no beginning of its own.
        error_decoder: Finds the error in a reply, instead of the protocol's own; None for
            a success.
        finalizer: Run last, whatever happened, with the error or None; at the end of a
            reply that streams.
    """

    before: Sequence[Callable[[Context, Q], None]] = ()
    after: Sequence[Callable[[Context, A], None]] = ()
    error_decoder: Callable[[Context, A], Exception | None] | None = None
    finalizer: Sequence[Callable[[Context, BaseException | None], None]] = ()

    def finalized(self, call: Endpoint[Any, T]) -> Endpoint[Any, T]:
        """Return `call` with the finalizers around it."""
        if not self.finalizer:
            return call

        return told_of_its_end(call, lambda ctx: partial(self._finalize, ctx))

    def _finalize(self, ctx: Context, error: BaseException | None) -> None:
        for hook in self.finalizer:
            hook(ctx, error)


def told_of_its_end(
    call: Endpoint[Any, T],
    begin: Callable[[Context], Callable[[BaseException | None], None]],
) -> Endpoint[Any, T]:
    """Return `call` with a function that is told when each call is over, streams read.

    Args:
        call: The endpoint.
        begin: Called with each call's context; returns the function, which is given the
            error or None.
    """

    async def run(ctx: Context, request: Any) -> Any:
        over = begin(ctx)
        try:
            result = await call(ctx, request)
        except BaseException as exc:
            over(exc)
            raise
        if isinstance(result, AsyncIterator):
            return Items(result, lambda error, _: over(error))
        over(None)
        return result

    return run
