"""Where the keys of tokens are, and what they are good for."""

from __future__ import annotations

import json

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kitmsg.auth.keys import FileKeys, KeySet, read_jwks
from kitmsg.errors import InvalidArgument
from tests.auth.tokens import SECRET, Pair

ALL = frozenset({"RS256", "ES256", "EdDSA"})


def test_a_set_of_keys(rsa_pair, ec_pair, ed_pair):
    """Each with its name and what it verifies."""
    document = {"keys": [rsa_pair.jwk("a"), ec_pair.jwk("b"), ed_pair.jwk("c")]}
    keys = read_jwks(json.dumps(document).encode(), ALL)
    assert [(key.kid, set(key.algorithms)) for key in keys] == [
        ("a", {"RS256"}),
        ("b", {"ES256"}),
        ("c", {"EdDSA"}),
    ]


def test_keys_for_something_else_are_passed_over(rsa_pair, ec_pair):
    """For encryption, of an unknown kind, for another algorithm, broken."""
    document = {
        "keys": [
            rsa_pair.jwk(use="enc"),
            rsa_pair.jwk(key_ops=["encrypt"]),
            rsa_pair.jwk(alg="RS512"),
            rsa_pair.jwk(alg="ES256"),
            {**ec_pair.jwk(), "x": "AAAA"},
            {"kty": "moon"},
            {"kty": "oct", "k": "c2VjcmV0"},
            {},
            7,
            None,
        ]
    }
    assert read_jwks(json.dumps(document).encode(), ALL) == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"keys":7}', b"\xff", b"{}"])
def test_what_is_no_set_is_said(data):
    """One sentence."""
    with pytest.raises(ValueError, match="no JWK Set"):
        read_jwks(data, ALL)


def test_a_key_that_has_a_name_is_found_by_it(rsa_pair, ec_pair):
    """Without one, a few are tried."""
    document = {"keys": [rsa_pair.jwk(str(n)) for n in range(20)]}
    keys = KeySet(read_jwks(json.dumps(document).encode(), ALL))
    assert len(keys.choose("7", "RS256")) == 1
    assert keys.choose("99", "RS256") == []
    assert len(keys.choose(None, "RS256")) == 8


def test_private_keys_are_not_needed(rsa_pair, keep):
    """Who leaves one on a gateway is told."""
    pem = rsa_pair.private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(InvalidArgument, match="private key"):
        FileKeys(keep(pem), ["RS256"])


async def test_a_certificate_has_a_key_too(keep):
    """Its public key counts, its dates do not."""
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("x.example")
    pem = issued.cert_chain_pems[0].bytes()
    assert len(await FileKeys(keep(pem), ["ES256"]).find(None, "ES256")) == 1


@pytest.mark.parametrize(
    ("data", "algorithm", "said"),
    [
        ("", "HS256", "shorter than 32 bytes"),
        ("short", "HS256", "shorter than 32 bytes"),
        (SECRET, "HS512", "shorter than 64 bytes"),
        (SECRET, "RS256", "does not fit RS256"),
        (
            "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----",
            "RS256",
            "JWT key in",
        ),
        ('{"keys": []}', "RS256", "does not fit RS256"),
        ('{"keys": 1}', "RS256", "no JWK Set"),
    ],
)
def test_a_wrong_file_is_said(data, algorithm, said, keep):
    """With its name, at the start."""
    with pytest.raises(InvalidArgument, match=said) as caught:
        FileKeys(keep(data), [algorithm])
    assert "key" in str(caught.value)


def test_a_weak_key_is_refused(keep):
    """RSA below 2048 bits."""
    weak = Pair(rsa.generate_private_key(65537, 1024), "RS256")
    with pytest.raises(InvalidArgument, match="2048 bits"):
        FileKeys(keep(weak.pem), ["RS256"])


def test_a_missing_file_is_said():
    """With its name."""
    with pytest.raises(InvalidArgument, match="cannot read /nowhere/key: No such file"):
        FileKeys("/nowhere/key", ["HS256"])


async def test_a_key_from_the_environment(monkeypatch):
    """By the variable's name, so that no command line shows it."""
    monkeypatch.setenv("OUR_KEY", SECRET)
    keys = FileKeys("env:OUR_KEY", ["HS256"])
    assert keys.files == ()
    assert await keys.find(None, "HS256") == [SECRET.encode()]
    with pytest.raises(InvalidArgument, match="variable NO_KEY is not set"):
        FileKeys("env:NO_KEY", ["HS256"])


async def test_a_new_file_is_read_and_a_broken_one_is_not(keep, rsa_pair, ed_pair):
    """What cannot be read changes nothing."""
    keys = FileKeys(keep(rsa_pair.pem), ["RS256", "EdDSA"])
    keep("nonsense")
    with pytest.raises(InvalidArgument):
        keys.reload()
    assert len(await keys.find(None, "RS256")) == 1
    keep(ed_pair.pem)
    keys.reload()
    assert await keys.find(None, "RS256") == []
    assert len(await keys.find(None, "EdDSA")) == 1
