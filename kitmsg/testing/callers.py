"""Callers that a test makes up: the fixtures' kits take this process's word for them.

ann = kit.client(Orders, auth=caller("ann", scope="orders:write"))
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from kitmsg.auth import Principal
from kitmsg.auth.ed25519 import SigningKey, TrustedKey
from kitmsg.auth.signing import CallSigner, PrincipalSigner
from kitmsg.auth.vouched import Trust
from kitmsg.wire import PRINCIPAL

if TYPE_CHECKING:
    from kitmsg.context import Context

__all__ = ["TEST_TRUST", "caller"]


def caller(name: str, /, **claims: Any) -> CallSigner:
    """Return what makes calls those of a principal; see ``kit.client(..., auth=...)``.

    Args:
        name: Of the principal.
        claims: What else is known of it, such as ``scope="orders:read"`` or
            ``roles=["admin"]``.

    Raises:
        FailedPrecondition: From a call: PyJWT[crypto] is not installed.
    """
    principal = Principal(name, "test", claims)

    def sign(ctx: Context, fields: dict[str, str]) -> None:
        del ctx
        fields[PRINCIPAL] = _signer().text(principal)

    return sign


class _TestKeys:
    """The key of this process; made when it is first needed, which takes a while."""

    async def find(self, kid: str) -> TrustedKey | None:
        key = _signer().key
        return key.trusted() if kid == key.kid else None


TEST_TRUST: Final = Trust([_TestKeys()])
"""Trust of the fixtures' kits in `caller`."""


@functools.cache
def _signer() -> PrincipalSigner:
    return PrincipalSigner(SigningKey.new())
