"""Makes an operator, an account and users, as ``nsc`` would: NATS JWTs, version 2."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import nkeys


def _key(prefix: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), prefix))


def new_user_key() -> tuple[str, str]:
    """Return the seed of a new user, and the public key."""
    pair = _key(nkeys.PREFIX_BYTE_USER)
    return pair.seed.decode(), pair.public_key.decode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwt(issuer: Any, subject: str, kind: str, claims: dict[str, Any]) -> str:
    body = {
        "jti": subject,
        "iat": 1_700_000_000,
        "iss": issuer.public_key.decode(),
        "name": kind,
        "sub": subject,
        "nats": {**claims, "type": kind, "version": 2},
    }
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    text = ".".join(_encode(json.dumps(part).encode()) for part in (head, body))
    return f"{text}.{_encode(issuer.sign(text.encode()))}"


class Operator:
    """An operator with one account."""

    def __init__(self) -> None:
        self._operator = _key(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = _key(nkeys.PREFIX_BYTE_ACCOUNT)

    def config(self) -> str:
        """The server's side: trust the operator, know the account."""
        operator = self._operator.public_key.decode()
        account = self._account.public_key.decode()
        names = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        limits = dict.fromkeys(names, -1) | {"wildcards": True}
        return "\n".join(
            [
                f"operator: {_jwt(self._operator, operator, 'operator', {})}",
                "resolver: MEMORY",
                "resolver_preload: {",
                f"  {account}: {_jwt(self._operator, account, 'account', {'limits': limits})}",
                "}",
            ]
        )

    def creds(self) -> str:
        """The creds file of a new user."""
        seed, public = new_user_key()
        claims = {"pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        token = _jwt(self._account, public, "user", claims)
        return (
            f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
