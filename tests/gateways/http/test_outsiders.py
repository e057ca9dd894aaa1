"""Foreign pages, foreign names, and what outsiders may choose."""

from __future__ import annotations

import pytest

from kitmsg import Context, Service, endpoint
from tests.auth.tokens import SECRET, sign


class Diary(Service):
    """Writes."""

    entries = 0

    @endpoint(http="GET /entries")
    async def read(self) -> int:
        return self.entries

    @endpoint(http="POST /entries")
    async def write(self) -> int:
        self.entries += 1
        return self.entries

    @endpoint
    async def headers(self, ctx: Context) -> dict[str, str]:
        names = ("Kit-Request-Id", "baggage", "traceparent")
        return {name: ctx.headers.get(name, "") for name in names}


@pytest.fixture
async def diary(hub, start):
    """Give a function that starts a gateway before a diary, and that diary."""
    service = Diary()
    await hub.serve(service)

    async def begin(**options):
        return await start(hub, **options), service

    return begin


PAGES = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]


@pytest.mark.parametrize("headers", PAGES)
async def test_a_foreign_page_does_nothing(diary, headers):
    """Where nobody is asked who calls, its reader's browser could do all."""
    call, service = await diary()
    for path, body in [
        ("/entries", {}),
        ("/diary/write", {}),
        ("/rpc", {"jsonrpc": "2.0", "method": "diary.write", "id": 1}),
    ]:
        response, told = await call("POST", path, json=body, headers=headers)
        assert response.status == 403
        assert "cors_origins" in told["detail"]
    assert service.entries == 0
    response, _ = await call("GET", "/entries", headers=headers)
    assert response.status == 200
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
)
async def test_own_pages_and_programs_do(diary, headers):
    """The docs page among them, and pages of origins that are listed."""
    call, service = await diary(cors_origins=("https://shop.example",))
    own = call.server.url
    for more in (
        {},
        {"Origin": own},
        {"Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"},
    ):
        response, _ = await call("POST", "/entries", headers={**headers, **more})
        assert response.status == 200
    assert service.entries == 3


async def test_with_authentication_a_page_needs_a_token(diary, tmp_path):
    """Which no browser sends by itself, so its origin says nothing."""
    (tmp_path / "secret").write_text(SECRET)
    call, _ = await diary(jwt_key=str(tmp_path / "secret"), jwt_algorithms=("HS256",))
    token = {"Authorization": f"Bearer {sign(SECRET, 'HS256')}"}
    response, _ = await call("POST", "/entries", headers={**PAGES[0], **token})
    assert response.status == 200


async def test_a_foreign_name_is_not_this_gateways(diary):
    """DNS rebinding: the page's own name leads to loopback; reading is refused too."""
    call, _ = await diary(allowed_hosts=())
    for method, path in [
        *(("GET", path) for path in ("/entries", "/openapi.json", "/metrics", "/docs")),
        ("POST", "/entries"),
    ]:
        headers = {"Host": f"evil.example:{call.server.port}"}
        response, _ = await call(method, path, headers=headers)
        assert response.status == 421
    response, _ = await call("GET", "/entries")
    assert response.status == 200
    response, _ = await call("GET", "/healthz", headers={"Host": "10.0.0.7"})
    assert response.status == 200


async def test_outsiders_choose_neither_ids_nor_baggage(diary, caplog):
    """At a public edge; what they chose is in the log, under its own name."""
    caplog.set_level("INFO", "kitmsg_gateways.http.access")
    call, _ = await diary(public=True, access_log=True)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    chosen = {"X-Request-Id": "mine", "baggage": "role=admin", "traceparent": parent}
    response, told = await call("POST", "/diary/headers", json={}, headers=chosen)
    id_ = response.headers["X-Request-Id"]
    assert id_ != "mine"
    assert told == {"Kit-Request-Id": id_, "baggage": "", "traceparent": parent}
    (line,) = [r for r in caplog.records if "headers" in r.getMessage()]
    assert (line.request_id, line.client_request_id) == (id_, "mine")


@pytest.mark.parametrize(
    "options", [{}, {"public": True, "trusted_proxies": ("127.0.0.1",)}]
)
async def test_inside_and_from_a_proxy_they_are_kept(diary, options):
    """So that one id goes through all hops of ours."""
    call, _ = await diary(**options)
    chosen = {"X-Request-Id": "mine", "baggage": "role=admin"}
    _, told = await call("POST", "/diary/headers", json={}, headers=chosen)
    assert (told["Kit-Request-Id"], told["baggage"]) == ("mine", "role=admin")


async def test_every_page_has_security_headers(diary):
    """The gateway's own ones, and its refusals."""
    call, _ = await diary()
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/healthz", "/readyz"):
        response, _ = await call("GET", path)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
    response, _ = await call("GET", "/no")
    assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_hsts_is_for_https(diary):
    """By option; a proxy's word counts."""
    call, _ = await diary(hsts=31536000.0, trusted_proxies=("127.0.0.1",))
    secure = {"X-Forwarded-For": "10.1.1.1", "X-Forwarded-Proto": "https"}
    response, _ = await call("GET", "/entries", headers=secure)
    assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
    response, _ = await call("GET", "/entries")
    assert "Strict-Transport-Security" not in response.headers


async def test_a_rate_counts_calls_of_a_batch(diary):
    """Not requests: a batch of ten is ten."""
    call, service = await diary(rate_limit=0.01, rate_burst=4)
    batch = [{"jsonrpc": "2.0", "method": "diary.write", "id": n} for n in range(10)]
    _, told = await call("POST", "/rpc", json=batch)
    assert [each.get("result") for each in told if "result" in each] == [1, 2, 3, 4]
    codes = {each["error"]["data"]["code"] for each in told if "error" in each}
    assert codes == {"resource_exhausted"}
    assert service.entries == 4
