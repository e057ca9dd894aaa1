"""Signatures on calls: a principal that a door vouches for, or a token of one's own.

``Kit-Principal`` is a JWT (RFC 7519) signed with Ed25519 (RFC 8037): who calls, for which
audience, for about a minute.  It is signed again when half of that has passed, so most
calls cost a look-up.  `kitmsg.auth.vouched` checks it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from kitmsg.auth import Principal
from kitmsg.auth.ed25519 import SigningKey
from kitmsg.auth.jwt import PUBLIC, SECRET, need_jwt
from kitmsg.auth.recent import Recent
from kitmsg.errors import InvalidArgument
from kitmsg.filemarks import mark_of
from kitmsg.wire import AUTHORIZATION, PRINCIPAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "AUDIENCE",
    "SECONDS",
    "TYPE",
    "CallSigner",
    "JwtSigner",
    "PrincipalSigner",
    "Service",
]

_log = logging.getLogger("kitmsg.auth")

AUDIENCE: Final = "kitmsg"
"""Audience of a system's principals, unless it has a name of its own."""

SECONDS: Final = 60.0
"""Life of a signed principal, in seconds."""

TYPE: Final = "kit-principal+jwt"
"""``typ`` of a principal (RFC 8725, section 3.11): no other token can stand for one."""


class CallSigner(Protocol):
    """Adds credentials to the headers of a call; see ``kit.client(..., auth=...)``."""

    def __call__(self, ctx: Any, fields: dict[str, str], /) -> None:
        """Add them.

        Args:
            ctx: The `kitmsg.Context` of the call.
            fields: Its headers.
        """


class PrincipalSigner:
    """Signs principals.

    Args:
        key: A private key, or the file (or ``env:NAME``) that it is in, which is read
            again when it changes.
        audience: The system, or the one service, that a signature is for.
        seconds: Its life, in seconds.

    Attributes:
        key: The key in use.

    Raises:
        InvalidArgument: There is no key, or `seconds` is not from 1 to 900.
        FailedPrecondition: A library is missing.
    """

    def __init__(
        self,
        key: SigningKey | str,
        *,
        audience: str = AUDIENCE,
        seconds: float = SECONDS,
    ) -> None:
        if not 1 <= seconds <= _MOST_SECONDS:
            raise InvalidArgument(
                f"a signed principal lives 1 to {_MOST_SECONDS} seconds, not {seconds:g}"
            )
        self._source = key if isinstance(key, str) else ""
        self.key = SigningKey.load(key) if isinstance(key, str) else key
        self._mark = _mark(self._source)
        self._audience = audience
        self._seconds = seconds
        self._signed: Recent[str, str] = Recent()

    def text(self, principal: Principal) -> str:
        """Return ``Kit-Principal`` for a principal that was authenticated here."""
        known = self._signed.get(principal.text)
        if known is not None:
            return known
        self._read_again()
        text = self._sign(principal)
        self._signed.put(principal.text, text, self._seconds / 2)
        return text

    def service(
        self,
        name: str = "",
        *,
        scopes: Sequence[str] = (),
        claims: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None,
    ) -> Service:
        """Return what signs the calls that a service makes by itself.

        Args:
            name: Of the service; by default the one whose turn makes the call, and
                outside a turn nothing is signed.
            scopes: That it claims.
            claims: Other claims, or a function of the call's context that returns them.
        """
        return Service(self, name, scopes, claims or {})

    def _sign(self, principal: Principal) -> str:
        import jwt

        now = int(time.time())
        claims = {
            "sub": principal.name,
            "aud": self._audience,
            "iat": now,
            "exp": now + int(self._seconds),
            "method": principal.method,
        }
        if principal.claims:
            claims["claims"] = principal.claims
        headers = {"typ": TYPE, "kid": self.key.kid}
        return jwt.encode(claims, self.key.key, "EdDSA", headers)

    def _read_again(self) -> None:
        mark = _mark(self._source)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self.key = SigningKey.load(self._source)
        except InvalidArgument as exc:
            _log.warning("%s; the key that was read before goes on", exc)
        else:
            self._signed.clear()
            _log.info("calls are signed with the key %s now", self.key.kid)


class Service:
    """Signs calls as a service; made by `PrincipalSigner.service`."""

    def __init__(
        self,
        signer: PrincipalSigner,
        name: str,
        scopes: Sequence[str],
        claims: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]],
    ) -> None:
        self._signer = signer
        self._name = name
        self._always = {"scope": " ".join(scopes)} if scopes else {}
        self._claims = claims
        self._made: dict[str, Principal] = {}  # where the claims are always the same

    def __call__(self, ctx: Any, fields: dict[str, str], /) -> None:
        """Add ``Kit-Principal``."""
        name = self._name or ctx.caller.partition(".")[0]
        if not name:
            return
        principal = self._made.get(name)
        if principal is None:
            principal = self._principal(name, ctx)
        fields[PRINCIPAL] = self._signer.text(principal)

    def _principal(self, name: str, ctx: Any) -> Principal:
        if callable(self._claims):
            return Principal(name, "service", {**self._claims(ctx), **self._always})
        claims = {**self._claims, **self._always}
        return self._made.setdefault(name, Principal(name, "service", claims))


class JwtSigner:
    """Signs a bearer token for each call, after Go kit's ``auth/jwt`` ``NewSigner``.

    For services that ask for tokens themselves (`kitmsg.middleware.auth`).

    Args:
        key: A secret, or a private key as PyJWT takes it: PEM or one of `cryptography`.
        algorithm: Such as ``HS256``, ``ES256`` or ``EdDSA``.
        claims: Claims, or a function of the call's context that returns them.  ``iat``
            and ``exp`` are added.
        kid: Name of the key; "" for none.
        seconds: Life of a token, in seconds.

    Raises:
        InvalidArgument: The algorithm is not known.
        FailedPrecondition: PyJWT is not installed.
    """

    def __init__(
        self,
        key: Any,
        *,
        algorithm: str,
        claims: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]],
        kid: str = "",
        seconds: float = SECONDS,
    ) -> None:
        need_jwt()
        if algorithm not in (*SECRET, *PUBLIC):
            known = ", ".join((*SECRET, *PUBLIC))
            raise InvalidArgument(f"JWT algorithm {algorithm!r}: choose among {known}")
        self._key = key
        self._algorithm = algorithm
        self._claims = claims
        self._headers = {"kid": kid} if kid else None
        self._seconds = seconds

    def __call__(self, ctx: Any, fields: dict[str, str], /) -> None:
        """Add ``Authorization``."""
        import jwt

        given = self._claims(ctx) if callable(self._claims) else self._claims
        now = time.time()
        claims = {"iat": int(now), "exp": int(now + self._seconds), **given}
        token = jwt.encode(claims, self._key, self._algorithm, self._headers)
        fields[AUTHORIZATION] = f"Bearer {token}"


_MOST_SECONDS: Final = 900


def _mark(source: str) -> object:
    is_file = bool(source) and not source.startswith("env:")
    return mark_of(source) if is_file else None
