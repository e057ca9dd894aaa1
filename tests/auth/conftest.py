"""Keys, and files to keep them in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.auth.tokens import Pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def rsa_pair() -> Pair:
    """An RSA key."""
    return Pair(rsa.generate_private_key(65537, 2048), "RS256")


@pytest.fixture(scope="session")
def ec_pair() -> Pair:
    """A key on P-256."""
    return Pair(ec.generate_private_key(ec.SECP256R1()), "ES256")


@pytest.fixture(scope="session")
def ed_pair() -> Pair:
    """An Ed25519 key."""
    return Pair(ed25519.Ed25519PrivateKey.generate(), "EdDSA")


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[bytes | str], str]:
    """Give a function that writes a file and returns its path."""

    def write(data: bytes | str, name: str = "key") -> str:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return write
