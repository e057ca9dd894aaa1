"""``Kit-Principal``, checked: signature, kind, audience, life, and who may vouch for whom.

A principal that was checked is remembered by its text, so most calls cost a look-up.  Hot
path: `PrincipalVerifier.recall` runs for every request with headers.
"""

from __future__ import annotations

import asyncio
import logging
from time import time
from typing import TYPE_CHECKING, Any, Final

from kitmsg.auth import Principal
from kitmsg.auth.signing import AUDIENCE, TYPE
from kitmsg.wire import PRINCIPAL, PRINCIPAL_MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitmsg.auth.ed25519 import TrustedKey
    from kitmsg.auth.trusted import TrustedKeys
    from kitmsg.message import Headers

__all__ = ["PENDING", "PrincipalVerifier", "Trust"]

_log = logging.getLogger("kitmsg.auth")

PENDING: Final = Principal("", "")
"""Stands for a principal that was not checked yet."""

_SKIP: Final = len(PRINCIPAL_MARK)
_REMEMBER_SECONDS: Final = 5.0  # so long a key that was taken away may be believed
_LEEWAY_SECONDS: Final = 5.0  # by which clocks may differ
_MOST_SECONDS: Final = 900
_MOST: Final = 4096


class Trust:
    """Public keys that may vouch, and the audience of this system.

    Args:
        keys: Where they are.
        audience: That a principal must be for, if it is not for the one service.
    """

    def __init__(
        self, keys: Sequence[TrustedKeys], *, audience: str = AUDIENCE
    ) -> None:
        self.keys = tuple(keys)
        self.audience = audience

    def verifier(self, service: str) -> PrincipalVerifier:
        """Return what checks the principals that come to a service."""
        return PrincipalVerifier(self.keys, (self.audience, service))


class PrincipalVerifier:
    """Checks the principals that come to one service.

    Args:
        keys: Where the public keys are.
        audiences: A principal must be for one of them.
    """

    def __init__(self, keys: Sequence[TrustedKeys], audiences: Sequence[str]) -> None:
        self._keys = tuple(keys)
        self._audiences = list(audiences)
        self._known: dict[bytes, tuple[Principal, float]] = {}

    def recall(self, block: bytes, now: float) -> Principal | None:
        """Return the principal of a header block, as far as it is known without asking.

        Args:
            block: The header block.
            now: The loop's time, which the caller knows: to ask for it costs more than this.

        Returns:
            None where the block has none, and `PENDING` where `verify` has to look.
        """
        at = block.find(PRINCIPAL_MARK)
        if at < 0:
            return None
        at += _SKIP
        known = self._known.get(block[at : block.find(b"\r\n", at)])
        if known is not None and now < known[1]:
            return known[0]
        return PENDING

    async def verify(self, headers: Headers, where: str) -> Principal | None:
        """Return the principal of a request; None where nobody we trust vouches for it.

        Args:
            headers: Of the request.
            where: The endpoint, for the log.
        """
        given = headers.all(PRINCIPAL)
        try:
            (text,) = given
            principal, end = await self._check(text)
        except ValueError as exc:
            why = f"it came {len(given)} times" if len(given) != 1 else exc
            _log.info("%s: %s does not hold: %s", where, PRINCIPAL, why)
            return None
        self._put(text.encode(), principal, end)
        return principal

    def _put(self, text: bytes, principal: Principal, end: float) -> None:
        self._known.pop(text, None)
        now = asyncio.get_running_loop().time()
        self._known[text] = principal, now + min(_REMEMBER_SECONDS, end - time())
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    async def _check(self, text: str) -> tuple[Principal, float]:
        """Return whom a text vouches for, and until when (Unix time).

        Raises:
            ValueError: It does not hold; the message says why.
        """
        import jwt

        key = await self._key(text)
        try:
            claims = jwt.decode(
                text,
                key.key,
                algorithms=["EdDSA"],
                audience=self._audiences,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError, OverflowError) as exc:
            raise ValueError(f"{type(exc).__name__}: {exc}") from exc
        if claims["exp"] - claims["iat"] > _MOST_SECONDS:
            raise ValueError(f"it is meant to last longer than {_MOST_SECONDS} s")
        return _principal(claims, key, text), claims["exp"] + _LEEWAY_SECONDS

    async def _key(self, text: str) -> TrustedKey:
        import jwt

        try:
            header = jwt.get_unverified_header(text)
        except (jwt.PyJWTError, RecursionError) as exc:
            raise ValueError(f"it is not signed: {exc}") from exc
        if header.get("typ") != TYPE or "crit" in header:
            raise ValueError(f"it is no {TYPE}")
        kid = header.get("kid")
        for keys in self._keys:
            key = await keys.find(kid) if isinstance(kid, str) else None
            if key is not None:
                return key
        raise ValueError(f"the key {str(kid)[:64]!r} is not trusted")


def _principal(claims: dict[str, Any], key: TrustedKey, text: str) -> Principal:
    name, method = claims["sub"], claims.get("method", "")
    more = claims.get("claims", {})
    if not (name and isinstance(method, str) and isinstance(more, dict)):
        raise ValueError("it names nobody")
    if not key.name:
        return Principal(name, method, more, token=text)
    if name != key.name or method != "service":
        raise ValueError(f"its key vouches for the service {key.name!r} only")
    found = Principal(name, method, more, token=text)
    if not key.scopes.issuperset(found.scopes) or found.roles:
        raise ValueError(f"it claims more than the service {key.name!r} may")
    return found
