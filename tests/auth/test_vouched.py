"""A principal that a signature vouches for, and the many that none does."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from kitmsg import Context, Service, current, endpoint
from kitmsg.auth import Principal
from kitmsg.auth.ed25519 import SigningKey
from kitmsg.auth.signing import TYPE, JwtSigner, PrincipalSigner
from kitmsg.auth.trusted import BucketKeys, KnownKeys, TrustedFile
from kitmsg.auth.vouched import PENDING, PrincipalVerifier, Trust
from kitmsg.errors import InvalidArgument
from kitmsg.message import Headers, Message, encode_headers
from kitmsg.wire import PRINCIPAL
from tests.auth.tokens import forge
from tests.trust import KEY, SIGNER, TRUST

ANN = Principal("ann", "jwt", {"scope": "read"})


def block(text: str) -> bytes:
    return encode_headers({"Kit-Timeout": "5000", PRINCIPAL: text})


def signed(
    key: Any = KEY.key, typ: str = TYPE, kid: str = KEY.kid, **claims: Any
) -> str:
    """Return a principal with something else about it."""
    now = int(time.time())
    facts = {
        "sub": "ann",
        "aud": "kitmsg",
        "iat": now,
        "exp": now + 60,
        "method": "jwt",
    }
    given = {k: v for k, v in {**facts, **claims}.items() if v is not None}
    return jwt.encode(given, key, "EdDSA", {"typ": typ, "kid": kid})


def recalled(verifier: PrincipalVerifier, block: bytes) -> Principal | None:
    return verifier.recall(block, asyncio.get_running_loop().time())


async def found(text: str, trust: Trust = TRUST) -> Principal | None:
    return await trust.verifier("orders").verify(
        Headers([(PRINCIPAL, text)]), "orders.x"
    )


async def test_what_a_trusted_key_has_signed_holds():
    """With name, method and claims; and the text goes along to nested calls."""
    text = SIGNER.text(ANN)
    principal = await found(text)
    assert principal == ANN
    assert principal.token == text


async def test_once_checked_it_is_recalled():
    """From its text, without a signature."""
    verifier, text = TRUST.verifier("orders"), SIGNER.text(ANN)
    assert recalled(verifier, block(text)) is PENDING
    assert await verifier.verify(Headers.parse(block(text)), "") == ANN
    assert recalled(verifier, block(text)) == ANN
    assert recalled(verifier, block(text[:-2])) is PENDING
    assert recalled(verifier, encode_headers({"Kit-Timeout": "5000"})) is None
    odd = b"NATS/1.0\r\nkit-principal:" + text.encode() + b"\r\n\r\n"
    assert recalled(verifier, odd) is None  # it has to be written as it is


HMAC = json.dumps({"name": "root", "method": "jwt"})
ATTACKS = {
    "bare": HMAC,
    "nothing": "",
    "none": forge(
        {"alg": "none", "typ": TYPE, "kid": KEY.kid},
        {"sub": "root", "aud": "kitmsg", "iat": 0, "exp": 2**33},
    ),
    "another key": signed(ed25519.Ed25519PrivateKey.generate()),
    "a key nobody trusts": signed(SigningKey.new().key, kid=SigningKey.new().kid),
    "no key": jwt.encode({"sub": "ann"}, KEY.key, "EdDSA"),
    "changed": signed()[:-4] + "AAAA",
    "stale": signed(iat=int(time.time()) - 120, exp=int(time.time()) - 60),
    "of the future": signed(iat=int(time.time()) + 60),
    "for ever": signed(exp=int(time.time()) + 86_400),
    "without an end": signed(exp=None),
    "for another system": signed(aud="kitmsg-staging"),
    "for another service": signed(aud="billing"),
    "for nobody": signed(aud=None),
    "another kind of token": signed(typ="JWT"),
    "no name": signed(sub=""),
    "claims that are none": signed(claims="admin"),
    "a method that is none": signed(method=7),
    "the public key as a secret": forge(
        {"alg": "HS256", "typ": TYPE, "kid": KEY.kid}, {"sub": "root"}, b"x" * 32
    ),
}


@pytest.mark.parametrize("what", ATTACKS)
async def test_anything_else_is_nobody(what: str) -> None:
    """And nothing of it is remembered."""
    verifier = TRUST.verifier("orders")
    text = ATTACKS[what]
    assert await verifier.verify(Headers([(PRINCIPAL, text)]), "orders.x") is None
    assert recalled(verifier, block(text)) is PENDING or not text


async def test_two_of_them_are_nobody():
    """A second one might be read by somebody else."""
    twice = Headers([(PRINCIPAL, SIGNER.text(ANN)), ("kit-principal", signed())])
    assert await TRUST.verifier("orders").verify(twice, "") is None


async def test_one_for_this_service_alone_holds_here():
    """The audience is the system's or the service's."""
    assert await found(signed(aud="orders")) == Principal("ann", "jwt")
    assert await found(signed(aud=["billing", "orders"])) is not None
    other = Trust(TRUST.keys, audience="shop")
    assert await found(signed(aud="kitmsg"), other) is None


async def test_a_restricted_key_vouches_for_its_service_only():
    """And for the scopes that it was given."""
    key = SigningKey.new()
    trust = Trust([KnownKeys(key.trusted("billing", "orders:read"))])

    async def tried(**claims: Any) -> Principal | None:
        given = {"sub": "billing", "method": "service"} | claims
        return await found(signed(key.key, kid=key.kid, **given), trust)

    assert await tried() == Principal("billing", "service")
    assert await tried(claims={"scope": "orders:read"}) is not None
    assert await tried(claims={"tenant": "x"}) is not None
    assert await tried(sub="ann") is None
    assert await tried(method="jwt") is None
    assert await tried(claims={"scope": "orders:read orders:write"}) is None
    assert await tried(claims={"scope": ["orders:write"]}) is None
    for more in ("role", "roles", "scp", "scopes"):
        assert await tried(claims={more: "admin"}) is None


def test_it_is_signed_again_when_half_its_life_is_over():
    """Until then it is the same text."""
    assert SIGNER.text(ANN) == SIGNER.text(Principal("ann", "jwt", {"scope": "read"}))
    assert SIGNER.text(ANN) != SIGNER.text(Principal("ann", "basic", {"scope": "read"}))
    with pytest.raises(InvalidArgument, match="lives 1 to 900 seconds"):
        PrincipalSigner(KEY, seconds=86_400)


async def test_a_file_of_keys_rotates_without_a_gap(tmp_path):
    """Both keys hold while both are there; one that was taken away holds no more."""
    old, new = SigningKey.new(), SigningKey.new()
    trusted, signing = tmp_path / "trusted.keys", tmp_path / "signing.nk"
    trusted.write_text(f"{old.public}  # old\n")
    signing.write_text(old.seed)
    keys, signer = TrustedFile(str(trusted)), PrincipalSigner(str(signing))
    names = [Principal(f"user {n}", "jwt") for n in range(4)]

    async def holds(text: str) -> bool:
        keys._look_at = 0.0  # a second passes
        verifier = PrincipalVerifier([keys], ["kitmsg"])
        return await verifier.verify(Headers([(PRINCIPAL, text)]), "") is not None

    by_old = signer.text(names[0])
    assert await holds(by_old)
    trusted.write_text(f"{old.public}\n{new.public}\n")
    assert await holds(by_old)
    signing.write_text(new.seed + "\n")
    by_new = signer.text(names[1])
    assert signer.key.kid == new.kid
    assert await holds(by_old)
    assert await holds(by_new)
    trusted.write_text(f"{new.public}\n")
    assert not await holds(by_old)
    assert await holds(by_new)
    trusted.write_text("nonsense")  # half written: what was read before goes on
    signing.write_text("")
    assert await holds(signer.text(names[2]))


class Nested(Service):
    """Calls on."""

    name = "nested"

    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    @endpoint
    async def who(self) -> str:
        return await self.orders.who()


class Orders(Service):
    """Says who calls."""

    @endpoint
    async def who(self, ctx: Context) -> str:
        return (
            f"{ctx.principal.method} {ctx.principal.name}"
            if ctx.principal
            else "nobody"
        )

    @endpoint
    async def token(self, ctx: Context) -> str:
        return ctx.headers.get("Authorization", "")


async def test_it_travels_on_nested_calls(kit):
    """Every service on the way verifies the same signature."""
    kit.trust = TRUST
    await kit.serve(Orders())
    await kit.serve(Nested)
    ann = {PRINCIPAL: SIGNER.text(ANN)}
    assert await kit.client(Nested, metadata=ann).who() == "jwt ann"
    forged = {PRINCIPAL: HMAC}
    assert await kit.client(Nested, metadata=forged).who() == "nobody"
    assert await kit.client(Nested).who() == "nobody"


async def test_a_service_without_keys_knows_nobody(kit):
    """It cannot tell a good signature from a bad one."""
    kit.trust = None
    await kit.serve(Orders())
    ann = {PRINCIPAL: SIGNER.text(ANN)}
    assert await kit.client(Orders, metadata=ann).who() == "nobody"


async def test_those_that_do_not_hold_are_counted(kit):
    """In STATS and metrics."""
    kit.trust = TRUST
    host = await kit.serve(Orders())
    for text in ATTACKS.values():
        assert await kit.client(Orders, metadata={PRINCIPAL: text}).who() == "nobody"
    assert host.snapshots()["orders.who"].unvouched == len(ATTACKS)
    assert host.report().endpoints[0].data["unvouched"] == len(ATTACKS)


async def test_a_client_signs_for_a_service_that_calls_by_itself(kit):
    """With claims for each call; over a caller that stands behind the turn."""
    kit.trust = TRUST
    await kit.serve(Orders())
    claims: list[str] = []

    def per_call(ctx: Context) -> dict[str, Any]:
        claims.append(ctx.endpoint)
        return {"call": len(claims)}

    signing = SIGNER.service("billing", scopes=["orders:read"], claims=per_call)
    assert await kit.client(Orders, auth=signing).who() == "service billing"
    assert await kit.client(Orders, auth=signing).who() == "service billing"
    assert claims == ["orders.who"] * 2


async def test_a_kit_signs_where_nobody_stands_behind_a_call(kit):
    """A turn passes on its own caller; work of the service's own is the service's."""
    kit.trust, kit.auth = TRUST, SIGNER.service()
    await kit.serve(Orders())
    await kit.serve(Nested)
    assert await kit.client(Nested).who() == "service nested"
    ann = {PRINCIPAL: SIGNER.text(ANN)}
    assert await kit.client(Nested, metadata=ann).who() == "jwt ann"
    assert await kit.call("orders.who") == "nobody"  # outside a turn no service calls
    assert current().principal is None


async def test_a_token_of_ones_own_for_each_call(kit):
    """Go kit's signer: key, algorithm, key's name and claims; with an end."""
    await kit.serve(Orders())
    signer = JwtSigner(
        "a secret that is long enough for HS256",
        algorithm="HS256",
        kid="k1",
        claims=lambda ctx: {"sub": "billing", "for": ctx.endpoint},
    )
    given = await kit.client(Orders, auth=signer).token()
    scheme, _, token = given.partition(" ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (scheme, jwt.get_unverified_header(token)["kid"]) == ("Bearer", "k1")
    assert (claims["sub"], claims["for"]) == ("billing", "orders.token")
    assert claims["exp"] - claims["iat"] in (60, 61)
    with pytest.raises(InvalidArgument, match="choose among"):
        JwtSigner("x", algorithm="none", claims={})


class Bucket:
    """Answers as a server with a key-value bucket does."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.asked = 0

    async def __call__(self, subject: str, data: bytes, timeout: float) -> Message:
        self.asked += 1
        value = self.values.get(subject.rpartition(".")[2])
        if value is None:
            return Message(
                "", b"", header_block=b"NATS/1.0 404 Message Not Found\r\n\r\n"
            )
        return Message(
            "", value.encode(), header_block=b"NATS/1.0\r\nNats-Subject: x\r\n\r\n"
        )


async def test_forged_ids_do_not_reach_the_bucket_as_subjects():
    """They would ask for anything."""
    bucket = Bucket()
    keys = BucketKeys("keys", bucket)
    for kid in ("*", ">", "a.b", "", "x" * 65, "a b"):
        assert await keys.find(kid) is None
    assert bucket.asked == 0
    bucket.values = {KEY.kid: KEY.public, "other": KEY.public}
    assert await keys.find(KEY.kid)
    assert await keys.find("other") is None  # a key stands under its own id only
    for _ in range(3):
        await keys.find(KEY.kid)
    assert bucket.asked == 2
