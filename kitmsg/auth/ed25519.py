"""Ed25519 keys: those that sign principals, and those that are trusted to.

A private key is PEM (PKCS #8), a JWK (RFC 8037), or an nkey seed of NATS (``SU...``).
Public keys are PEM, a JWK or JWK Set, or lines of nkey public keys::

    UBX7...                     # vouches for anybody: a gateway
    UDKD... billing orders:read # vouches for the service `billing` and this scope only

A key's id (`kid`) is computed from the public key, so that both sides know it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["SigningKey", "TrustedKey", "contents", "nkey_public", "read_trusted"]

_SEED: Final = re.compile(rb"\bS[UANOCX][A-Z2-7]{56}\b")
_PUBLIC: Final = re.compile(r"[UANOC][A-Z2-7]{55}")
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_USER: Final = 20 << 3  # nkeys: the prefix byte of "U"
_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class SigningKey:
    """A private key.

    Attributes:
        key: As `cryptography` has it.
        kid: Its id.
        public: The public key, as an nkey.
    """

    key: Ed25519PrivateKey
    kid: str
    public: str

    @classmethod
    def load(cls, source: str) -> SigningKey:
        """Read the key in a file, or in the variable of ``env:NAME``.

        Raises:
            InvalidArgument: There is no Ed25519 private key.
            FailedPrecondition: `cryptography` is not installed.
        """
        need_cryptography()
        data = contents(source, "signing key").strip()
        try:
            return cls.of(_private(data))
        except (ValueError, TypeError, KeyError) as exc:
            raise InvalidArgument(
                f"signing key in {source}: there is no Ed25519 private key (PEM, JWK or"
                f" nkey seed): {exc}"
            ) from exc

    @classmethod
    def new(cls) -> SigningKey:
        """Return a key that nobody else has."""
        need_cryptography()
        from cryptography.hazmat.primitives.asymmetric import ed25519

        return cls.of(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, key: Ed25519PrivateKey) -> SigningKey:
        """Return a key of `cryptography` with its names."""
        raw = key.public_key().public_bytes_raw()
        return cls(key, _kid(raw), nkey_public(raw))

    def trusted(self, name: str = "", *scopes: str) -> TrustedKey:
        """Return the public key, as somebody trusts it; see `TrustedKey`."""
        return TrustedKey(self.key.public_key(), self.kid, name, frozenset(scopes))

    @property
    def seed(self) -> str:
        """The key as an nkey seed: a secret."""
        first = (18 << 3) | (_USER >> 5), (_USER & 31) << 3
        return _armoured(bytes(first) + self.key.private_bytes_raw())


@dataclass(frozen=True)
class TrustedKey:
    """A public key, and for whom it may vouch.

    Attributes:
        key: As `cryptography` has it.
        kid: Its id.
        name: The one service that it vouches for; "" for anybody.
        scopes: That this service may claim.
    """

    key: Ed25519PublicKey
    kid: str
    name: str = ""
    scopes: frozenset[str] = frozenset()


def need_cryptography() -> None:
    """Check that the library is there.

    Raises:
        FailedPrecondition: It is not; the message says how to install it.
    """
    try:
        import jwt
    except ImportError:
        has_crypto = False
    else:
        has_crypto = "EdDSA" in jwt.algorithms.get_default_algorithms()
    if not has_crypto:
        raise FailedPrecondition(
            "signed principals need PyJWT[crypto]: pip install 'kitmsg[auth]'"
        )


def contents(source: str, what: str) -> bytes:
    """Return what a file holds, or the variable of ``env:NAME``.

    Raises:
        InvalidArgument: It cannot be read; the message begins with `what`.
    """
    if source.startswith("env:"):
        name = source.removeprefix("env:")
        if not os.environ.get(name):
            raise InvalidArgument(f"{what}: the variable {name} is not set")
        return os.environ[name].encode()
    try:
        return Path(source).read_bytes()
    except OSError as exc:
        raise InvalidArgument(f"{what}: cannot read {source}: {exc.strerror}") from exc


def read_trusted(data: bytes) -> list[TrustedKey]:
    """Return the public keys of a text.

    Raises:
        ValueError: One is no Ed25519 public key; the message says which.
    """
    text = data.strip()
    if text.startswith(b"-----BEGIN"):
        return [_trusted(_public_pem(found[0])) for found in _PEM.finditer(text)]
    if text.startswith(b"{"):
        document = json.loads(text)
        return [_jwk(jwk) for jwk in document.get("keys", [document])]
    lines = (line.partition("#")[0].split() for line in text.decode().splitlines())
    return [_line(words) for words in lines if words]


def nkey_public(raw: bytes) -> str:
    """Return a public key as NATS writes that of a user: ``U...``."""
    return _armoured(bytes([_USER]) + raw)


def _armoured(data: bytes) -> str:
    return base64.b32encode(data + _crc(data)).decode().rstrip("=")


def _unarmoured(text: str) -> bytes:
    try:
        data = base64.b32decode(text + "=" * (-len(text) % 8))
    except binascii.Error:
        raise ValueError(f"{text[:8]}... is no nkey") from None
    if _crc(data[:-2]) != data[-2:]:
        raise ValueError(f"{text[:8]}... is no nkey: its checksum is wrong")
    return data[:-2]


def _crc(data: bytes) -> bytes:
    return binascii.crc_hqx(data, 0).to_bytes(2, "little")


def _kid(raw: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()[:12]).decode()


def _private(data: bytes) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    seed = _SEED.search(data)
    if seed is not None:  # alone, or in a .creds or .nk file
        raw = _unarmoured(seed[0].decode())[2:]
        return ed25519.Ed25519PrivateKey.from_private_bytes(raw)
    if data.startswith(b"{"):
        raw = _unpadded(_okp(json.loads(data))["d"])
        return ed25519.Ed25519PrivateKey.from_private_bytes(raw)
    key = serialization.load_pem_private_key(data, None)
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise TypeError("it is a key of another kind")
    return key


def _public_pem(pem: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if b"PRIVATE KEY" in pem.partition(b"\n")[0]:
        raise ValueError("this is a private key; the public one is enough, and safer")
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ValueError("a key is not of the kind Ed25519")  # noqa: TRY004
    return key


def _public(raw: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if len(raw) != _KEY_BYTES:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return ed25519.Ed25519PublicKey.from_public_bytes(raw)


def _trusted(key: Ed25519PublicKey, name: str = "", scopes: Any = ()) -> TrustedKey:
    return TrustedKey(key, _kid(key.public_bytes_raw()), name, frozenset(scopes))


def _line(words: list[str]) -> TrustedKey:
    if not _PUBLIC.fullmatch(words[0]):
        raise ValueError(f"{words[0][:8]}... is no public nkey, such as UBX7...")
    key = _public(_unarmoured(words[0])[1:])
    return _trusted(key, words[1] if words[1:] else "", words[2:])


def _jwk(jwk: Any) -> TrustedKey:
    if "d" in _okp(jwk):
        raise ValueError("this is a private key; the public one is enough, and safer")
    key = _public(_unpadded(jwk["x"]))
    return _trusted(key, str(jwk.get("sub", "")), str(jwk.get("scope", "")).split())


def _okp(jwk: Any) -> Any:
    if not isinstance(jwk, dict) or jwk.get("crv") != "Ed25519":
        raise ValueError('a JWK is not of the curve "Ed25519"')
    return jwk


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
