"""Keys and tokens, good ones and bad ones."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization

__all__ = ["SECRET", "Pair", "forge", "sign"]

SECRET = "a secret that is long enough for HS256"


class Pair:
    """A private key, and its public half in the forms that people keep."""

    def __init__(self, private: Any, algorithm: str) -> None:
        self.private = private
        self.algorithm = algorithm
        self.pem: bytes = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def jwk(self, kid: str = "", **more: Any) -> dict[str, Any]:
        """Return the public half as a JWK."""
        of = jwt.get_algorithm_by_name(self.algorithm)
        document: dict[str, Any] = of.to_jwk(self.private.public_key(), as_dict=True)
        document.pop("key_ops", None)
        return {**document, **({"kid": kid} if kid else {}), **more}

    def token(self, kid: str = "", **claims: Any) -> str:
        """Return a token for Ann that holds for a minute, unless `claims` says else."""
        return sign(self.private, self.algorithm, kid, **claims)


def sign(key: Any, algorithm: str, kid: str = "", **claims: Any) -> str:
    """Return a token signed with a key; a claim of None is left out."""
    facts = {"sub": "ann", "exp": int(time.time()) + 60, **claims}
    given = {name: value for name, value in facts.items() if value is not None}
    # Not `jwt.encode`, which refuses to write what is wrong.
    return jwt.api_jws.encode(
        json.dumps(given).encode(), key, algorithm, {"kid": kid} if kid else None
    )


def forge(
    header: dict[str, Any], claims: dict[str, Any], signature: bytes = b""
) -> str:
    """Return a token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts
    )
