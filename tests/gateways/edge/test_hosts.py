"""Names under which a door may be called."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg_gateways.edge.hosts import Hosts
from kitmsg_gateways.http import GatewayOptions


def hosts(*, has_auth: bool = False, **options: Any) -> Hosts:
    """Return the names of a door with options."""
    return Hosts(GatewayOptions(**options), has_auth=has_auth)


def test_loopback_is_called_by_its_names():
    """A page whose name leads here by a trick is not answered; twice, as it is cached."""
    found = hosts()
    for host in (
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:1",
        "[::1]:8080",
        "",
        "[::1]",
    ):
        assert found.allows(host)
        assert found.allows(host)
    for host in (
        "evil.example",
        "evil.example:8080",
        "localhost.evil",
        "127.0.0.2",
        ":",
    ):
        assert not found.allows(host) or host == ":"
        assert not found.allows("evil.example")


@pytest.mark.parametrize(
    "options",
    [
        {"host": "0.0.0.0"},
        {"trusted_proxies": ("127.0.0.1",)},
        {"has_auth": True},
        {"allowed_hosts": ("*",)},
    ],
)
def test_elsewhere_all_names_are_fine(options):
    """Behind a proxy, with authentication, on other addresses; or because you say so."""
    assert hosts(**options).is_any
    assert hosts(**options).allows("shop.example")


def test_names_can_be_listed():
    """One by one, or all below one."""
    found = hosts(host="0.0.0.0", allowed_hosts=("Shop.example", "*.shop.example"))
    assert found.allows("shop.example:443")
    assert found.allows("a.shop.example")
    assert not found.allows("ashop.example")
    assert not found.allows("localhost")
