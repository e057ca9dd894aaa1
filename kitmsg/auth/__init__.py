"""Authentication: credentials to a `Principal`, the same at every edge and in a service.

    __init__.py  `Principal`, `Verifier`, `GuessVerifier`, `Refused`
    header.py    `Authenticator`: an ``Authorization`` header to a principal
    jwt.py       `JwtVerifier`: bearer tokens (RFC 7519), a fixed list of algorithms
    keys.py      the keys of tokens: a secret, PEM or JWK Set, from a file or a variable
    jwks.py      the keys of tokens from a URL, cached and followed
    recent.py    what was checked a moment ago
    basic.py     `BasicVerifier`: user names and passwords (RFC 7617) from a file
    turns.py     turns of a costly check, shared out among clients
    apikeys.py   `KeyVerifier`: API keys, from a file of their digests
    certificates.py  the principal of a client certificate
    signing.py   `PrincipalSigner`: vouches for a principal on the bus; `JwtSigner`
    vouched.py   `PrincipalVerifier`: believes what a trusted key has signed
    trusted.py   the trusted keys, in files or a key-value bucket
    allow.py     policies: who may call
    ed25519.py   Ed25519 keys: PEM, JWK, nkeys

A gateway asks an `Authenticator` and vouches for the principal in ``Kit-Principal``, which
services verify.  `kitmsg.middleware.auth` checks ``Authorization`` around an endpoint.

Left out: sessions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol, runtime_checkable

from kitmsg.errors import InvalidArgument, Unauthenticated
from kitmsg.wire import AUTHORIZATION

__all__ = ["GuessVerifier", "Principal", "Refused", "Verifier"]

_MAX_TEXT: Final = 4096


@dataclass(frozen=True)
class Principal:
    """Somebody whose credentials were checked.

    Attributes:
        name: Who it is: the subject of a token or certificate, the name of a user.
        method: How that is known: ``jwt``, ``basic``, ``key`` or ``tls``; ``service`` for
            one that signs its own calls.
        claims: What else the credentials say.
        token: The signed ``Kit-Principal`` that vouches for it, which nested calls pass
            on; "" where it was authenticated here.
        text: All but the token, as a JSON object in ASCII.
    """

    name: str
    method: str
    claims: dict[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False, compare=False, kw_only=True)
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        facts: dict[str, Any] = {"name": self.name, "method": self.method}
        if self.claims:
            facts["claims"] = self.claims
        text = json.dumps(facts, separators=(",", ":"))
        if len(text) > _MAX_TEXT:
            raise InvalidArgument(
                f"the credentials say more than {_MAX_TEXT} bytes about their owner",
                field=AUTHORIZATION,
            )
        object.__setattr__(self, "text", text)

    @cached_property
    def scopes(self) -> frozenset[str]:
        """OAuth's scopes: words of the claims ``scope``, ``scp`` or ``scopes``."""
        return _words(self.claims, "scope", "scp", "scopes")

    @cached_property
    def roles(self) -> frozenset[str]:
        """Roles: words of the claims ``role`` or ``roles``."""
        return _words(self.claims, "role", "roles")


def _words(claims: dict[str, Any], *names: str) -> frozenset[str]:
    """Return the words of claims that are lists, or text with spaces (RFC 8693, 4.2)."""
    found: set[str] = set()
    for name in names:
        said = claims.get(name, "")
        words = said.split() if isinstance(said, str) else said
        if isinstance(words, list):
            found.update(word for word in words if isinstance(word, str))
    return frozenset(found)


class Refused(Unauthenticated):
    """Credentials are missing or do not hold.

    Args:
        message: For the caller; says nothing about the cause.
        reason: For our own log; "" when none were sent.
    """

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class Verifier(Protocol):
    """Checks credentials of one scheme of ``Authorization``."""

    @property
    def scheme(self) -> str:
        """Name of the scheme, such as ``Bearer``."""

    async def verify(self, credentials: str) -> Principal:
        """Return whose credentials these are.

        Args:
            credentials: What stands after the scheme.

        Raises:
            Refused: They do not hold.
            Unavailable: It cannot be found out now.
        """

    def challenge(self, realm: str, *, failed: bool) -> str:
        """Return the value of ``WWW-Authenticate`` for this scheme.

        Args:
            realm: What the credentials are for, already quoted.
            failed: Whether there were credentials that do not hold.
        """


@runtime_checkable
class GuessVerifier(Protocol):
    """A `Verifier` of credentials that can be guessed, and that take long to check."""

    async def verify_from(self, credentials: str, client: str) -> Principal:
        """Return whose credentials these are, as `Verifier.verify` does.

        Args:
            credentials: What stands after the scheme.
            client: Who sent them, such as an address: its wrong guesses keep no other
                client out.
        """
