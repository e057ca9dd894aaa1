"""Bearer tokens that are JWTs."""

from __future__ import annotations

import hashlib
import hmac
import sys
import time
from typing import Any

import jwt
import pytest

from kitmsg.auth import Refused
from kitmsg.auth.jwt import JwtVerifier
from kitmsg.auth.keys import FileKeys
from kitmsg.errors import FailedPrecondition, InvalidArgument
from tests.auth.tokens import SECRET, forge, sign


@pytest.fixture
def verifier(rsa_pair, keep):
    """Give a function that makes a verifier of the RSA key's tokens."""

    def make(**options):
        keys = FileKeys(keep(rsa_pair.pem), ["RS256"])
        return JwtVerifier(keys, algorithms=["RS256"], **options)

    return make


async def refused(verifier: JwtVerifier, token: str) -> str:
    """Return why a token is refused; the caller is not told."""
    with pytest.raises(Refused) as caught:
        await verifier.verify(token)
    assert str(caught.value) == "the credentials are not valid"
    return caught.value.reason


@pytest.mark.parametrize("kind", ["rsa_pair", "ec_pair", "ed_pair"])
async def test_each_kind_of_public_key(kind, request, keep):
    """RS, ES and EdDSA."""
    pair = request.getfixturevalue(kind)
    keys = FileKeys(keep(pair.pem), [pair.algorithm])
    verifier = JwtVerifier(keys, algorithms=[pair.algorithm])
    principal = await verifier.verify(pair.token())
    assert (principal.name, principal.method) == ("ann", "jwt")


async def test_a_shared_secret(keep):
    """HS, from a file; the line's end does not belong to it."""
    keys = FileKeys(keep(SECRET + "\n"), ["HS256"])
    verifier = JwtVerifier(keys, algorithms=["HS256"])
    assert (await verifier.verify(sign(SECRET, "HS256"))).name == "ann"
    assert "no key of ours" in await refused(verifier, sign(SECRET + "x", "HS256"))


async def test_the_claims_that_travel_are_chosen(verifier, rsa_pair):
    """The rest stays here."""
    token = rsa_pair.token(scope="read", email="ann@example.com")
    principal = await verifier(claims=["scope", "roles"]).verify(token)
    assert principal.claims == {"scope": "read"}


async def test_without_a_signature_it_is_refused(verifier):
    """``none`` is no algorithm, however it is written."""
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    for name in ("none", "None", "NONE", "", None, 7, ["RS256"]):
        reason = await refused(verifier(), forge({"alg": name}, claims))
        assert "is not taken" in reason or "not a JWT" in reason


async def test_a_public_key_is_no_secret(verifier, rsa_pair, keep):
    """The classic: HS256 with the public key's text as its secret."""
    claims = {"sub": "ann", "exp": int(time.time()) + 60}
    unsigned = forge({"alg": "HS256", "typ": "JWT"}, claims).rpartition(".")[0]
    digest = hmac.new(rsa_pair.pem, unsigned.encode(), hashlib.sha256).digest()
    forged = f"{unsigned}.{forge({}, {}, digest).rpartition('.')[2]}"
    assert "'HS256' is not taken" in await refused(verifier(), forged)
    with pytest.raises(InvalidArgument, match="do not go together"):
        FileKeys(keep(rsa_pair.pem), ["RS256", "HS256"])
    with pytest.raises(InvalidArgument, match="does not fit HS256"):
        FileKeys(keep(rsa_pair.pem), ["HS256"])


async def test_a_key_verifies_only_its_own_kind(rsa_pair, ec_pair, keep):
    """Two keys in a file, each for its algorithm."""
    keys = FileKeys(keep(rsa_pair.pem + ec_pair.pem), ["RS256", "ES256"])
    assert len(await keys.find(None, "RS256")) == 1
    assert len(await keys.find(None, "ES256")) == 1
    assert await keys.find(None, "EdDSA") == []
    verifier = JwtVerifier(keys, algorithms=["RS256", "ES256"])
    assert (await verifier.verify(ec_pair.token())).name == "ann"


async def test_times_are_kept(verifier, rsa_pair):
    """Expired, and not yet; clocks may differ a little."""
    now = int(time.time())
    strict, lenient = verifier(), verifier(leeway=30)
    late = rsa_pair.token(exp=now - 10)
    assert "Expired" in await refused(strict, late)
    assert (await lenient.verify(late)).name == "ann"
    early = rsa_pair.token(nbf=now + 20)
    assert "ImmatureSignature" in await refused(strict, early)
    assert (await lenient.verify(early)).name == "ann"
    assert "MissingRequiredClaim" in await refused(strict, rsa_pair.token(exp=None))
    assert await refused(strict, rsa_pair.token(exp="soon"))


async def test_issuer_and_audience_are_kept(verifier, rsa_pair):
    """A token for somebody else is none for us."""
    picky = verifier(issuer="https://id.example", audience=["shop", "till"])
    good = {"iss": "https://id.example", "aud": "till"}
    assert (await picky.verify(rsa_pair.token(**good))).name == "ann"
    for wrong in (
        {"iss": None},
        {"iss": "https://id.example.evil"},
        {"iss": ["https://id.example"]},
        {"aud": None},
        {"aud": "bank"},
    ):
        assert await refused(picky, rsa_pair.token(**good | wrong))
    assert "Audience" in await refused(verifier(), rsa_pair.token(aud="bank"))


async def test_required_claims(verifier, rsa_pair):
    """A subject always, others when they are asked for."""
    assert "sub" in await refused(verifier(), rsa_pair.token(sub=None))
    assert await refused(verifier(), rsa_pair.token(sub=7))
    assert "nobody" in await refused(verifier(), rsa_pair.token(sub=""))
    assert "scope" in await refused(verifier(required=["scope"]), rsa_pair.token())
    assert (await verifier(required=["scope"]).verify(rsa_pair.token(scope=""))).name


async def test_critical_headers_are_not_understood(verifier, rsa_pair):
    """So they are refused, as their standard wants."""
    token = jwt.encode(
        {"sub": "ann", "exp": int(time.time()) + 60},
        rsa_pair.private,
        algorithm="RS256",
        headers={"crit": ["http://example.com/x"]},
    )
    assert "critical" in await refused(verifier(), token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "e30.e30.",
        "=" * 20,
        "eyJhbGciOiJSUzI1NiJ9.e30.",
        "x" * 9000,
    ],
)
async def test_broken_tokens(verifier, token):
    """Anything that is no token is refused like one that is wrong."""
    assert await refused(verifier(), token)


async def test_a_token_that_held_is_remembered(rsa_pair, ed_pair, keep, monkeypatch):
    """Its signature is checked once; new keys, and its own end, are heeded at once."""
    keys = FileKeys(keep(rsa_pair.pem), ["RS256", "EdDSA"])
    verifier, checked = JwtVerifier(keys, algorithms=["RS256", "EdDSA"]), []
    decode = jwt.decode

    def count(*args, **kwargs):
        checked.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(jwt, "decode", count)
    token = rsa_pair.token()
    for _ in range(3):
        assert (await verifier.verify(token)).name == "ann"
    assert len(checked) == 1
    keep(ed_pair.pem)
    keys.reload()
    assert "no key of ours" in await refused(verifier, token)


async def test_it_is_not_remembered_longer_than_it_lasts(
    verifier, rsa_pair, monkeypatch
):
    """A clock that jumps over its end shows it."""
    now = [1000.0]
    monkeypatch.setattr("kitmsg.auth.recent.monotonic", lambda: now[0])
    one, token = verifier(), rsa_pair.token(exp=int(time.time()) + 5)
    assert (await one.verify(token)).name == "ann"
    now[0] += 6
    monkeypatch.setattr(one, "_check", _no)
    with pytest.raises(LookupError):
        await one.verify(token)


async def _no(_token: str) -> dict[str, Any]:
    raise LookupError


async def test_every_change_is_noticed(verifier, rsa_pair):
    """A token with one character changed, at each place, does not hold."""
    one, token = verifier(), rsa_pair.token()
    tried = 0
    for at in range(0, len(token), 7):
        char = "A" if token[at] != "A" else "B"
        changed = token[:at] + char + token[at + 1 :]
        if at != len(token) - 1:  # the last one has bits that mean nothing
            assert await refused(one, changed)
            tried += 1
    print(f"{tried} changed tokens")


@pytest.mark.parametrize(
    ("algorithms", "said"),
    [([], "none is named"), (["none"], "'none' is none"), (["RS256", "HS256"], "kind")],
)
def test_wrong_algorithms_are_said(algorithms, said, keep):
    """At once, not with the first token."""
    with pytest.raises(InvalidArgument, match=said):
        FileKeys(keep(SECRET), algorithms)


async def test_without_pyjwt_it_says_what_to_install(monkeypatch, keep):
    """Not a traceback."""
    monkeypatch.setitem(sys.modules, "jwt", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[auth\]'"):
        FileKeys(keep(SECRET), ["HS256"])
