"""How often one client may ask."""

from __future__ import annotations

import pytest

from kitmsg import Service, endpoint
from kitmsg.middleware.ratelimit import Buckets
from kitmsg_gateways.edge.limits import address_key


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"


@pytest.fixture
async def limited(hub, start):
    """Give a function that starts a gateway that trusts this machine as its proxy."""
    await hub.serve(Greeter())

    async def begin(**options):
        return await start(hub, trusted_proxies=("127.0.0.1",), **options)

    return begin


def of(address: str) -> dict[str, str]:
    """Return the headers of a request from an address."""
    return {"X-Forwarded-For": address}


async def test_over_the_limit_is_429(limited):
    """With the time to wait; somebody else is not held up."""
    call = await limited(rate_limit=0.01, rate_burst=3)
    for left in (2, 1, 0):
        response, _ = await call("GET", "/hello/ann", headers=of("192.0.2.1"))
        assert response.status == 200
        assert response.headers["RateLimit-Policy"] == '"address";q=3;w=300'
        assert response.headers["RateLimit"].startswith(f'"address";r={left};t=')
    response, body = await call("GET", "/hello/ann", headers=of("192.0.2.1"))
    assert (response.status, body["code"]) == (429, "resource_exhausted")
    assert 90 <= int(response.headers["Retry-After"]) <= 100
    assert response.headers["RateLimit"].startswith('"address";r=0;t=')
    response, _ = await call("GET", "/hello/ann", headers=of("192.0.2.2"))
    assert response.status == 200


async def test_what_leads_nowhere_counts_too(limited):
    """Guessing paths is asking."""
    call = await limited(rate_limit=0.01, rate_burst=1)
    assert (await call("GET", "/a", headers=of("192.0.2.1")))[0].status == 404
    assert (await call("GET", "/b", headers=of("192.0.2.1")))[0].status == 429


async def test_the_platform_is_not_held_up(limited):
    """Its probes come often, and from one address."""
    call = await limited(rate_limit=0.01, rate_burst=1)
    for _ in range(3):
        response, _ = await call("GET", "/healthz")
        assert response.status == 200
        assert "RateLimit" not in response.headers


async def test_without_a_limit_nothing_is_said(limited):
    """It is off."""
    call = await limited()
    response, _ = await call("GET", "/hello/ann")
    assert "RateLimit" not in response.headers


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_ipv6_client_has_a_whole_network(one, other, are_one):
    """Or it would have as many buckets as it likes."""
    assert (address_key(one) == address_key(other)) is are_one


def test_memory_is_bounded():
    """However many clients there are, those that asked last are kept."""
    buckets = Buckets(per_second=0.001, burst=1, most=5000)
    for number in range(50_000):
        buckets.take(f"client-{number}", now=0.0)
        assert len(buckets) <= 5001
    assert buckets.delay("client-49999", now=0.0) > 0
    assert buckets.delay("client-0", now=0.0) == 0
