"""Authorization: refuses callers that a policy does not let in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kitmsg.auth import Refused
from kitmsg.auth.allow import Allow, as_policy, denied
from kitmsg.endpoints import Middleware

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["allow"]

_log = logging.getLogger("kitmsg.auth")


def allow(policy: Allow) -> Middleware:
    """Let in a caller that `policy` permits; around a server's endpoint.

    ``@endpoint(allow=...)`` does the same, inside the service's middlewares, and tells
    gateways and documents of it.

    Args:
        policy: See `kitmsg.auth.allow`.

    Raises:
        TypeError: `policy` is none.
        Unauthenticated: From the wrapped endpoint: nobody knows who calls.
        PermissionDenied: From the wrapped endpoint: the caller may not.
    """
    chosen = as_policy(policy)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def permitted(ctx: Context, request: Req) -> Resp:
            if not await chosen.permits(ctx):
                if ctx.principal is None:
                    raise Refused(f"{ctx.endpoint} is for callers that are known")
                who = ascii(ctx.principal.name)
                _log.info("%s: %s may not call: %s", ctx.endpoint, who, chosen)
                raise denied(ctx.principal, ctx.endpoint)
            return await call(ctx, request)

        return permitted

    return wrap
