"""Authentication: refuses calls whose caller is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.auth import Verifier
from kitmsg.auth.allow import AUTHENTICATES
from kitmsg.auth.header import Authenticator
from kitmsg.endpoints import Middleware
from kitmsg.wire import AUTHORIZATION

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["auth"]


def auth(*verifiers: Verifier) -> Middleware:
    """Let in a caller that is known, and note it in the context's `principal`.

    A principal that a gateway or a service vouched for, by a signature that the server has
    verified (see `kitmsg.auth.vouched`), is known already.

    Around a server's endpoint only: a client has nobody to check.

    Args:
        verifiers: What checks the ``Authorization`` of a call that nobody vouches for, one
            for each scheme: `kitmsg.auth.jwt.JwtVerifier`,
            `kitmsg.auth.basic.BasicVerifier`.

    Raises:
        Unauthenticated: From the wrapped endpoint: nobody knows who calls.
        Unavailable: From the wrapped endpoint: it cannot be found out now.
    """
    authenticator = Authenticator(verifiers)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def known(ctx: Context, request: Req) -> Resp:
            if ctx.principal is None:
                given = ctx.headers.all(AUTHORIZATION)
                ctx.principal = await authenticator.authenticate(given)
            return await call(ctx, request)

        return known

    setattr(wrap, AUTHENTICATES, True)
    return wrap
