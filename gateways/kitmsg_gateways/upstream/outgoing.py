"""Metadata and deadline of an outgoing call: time left, trace, request id, headers."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kitmsg.errors import DeadlineExceeded
from kitmsg.wire import AUTHORIZATION, REQUEST_ID

if TYPE_CHECKING:
    from kitmsg.context import Context

__all__ = ["Outgoing", "outgoing"]

_PRINTABLE: Final = re.compile(r"[\x20-\x7e]{1,8190}")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Metadata and deadline of an outgoing call.

    Attributes:
        timeout: Seconds that are left for it.
        headers: Trace, baggage, ``Kit-Request-Id``, metadata, and ``Authorization`` where
            it is forwarded; a protocol may spell the names in its own way.
    """

    timeout: float
    headers: dict[str, str]

    def web_headers(self) -> dict[str, str]:
        """Return the headers that are printable ASCII; the id is ``X-Request-Id``."""
        return {
            "X-Request-Id" if name == REQUEST_ID else name: value
            for name, value in self.headers.items()
            if _PRINTABLE.fullmatch(value)
        }


def outgoing(
    ctx: Context, timeout: float, *, forward_authorization: bool = False
) -> Outgoing:
    """Return metadata and deadline of a call on behalf of `ctx`.

    Args:
        ctx: Of the turn that makes the call, or one made by hand.
        timeout: Longest call, in seconds; a nearer deadline of `ctx` wins.
        forward_authorization: Whether the caller's ``Authorization`` goes along.

    Raises:
        DeadlineExceeded: No time is left.
    """
    if ctx.deadline is not None:
        left = ctx.deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded(
                f"no time left to call {ctx.endpoint or 'the upstream'}; it was not sent"
            )
        timeout = min(timeout, left)
    headers = {**ctx.propagated(), **ctx.metadata}
    if forward_authorization and AUTHORIZATION in ctx.headers:
        headers[AUTHORIZATION] = ctx.headers[AUTHORIZATION]
    return Outgoing(timeout, headers)
