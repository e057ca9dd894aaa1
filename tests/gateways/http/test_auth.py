"""As whom a request comes."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from kitmsg import Context, Service, endpoint
from kitmsg.auth.allow import role, scope
from kitmsg.auth.basic import make_hash
from kitmsg.middleware import auth
from tests.auth.tokens import SECRET, Pair, sign
from tests.require import need
from tests.trust import SIGNING_KEY, TRUST


class Mirror(Service):
    """Says who asks."""

    middleware = (auth(),)

    @endpoint(http="GET /me")
    async def me(self, ctx: Context) -> str:
        return f"{ctx.principal.method} {ctx.principal.name} {ctx.principal.claims}"


class Open(Service):
    """Says what came."""

    @endpoint(http="GET /open/headers")
    async def headers(self, ctx: Context) -> list[str]:
        return ctx.headers.all("Kit-Principal") + ctx.headers.all("Authorization")

    @endpoint(http="GET /open/me")
    async def me(self, ctx: Context) -> str:
        return ctx.principal.name if ctx.principal else "nobody"


@pytest.fixture
async def guarded(hub, start, tmp_path):
    """Give a function that starts a gateway that takes tokens signed with a secret."""
    hub.trust = TRUST
    await hub.serve(Mirror())
    await hub.serve(Open())
    key = tmp_path / "secret"
    key.write_text(SECRET)

    async def begin(**options):
        chosen = {"jwt_key": str(key), "jwt_algorithms": ("HS256",), **options}
        chosen.setdefault("signing_key", SIGNING_KEY)
        return await start(hub, **chosen)

    return begin


def bearer(token: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"Authorization": f"Bearer {token}"}


async def test_a_good_token_becomes_the_principal(guarded):
    """The service sees who asks, and the claims that were chosen."""
    call = await guarded(jwt_claims=("scope",))
    token = sign(SECRET, "HS256", scope="read", email="x")
    response, body = await call("GET", "/me", headers=bearer(token))
    assert (response.status, body) == (200, "jwt ann {'scope': 'read'}")


async def test_without_one_it_is_401(guarded):
    """And says how to ask, without an error, as none was made (RFC 6750, section 3.1)."""
    call = await guarded(title="Our shop")
    response, body = await call("GET", "/me")
    assert (response.status, body["code"]) == (401, "unauthenticated")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="Our shop"'
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "token",
    [
        sign(SECRET, "HS256", exp=1),
        sign(SECRET + "x", "HS256"),
        sign(SECRET * 2, "HS512"),
        sign(SECRET, "HS256", sub=None),
        "nonsense",
        "e30.e30.",
    ],
)
async def test_a_bad_token_is_401_and_not_explained(guarded, token):
    """All are refused in the same words; the log has the reason."""
    call = await guarded()
    response, body = await call("GET", "/me", headers=bearer(token))
    assert response.status == 401
    challenge = 'Bearer realm="Services", error="invalid_token"'
    assert response.headers["WWW-Authenticate"] == challenge
    assert body["detail"] == "the credentials are not valid"


async def test_paths_that_lead_nowhere_are_guarded_too(guarded):
    """Nobody learns what there is without credentials."""
    call = await guarded()
    for method, path in (
        ("GET", "/nowhere"),
        ("OPTIONS", "/me"),
        ("GET", "/docs"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/asyncapi.json"),
        ("POST", "/rpc"),
    ):
        response, _ = await call(method, path)
        assert response.status == 401, path


async def test_public_paths_need_none(guarded):
    """Probes never; others when they are listed, by name or by beginning."""
    call = await guarded(auth_public=("/docs", "/open/*"))
    for path in ("/healthz", "/readyz", "/docs", "/open/headers"):
        assert (await call("GET", path))[0].status == 200, path
    for path in ("/docs/", "/op", "/open", "/healthz/x", "//docs", "/x/../docs"):
        line = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await call.raw(line.encode())).startswith(b"HTTP/1.1 401 "), path


async def test_nobody_outside_can_claim_to_be_somebody(guarded, hub, start):
    """A principal's header from outside goes nowhere, with and without authentication."""
    forged = {"Kit-Principal": '{"name":"root","method":"jwt"}'}
    for call in (await guarded(auth_public=("/open/*",)), await start(hub)):
        assert (await call("GET", "/open/headers", headers=forged))[1] == []
    call = await guarded()
    token = bearer(sign(SECRET, "HS256"))
    _, body = await call("GET", "/open/headers", headers={**forged, **token})
    assert len(body) == 1
    _, body = await call("GET", "/open/me", headers={**forged, **token})
    assert body == "ann"


async def test_who_may_not_call_is_refused_at_the_door(guarded, hub):
    """As the service would refuse, and without asking it; whoever may is let through."""
    calls = []

    class Shut(Service):
        @endpoint(http="GET /shut", allow=scope("write") | role("admin"))
        async def look(self) -> str:
            calls.append(1)
            return "in"

    await hub.serve(Shut())
    call = await guarded()
    for claims, status in (
        ({"scope": "read write"}, 200),
        ({"roles": ["admin"]}, 200),
        ({"scope": "read"}, 403),
        ({}, 403),
    ):
        response, body = await call(
            "GET", "/shut", headers=bearer(sign(SECRET, "HS256", **claims))
        )
        assert response.status == status
        if status == 403:
            assert body["code"] == "permission_denied"
            assert body["detail"] == "you may not call shut.look"
    assert len(calls) == 2
    (host,) = [host for host in hub.hosts if host.service.name == "shut"]
    assert host.snapshots()["shut.look"].requests == 2
    rpc = {"jsonrpc": "2.0", "id": 1, "method": "shut.look"}
    _, body = await call(
        "POST", "/rpc", json=rpc, headers=bearer(sign(SECRET, "HS256"))
    )
    assert body["error"]["data"]["code"] == "permission_denied"


async def test_without_a_signing_key_services_know_nobody(guarded, caplog):
    """The gateway says once what to do; what stands in a bare header is nobody's."""
    call = await guarded(signing_key="")
    for _ in range(2):
        _, body = await call("GET", "/open/me", headers=bearer(sign(SECRET, "HS256")))
        assert body == "nobody"
    assert [r for r in caplog.messages if "--signing-key" in r] == caplog.messages


async def test_the_token_itself_stays_here_unless_told(guarded):
    """Services that trust the gateway need not have it."""
    token = bearer(sign(SECRET, "HS256"))
    for forward, count in ((False, 1), (True, 2)):
        call = await guarded(forward_authorization=forward)
        _, body = await call("GET", "/open/headers", headers=token)
        assert len(body) == count


async def test_two_of_them_are_none(guarded):
    """Whose would count?"""
    call = await guarded()
    token = f"Bearer {sign(SECRET, 'HS256')}"
    headers = [("Authorization", token), ("Authorization", token)]
    response, _ = await call("GET", "/me", headers=headers)
    assert response.status == 401


async def test_names_and_passwords(guarded, tmp_path):
    """Beside tokens, or alone; a browser is told to ask for them."""
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('sesame')}\n")
    call = await guarded(basic_file=str(users))
    right = base64.b64encode(b"ann:sesame").decode()
    response, body = await call(
        "GET", "/me", headers={"Authorization": f"Basic {right}"}
    )
    assert (response.status, body) == (200, "basic ann {}")
    assert (await call("GET", "/me", headers=bearer(sign(SECRET, "HS256"))))[
        0
    ].status == 200
    wrong = base64.b64encode(b"ann:sesamo").decode()
    response, _ = await call("GET", "/me", headers={"Authorization": f"Basic {wrong}"})
    assert response.status == 401
    bearer_, basic = response.headers["WWW-Authenticate"].split(", Basic ")
    assert bearer_.startswith("Bearer realm=")
    assert basic == 'realm="Services", charset="UTF-8"'


async def test_curl_asks_with_a_password(guarded, tmp_path):
    """A client that we did not write."""
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('sesame')}\n")
    call = await guarded(basic_file=str(users))
    url = f"{call.server.url}/me"
    for password, status in (("sesame", "200"), ("sesamo", "401")):
        words = [need("curl"), "-s", "-o", "-", "-w", " %{http_code}", url]
        words += ["-u", f"ann:{password}"]
        done = await asyncio.to_thread(
            subprocess.run, words, capture_output=True, check=True, timeout=20
        )
        assert done.stdout.decode().endswith(status)


async def test_foreign_pages_cannot_use_what_a_browser_knows(guarded, tmp_path):
    """A browser sends passwords by itself, also for a page of somebody else's."""
    users = tmp_path / "users"
    users.write_text(f"ann:{make_hash('sesame')}\n")
    call = await guarded(
        jwt_key="", basic_file=str(users), cors_origins=("https://shop.example",)
    )
    right = {"Authorization": f"Basic {base64.b64encode(b'ann:sesame').decode()}"}
    own = f"http://127.0.0.1:{call.server.port}"
    for origin, status in (
        ("https://evil.example", 403),
        ("null", 403),
        ("https://shop.example", 200),
        (own, 200),
    ):
        response, _ = await call("GET", "/me", headers={**right, "Origin": origin})
        assert response.status == status, origin
    assert (await call("GET", "/me", headers=right))[0].status == 200


async def test_a_new_key_is_taken_up(guarded, tmp_path):
    """The file is watched, and can be read again at once."""
    key = tmp_path / "rotating"
    key.write_text(SECRET)
    call = await guarded(jwt_key=str(key), reload_interval=3600)
    newer = SECRET[::-1]
    assert (await call("GET", "/me", headers=bearer(sign(newer, "HS256"))))[
        0
    ].status == 401
    key.write_text(newer)
    call.server.reload()
    assert (await call("GET", "/me", headers=bearer(sign(newer, "HS256"))))[
        0
    ].status == 200
    assert (await call("GET", "/me", headers=bearer(sign(SECRET, "HS256"))))[
        0
    ].status == 401


async def test_keys_of_an_issuer(hub, start, guarded, monkeypatch):
    """From a JWK Set at a URL; without it, it is nobody's fault outside."""
    pair = Pair(rsa.generate_private_key(65537, 2048), "RS256")
    runner = web.ServerRunner(web.Server(serve_keys(pair)))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    call = await guarded(jwt_key="", jwks_url=url, jwt_algorithms=("RS256",))
    assert (await call("GET", "/me", headers=bearer(pair.token("a"))))[0].status == 200
    assert (await call("GET", "/me", headers=bearer(pair.token("b"))))[0].status == 401
    await runner.cleanup()
    call = await guarded(jwt_key="", jwks_url=url, jwt_algorithms=("RS256",))
    assert (await call("GET", "/me", headers=bearer(pair.token("a"))))[0].status == 503


def serve_keys(pair: Pair) -> Any:
    """Return a handler that serves a JWK Set."""

    async def handle(_request: web.BaseRequest) -> web.Response:
        return web.json_response({"keys": [pair.jwk("a")]})

    return handle


async def test_a_limit_for_each_principal(guarded):
    """Whatever address it comes from; others go on."""
    call = await guarded(principal_rate_limit=0.01, principal_rate_burst=1)
    ann, bob = (bearer(sign(SECRET, "HS256", sub=name)) for name in ("ann", "bob"))
    assert (await call("GET", "/me", headers=ann))[0].status == 200
    assert (await call("GET", "/me", headers=ann))[0].status == 429
    assert (await call("GET", "/me", headers=bob))[0].status == 200


async def test_both_limits_are_told(guarded):
    """In one header each."""
    call = await guarded(
        rate_limit=0.01, rate_burst=9, principal_rate_limit=0.01, principal_rate_burst=5
    )
    response, _ = await call("GET", "/me", headers=bearer(sign(SECRET, "HS256")))
    policies = response.headers["RateLimit-Policy"].split(", ")
    assert [one.partition(";")[0] for one in policies] == ['"address"', '"principal"']
    assert response.headers["RateLimit"].count(";r=") == 2


async def test_guessing_is_limited_by_address(guarded):
    """The limit for an address comes before the credentials are looked at."""
    call = await guarded(rate_limit=0.01, rate_burst=2)
    statuses = [
        (await call("GET", "/me", headers=bearer(f"guess{n}")))[0].status
        for n in range(4)
    ]
    assert statuses == [401, 401, 429, 429]


async def test_the_log_of_a_refusal_says_whose_it_was(guarded, caplog):
    """The reason comes with the request id that the client has, and its address."""
    caplog.set_level("INFO", "kitmsg.auth")
    call = await guarded()
    response, _ = await call("GET", "/me", headers=bearer("x"))
    (record,) = [r for r in caplog.records if "credentials refused" in r.message]
    assert record.request_id == response.headers["X-Request-Id"]
    assert record.client == "127.0.0.1"
