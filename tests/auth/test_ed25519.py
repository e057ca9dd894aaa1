"""Ed25519 keys in the forms that people keep them in."""

from __future__ import annotations

import json

import jwt
import nkeys
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, strategies as st

from kitmsg.auth.ed25519 import SigningKey, nkey_public, read_trusted
from kitmsg.errors import InvalidArgument

# The same in each process: its texts are in the names of tests.
KEY = SigningKey.of(ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
PEM = KEY.key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
PUBLIC_PEM = KEY.key.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
JWK = jwt.get_algorithm_by_name("EdDSA").to_jwk(KEY.key)
PUBLIC_JWK = jwt.get_algorithm_by_name("EdDSA").to_jwk(KEY.key.public_key())
CREDS = f"-----BEGIN USER NKEY SEED-----\n{KEY.seed}\n------END USER NKEY SEED------\n"


@pytest.mark.parametrize("text", [PEM.decode(), JWK, KEY.seed, KEY.seed + "\n", CREDS])
def test_a_private_key_in_any_form_is_the_same(text, tmp_path, monkeypatch):
    """From a file, or from a variable."""
    (tmp_path / "key").write_text(text)
    monkeypatch.setenv("A_KEY", text)
    for source in (str(tmp_path / "key"), "env:A_KEY"):
        assert SigningKey.load(source).kid == KEY.kid


@pytest.mark.parametrize(
    "text",
    [
        PUBLIC_PEM.decode(),
        PUBLIC_JWK,
        f'{{"keys":[{PUBLIC_JWK}]}}',
        KEY.public,
        f"# x\n{KEY.public} # y",
    ],
)
def test_a_public_key_in_any_form_is_the_same(text):
    """It vouches for anybody."""
    (found,) = read_trusted(text.encode())
    assert (found.kid, found.name, found.scopes) == (KEY.kid, "", frozenset())


def test_a_line_or_a_jwk_may_restrict_it():
    """To one service, and the scopes that it may claim."""
    jwk = {**json.loads(PUBLIC_JWK), "sub": "billing", "scope": "a b"}
    for text in (f"{KEY.public} billing a b", json.dumps(jwk)):
        (found,) = read_trusted(text.encode())
        assert (found.name, found.scopes) == ("billing", frozenset("ab"))


def test_several_keys_in_a_file():
    """Of one form."""
    other = SigningKey.new()
    found = read_trusted(f"{KEY.public}\n\n{other.public} x\n".encode())
    assert [key.kid for key in found] == [KEY.kid, other.kid]
    assert len(read_trusted(PUBLIC_PEM + b"\n" + PUBLIC_PEM)) == 2


@given(st.binary(min_size=32, max_size=32))
def test_nkeys_are_those_of_nats(raw):
    """Seed and public key, both ways."""
    key = SigningKey.of(ed25519.Ed25519PrivateKey.from_private_bytes(raw))
    pair = nkeys.from_seed(key.seed.encode())
    assert pair.public_key.decode() == key.public
    assert nkey_public(key.key.public_key().public_bytes_raw()) == key.public


BROKEN = KEY.public[:-1] + ("A" if KEY.public[-1] != "A" else "B")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (PEM.decode(), "private key"),
        (JWK, "private key"),
        (KEY.seed, "no public nkey"),
        (BROKEN, "checksum|no nkey"),
        ("ann", "no public nkey"),
        ('{"kty":"RSA"}', "Ed25519"),
        (
            rsa.generate_private_key(65537, 2048)
            .public_key()
            .public_bytes(
                serialization.Encoding.PEM,
                serialization.PublicFormat.SubjectPublicKeyInfo,
            )
            .decode(),
            "Ed25519",
        ),
    ],
)
def test_what_is_no_public_key_is_refused(text, why):
    """With the reason."""
    with pytest.raises(ValueError, match=why):
        read_trusted(text.encode())


@pytest.mark.parametrize("text", ["", "x", KEY.public, PUBLIC_PEM.decode(), "{}"])
def test_what_is_no_private_key_is_refused(text, tmp_path):
    """The message says where and what there should be."""
    (tmp_path / "key").write_text(text)
    with pytest.raises(InvalidArgument, match="there is no Ed25519 private key"):
        SigningKey.load(str(tmp_path / "key"))
    with pytest.raises(InvalidArgument, match="cannot read"):
        SigningKey.load(str(tmp_path / "none"))
