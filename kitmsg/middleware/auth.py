"""Authentication: refuses calls whose caller is not known."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kitmsg.auth import Principal, Refused, Verifier
from kitmsg.auth.header import Authenticator
from kitmsg.endpoints import Middleware
from kitmsg.wire import AUTHORIZATION, PRINCIPAL

if TYPE_CHECKING:
    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Req, Resp

__all__ = ["auth"]

_log = logging.getLogger("kitmsg.auth")


def auth(*verifiers: Verifier, trust_gateway: bool = False) -> Middleware:
    """Let in who is known, and note who it is in the context's `principal`.

    Around a server's endpoint only: a client has nobody to check.

    Args:
        verifiers: What checks the ``Authorization`` of a call, one for each scheme:
            `kitmsg.auth.jwt.JwtVerifier`, `kitmsg.auth.basic.BasicVerifier`.
        trust_gateway: Take the word of ``Kit-Principal``, which a gateway writes after it
            has checked the credentials.  Whoever may publish on the bus can write it too,
            so say so only where the bus lets in none but your own.

    Raises:
        ValueError: There are no verifiers and the gateway is not trusted.
        Unauthenticated: From the wrapped endpoint: nobody knows who calls.
        Unavailable: From the wrapped endpoint: it cannot be found out now.
    """
    if not verifiers and not trust_gateway:
        raise ValueError("auth needs a verifier, or trust_gateway=True")
    authenticator = Authenticator(verifiers)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def known(ctx: Context, request: Req) -> Resp:
            told = ctx.headers.all(PRINCIPAL) if trust_gateway else []
            if told:
                ctx.principal = _parse(told)
            else:
                given = ctx.headers.all(AUTHORIZATION)
                ctx.principal = await authenticator.authenticate(given)
            return await call(ctx, request)

        return known

    return wrap


def _parse(told: list[str]) -> Principal:
    try:
        (text,) = told
        return Principal.parse(text)
    except ValueError as exc:
        _log.warning("%s is not as a gateway writes it: %s", PRINCIPAL, exc)
        raise Refused("the caller is not known", "no principal") from exc
