"""The keys of bearer tokens: a shared secret, PEM, or a JWK Set (RFC 7517).

Every key is bound to the algorithms that it fits, by its own kind.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kitmsg.auth.jwt import PUBLIC, SECRET, check_algorithms, need_jwt
from kitmsg.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["FileKeys", "Key", "KeySet", "read_jwks"]

_LEAST_RSA_BITS: Final = 2048
_MOST_NAMELESS: Final = 8
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518, section 3.2


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        key: As PyJWT takes it.
        algorithms: What it may verify.
        kid: Its name; "" for none.
    """

    key: Any
    algorithms: frozenset[str]
    kid: str = ""


class KeySet:
    """Keys that are there; a `kitmsg.auth.jwt.Keys`.

    Args:
        keys: Them.

    Attributes:
        generation: Always 0, as they stay what they are.
    """

    generation = 0

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    async def find(self, kid: str | None, algorithm: str) -> Sequence[Any]:
        """Return the keys that may have signed; see `kitmsg.auth.jwt.Keys`."""
        return self.choose(kid, algorithm)

    def choose(self, kid: str | None, algorithm: str) -> Sequence[Any]:
        """Return the keys with a name and for an algorithm; without a name, a few."""
        fit = [key for key in self._keys if algorithm in key.algorithms]
        if kid is not None and any(key.kid for key in fit):
            return [key.key for key in fit if key.kid == kid]
        return [key.key for key in fit[:_MOST_NAMELESS]]


class FileKeys:
    """The keys in a file, or in a variable of the environment.

    Args:
        source: Path of a file, or ``env:NAME``.  It holds PEM (a public key or a
            certificate; several are fine), a JWK Set, or else a shared secret.
        algorithms: What may sign; a key that fits none is a mistake.

    Attributes:
        generation: How often they were read again.

    Raises:
        InvalidArgument: There is no key in it, or one that does not fit.
    """

    def __init__(self, source: str, algorithms: Sequence[str]) -> None:
        need_jwt()
        check_algorithms(algorithms)
        self._source = source
        self._algorithms = frozenset(algorithms)
        self.generation = 0
        self._keys = self._read()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that were read."""
        return () if self._source.startswith("env:") else (self._source,)

    def reload(self) -> None:
        """Read it again; what was read before stays when it cannot be.

        Raises:
            InvalidArgument: As when it was made.
        """
        self._keys = self._read()
        self.generation += 1

    async def find(self, kid: str | None, algorithm: str) -> Sequence[Any]:
        """Return the keys that may have signed; see `kitmsg.auth.jwt.Keys`."""
        return self._keys.choose(kid, algorithm)

    def _read(self) -> KeySet:
        data = _contents(self._source)
        try:
            keys = _parse(data, self._algorithms)
        except ValueError as exc:
            raise InvalidArgument(f"JWT key in {self._source}: {exc}") from exc
        if not keys:
            raise InvalidArgument(
                f"JWT key in {self._source}: it does not fit"
                f" {', '.join(sorted(self._algorithms))}"
            )
        return KeySet(keys)


def read_jwks(data: bytes, algorithms: frozenset[str]) -> list[Key]:
    """Return the usable keys of a JWK Set: those that verify one of `algorithms`.

    Keys of a kind that is not known here are passed over, as RFC 7517 (section 5) wants.

    Raises:
        ValueError: It is no JWK Set.
    """
    try:
        document = json.loads(data)
        listed = document["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("this is no JWK Set") from None
    if not isinstance(listed, list):
        raise ValueError("this is no JWK Set: keys is no list")  # noqa: TRY004
    found = [_jwk(jwk, algorithms) for jwk in listed if isinstance(jwk, dict)]
    return [key for key in found if key is not None]


def _contents(source: str) -> bytes:
    if source.startswith("env:"):
        name = source.removeprefix("env:")
        if not os.environ.get(name):
            raise InvalidArgument(f"JWT key: the variable {name} is not set")
        return os.environ[name].encode()
    try:
        return Path(source).read_bytes()
    except OSError as exc:
        raise InvalidArgument(f"JWT key: cannot read {source}: {exc.strerror}") from exc


def _parse(data: bytes, algorithms: frozenset[str]) -> list[Key]:
    text = data.strip()
    if text.startswith(b"-----BEGIN"):
        return _pem(text, algorithms)
    if text.startswith(b"{"):
        return read_jwks(text, algorithms)
    fit = algorithms.intersection(SECRET)
    least = min((_SECRET_BYTES[name] for name in fit), default=0)
    if fit and len(text) < least:
        raise ValueError(f"the secret is shorter than {least} bytes")
    long_enough = {name for name in fit if len(text) >= _SECRET_BYTES[name]}
    return [Key(text, frozenset(long_enough))] if long_enough else []


def _pem(data: bytes, algorithms: frozenset[str]) -> list[Key]:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    keys: list[Key] = []
    for block in data.split(b"-----BEGIN ")[1:]:
        pem = b"-----BEGIN " + block
        if block.startswith(b"CERTIFICATE-----"):
            public: Any = x509.load_pem_x509_certificate(pem).public_key()
        elif b"PRIVATE KEY" in block.partition(b"-----")[0]:
            raise ValueError(
                "this is a private key; the public one is enough, and safer"
            )
        else:
            public = serialization.load_pem_public_key(pem)
        fit = _fitting(public) & algorithms
        if fit:
            keys.append(Key(public, fit))
    return keys


def _jwk(jwk: dict[str, Any], algorithms: frozenset[str]) -> Key | None:
    """Return the key of a JWK; None if it is not for signatures of ours."""
    import jwt

    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    named = jwk.get("alg")
    try:
        key = jwt.PyJWK(jwk, named).key
        fit = (_fitting(key) if jwk.get("kty") != "oct" else _secret(key)) & algorithms
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError):
        return None
    if named is not None:
        fit &= {named}
    kid = jwk.get("kid", "")
    public = key.public_key() if hasattr(key, "public_key") else key
    return Key(public, fit, kid if isinstance(kid, str) else "") if fit else None


def _secret(key: bytes) -> frozenset[str]:
    return frozenset(name for name, size in _SECRET_BYTES.items() if len(key) >= size)


def _fitting(key: Any) -> frozenset[str]:
    """Return the algorithms that a key of `cryptography` verifies."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    if isinstance(key, (rsa.RSAPublicKey, rsa.RSAPrivateKey)):
        if key.key_size < _LEAST_RSA_BITS:
            raise ValueError(f"an RSA key needs {_LEAST_RSA_BITS} bits")
        return frozenset(name for name in PUBLIC if name[:2] in ("RS", "PS"))
    if isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
        return frozenset(filter(None, [_CURVES.get(key.curve.name)]))
    edwards = (
        *(ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey),
        *(ed448.Ed448PublicKey, ed448.Ed448PrivateKey),
    )
    return frozenset({"EdDSA"} if isinstance(key, edwards) else ())
