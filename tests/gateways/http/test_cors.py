"""Which web pages may call, as a browser asks for it."""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  # read when `Greeter` is defined

import pytest

from kitmsg import Service, endpoint
from kitmsg.errors import InvalidArgument
from kitmsg_gateways.http.cors import Cors, origin_pattern

SHOP = "https://shop.example"


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"

    @endpoint(http="GET /count")
    async def count(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number


@pytest.fixture
async def shop(hub, start):
    """Give a function that starts a gateway with CORS."""
    await hub.serve(Greeter())

    async def begin(*origins, **options):
        return await start(hub, cors_origins=origins, **options)

    return begin


def preflight(origin: str = SHOP) -> dict[str, str]:
    """Return the headers of the question that a browser asks beforehand."""
    return {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }


async def test_it_is_off_by_default(shop):
    """No page sees anything."""
    call = await shop()
    response, _ = await call("GET", "/hello/ann", headers={"Origin": SHOP})
    assert response.status == 200
    assert not [name for name in response.headers if "Access-Control" in name]
    assert "Vary" not in response.headers
    response, _ = await call("OPTIONS", "/hello/ann", headers=preflight())
    assert not [name for name in response.headers if "Access-Control" in name]


async def test_a_page_that_may_sees_the_answer(shop):
    """Errors too, and the headers that help."""
    call = await shop(SHOP)
    for path, status in (("/hello/ann", 200), ("/nowhere", 404), ("/healthz", 200)):
        response, _ = await call("GET", path, headers={"Origin": SHOP})
        assert response.status == status
        assert response.headers["Access-Control-Allow-Origin"] == SHOP
        assert "Origin" in response.headers["Vary"]
        exposed = response.headers["Access-Control-Expose-Headers"]
        assert "X-Request-Id" in exposed
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_a_stream_is_an_answer_too(shop):
    """Its headers leave before its end is known."""
    call = await shop(SHOP, rate_limit=100.0)
    headers = {"Origin": SHOP, "Accept": "text/event-stream"}
    response, body = await call("GET", "/count", headers=headers)
    assert (response.status, response.content_type) == (200, "text/event-stream")
    assert body.count(b"data: ") >= 3
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert response.headers["Vary"].count("Origin") == 1
    assert response.headers["RateLimit"].startswith('"address";r=99')


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://shop.example",
        "https://shop.example.evil",
        "https://xshop.example",
        "https://shop.example:8443",
        "null",
        "",
        "*",
    ],
)
async def test_a_page_that_may_not_sees_nothing(shop, origin):
    """The answer still tells caches that it depends on who asks."""
    call = await shop(SHOP)
    response, _ = await call("GET", "/hello/ann", headers={"Origin": origin})
    assert response.status == 200
    assert response.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in response.headers
    response, _ = await call("OPTIONS", "/hello/ann", headers=preflight(origin))
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_two_origins_are_none(shop):
    """No browser sends that."""
    call = await shop(SHOP)
    headers = [("Origin", SHOP), ("Origin", SHOP)]
    response, _ = await call("GET", "/hello/ann", headers=headers)
    assert "Access-Control-Allow-Origin" not in response.headers


async def test_the_question_beforehand_is_answered(shop):
    """With what may be sent, and for how long that holds; no service hears of it."""
    call = await shop(SHOP, cors_headers=("X-Tenant",), cors_max_age=120)
    response, body = await call("OPTIONS", "/anything", headers=preflight())
    assert (response.status, body) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == SHOP
    assert response.headers["Access-Control-Max-Age"] == "120"
    allowed = response.headers["Access-Control-Allow-Headers"]
    assert {"Content-Type", "Authorization", "X-Tenant"} <= set(allowed.split(", "))
    assert "DELETE" in response.headers["Access-Control-Allow-Methods"]
    assert call.server.metrics.count("(preflight)", "ok") == 1


async def test_a_plain_options_request_is_still_one(shop):
    """It lists the methods of the path."""
    call = await shop(SHOP)
    response, _ = await call("OPTIONS", "/hello/ann", headers={"Origin": SHOP})
    assert "GET" in response.headers["Allow"]
    assert response.headers["Access-Control-Allow-Origin"] == SHOP


async def test_all_pages(shop):
    """With a star, and never with credentials."""
    call = await shop("*")
    response, _ = await call("GET", "/hello/ann", headers={"Origin": "null"})
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Vary" not in response.headers
    with pytest.raises(InvalidArgument, match="name the origins"):
        await shop("*", cors_credentials=True)
    with pytest.raises(InvalidArgument, match="name the origins"):
        await shop(SHOP, "*", cors_credentials=True)


async def test_credentials_for_named_pages(shop):
    """Only when told to."""
    call = await shop(SHOP, cors_credentials=True)
    response, _ = await call("GET", "/hello/ann", headers={"Origin": SHOP})
    assert response.headers["Access-Control-Allow-Credentials"] == "true"
    assert response.headers["Access-Control-Allow-Origin"] == SHOP


@pytest.mark.parametrize(
    ("listed", "origin", "may"),
    [
        ("https://*.shop.example", "https://a.shop.example", True),
        ("https://*.shop.example", "https://a.b.shop.example", True),
        ("https://*.shop.example", "https://shop.example", False),
        ("https://*.shop.example", "https://evilshop.example", False),
        ("https://*.shop.example", "https://a.shop.example.evil", False),
        ("https://*.shop.example", "https://a.shop.example:444", False),
        ("https://*.shop.example:444", "https://a.shop.example:444", True),
        ("https://*.shop.example", "https://evil.com/.shop.example", False),
        ("https://*.shop.example", "https://evil@x.shop.example", False),
        ("https://*.shop.example", "https://a.shop.example\n", False),
        ("https://*.shop.example", "https://aXshop.example", False),
        ("https://shop.example:443", "https://shop.example", True),
        ("HTTPS://Shop.Example", "https://shop.example", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("chrome-extension://abc", "chrome-extension://abc", True),
    ],
)
def test_origins_match_whole(listed, origin, may):
    """What stands for all names below one stands for nothing else."""
    assert (origin_pattern(listed).fullmatch(origin) is not None) is may


@pytest.mark.parametrize(
    "text",
    [
        "shop.example",
        "https://shop.example/",
        "https://",
        "null",
        "",
        "https://*",
        "https://a*.b",
    ],
)
def test_what_is_no_origin_is_said(text):
    """At the start."""
    with pytest.raises(InvalidArgument, match="cors_origins"):
        Cors([text])


def test_a_wrong_header_is_said():
    """At the start."""
    with pytest.raises(InvalidArgument, match="cors_headers"):
        Cors([SHOP], headers=["X Tenant"])
