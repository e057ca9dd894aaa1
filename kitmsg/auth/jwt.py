"""Bearer tokens that are JSON Web Tokens.

The algorithms are the operator's, not the token's: `Keys` gives only keys that fit the
algorithm, so a public key is never taken for a shared secret, and ``none`` does not exist.
A token that held is remembered for a minute at most, and not longer than it or the keys
last.

Sources: RFC 7519 (JWT), RFC 8725 (best practice), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from kitmsg.auth import Principal, Refused
from kitmsg.auth.header import WRONG
from kitmsg.auth.recent import Recent
from kitmsg.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALGORITHMS", "JwtVerifier", "Keys", "check_algorithms", "need_jwt"]

SECRET: Final = ("HS256", "HS384", "HS512")
"""Algorithms with a shared secret."""

PUBLIC: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Algorithms with a public key."""

_REMEMBER_SECONDS: Final = 60.0

ALGORITHMS: Final = SECRET + PUBLIC


class Keys(Protocol):
    """Source of the keys that verify tokens."""

    @property
    def generation(self) -> int:
        """A number that changes when the keys do."""

    async def find(self, kid: str | None, algorithm: str) -> Sequence[Any]:
        """Return the keys that may have signed a token, as PyJWT takes them.

        Args:
            kid: What the token calls its key; None if it does not say.
            algorithm: Of the signature; every key returned fits it.

        Raises:
            Unavailable: There are no keys yet.
        """


class JwtVerifier:
    """Takes bearer tokens that are JWTs; a `kitmsg.auth.Verifier`.

    Args:
        keys: Where the keys are.
        algorithms: What may sign; not both shared secrets and public keys.
        issuer: What ``iss`` must be; "" for anything.
        audience: One of them must be in ``aud``; with none, a token that names an
            audience is refused, as it is meant for somebody else.
        leeway: Seconds by which clocks may differ.
        required: Claims that must be there, beside ``exp`` and ``sub``.
        claims: Claims that the principal gets beside its name, if they are there.

    Raises:
        InvalidArgument: An option does not fit.
        FailedPrecondition: PyJWT is not installed.
    """

    scheme = "Bearer"

    def __init__(
        self,
        keys: Keys,
        *,
        algorithms: Sequence[str],
        issuer: str = "",
        audience: Sequence[str] = (),
        leeway: float = 0.0,
        required: Sequence[str] = (),
        claims: Sequence[str] = (),
    ) -> None:
        need_jwt()
        check_algorithms(algorithms)
        self._keys = keys
        self._algorithms = frozenset(algorithms)
        self._issuer = issuer or None
        self._audience = list(audience) or None
        self._leeway = leeway
        self._required = sorted({"exp", "sub", *required, *(["iss"] if issuer else [])})
        self._claims = tuple(claims)
        self._recent: Recent[str, tuple[int, Principal]] = Recent()

    async def verify(self, credentials: str) -> Principal:
        """Return who the token says it is; see `kitmsg.auth.Verifier`."""
        # A signature takes longer to check than all the rest of a request.
        generation = self._keys.generation
        known = self._recent.get(credentials)
        if known is not None and known[0] == generation:
            return known[1]
        claims = await self._check(credentials)
        kept = {name: claims[name] for name in self._claims if name in claims}
        principal = Principal(claims["sub"], "jwt", kept)
        left = int(claims["exp"]) + self._leeway - time.time()
        self._recent.put(
            credentials, (generation, principal), min(_REMEMBER_SECONDS, left)
        )
        return principal

    async def _check(self, credentials: str) -> dict[str, Any]:
        """Return the claims of a token that holds."""
        header = _header(credentials)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Refused(WRONG, f"algorithm {algorithm!r} is not taken")
        if "crit" in header:  # RFC 7515, section 4.1.11: understand it or refuse
            raise Refused(WRONG, "the token has critical headers")
        keys = await self._keys.find(kid if isinstance(kid, str) else None, algorithm)
        return self._decode(credentials, algorithm, keys)

    def challenge(self, realm: str, *, failed: bool) -> str:
        """Return the value of ``WWW-Authenticate``; see `kitmsg.auth.Verifier`."""
        # RFC 6750, section 3.1: no error code when no credentials were sent.
        return f"Bearer realm={realm}" + (', error="invalid_token"' if failed else "")

    def _decode(
        self, token: str, algorithm: str, keys: Sequence[Any]
    ) -> dict[str, Any]:
        import jwt

        for key in keys:
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key,
                    algorithms=[algorithm],
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=self._leeway,
                    options={"require": self._required},
                )
            except jwt.InvalidSignatureError:
                continue  # keys without a name: another one may have signed
            except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as exc:
                raise Refused(WRONG, f"{type(exc).__name__}: {exc}") from exc
            if not claims["sub"]:
                raise Refused(WRONG, "the token's sub is empty, which is nobody")
            return claims
        raise Refused(WRONG, "no key of ours has signed the token")


def check_algorithms(algorithms: Sequence[str]) -> None:
    """Refuse a list of algorithms that cannot be meant.

    Raises:
        InvalidArgument: It is empty, names an unknown one, or mixes the kinds.
    """
    unknown = [name for name in algorithms if name not in ALGORITHMS]
    if unknown or not algorithms:
        what = f"{unknown[0]!r} is none" if unknown else "none is named"
        raise InvalidArgument(
            f"JWT algorithms: {what}; choose among {', '.join(ALGORITHMS)}"
        )
    if any(name in SECRET for name in algorithms) and any(
        name in PUBLIC for name in algorithms
    ):
        raise InvalidArgument(
            "JWT algorithms: a shared secret (HS...) and a public key do not go together;"
            f" choose one kind, not {', '.join(algorithms)}"
        )


def need_jwt() -> None:
    """Check that PyJWT is there.

    Raises:
        FailedPrecondition: It is not; the message says how to install it.
    """
    try:
        import jwt  # noqa: F401  # only whether it is there
    except ImportError as exc:
        raise FailedPrecondition(
            "bearer tokens need PyJWT: pip install 'kitmsg[auth]'"
        ) from exc


def _header(token: str) -> dict[str, Any]:
    import jwt

    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as exc:
        raise Refused(WRONG, f"not a JWT: {exc}") from exc
