"""Who asks, behind proxies."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from multidict import CIMultiDict

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.edge.proxies import Proxies, node_address, parse_forwarded

OURS = ("10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1")


def via(headers: Any, *, peer: str = "10.0.0.1", header: str = "x-forwarded") -> Any:
    """Return address, scheme and host of a request that a proxy passed on."""
    given = CIMultiDict(headers)
    found = Proxies(OURS, header).via(peer, "http", lambda name: given.getall(name, []))
    return (found.address, found.scheme, found.host) if found else None


def test_a_stranger_is_not_believed():
    """Whatever it says."""
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    assert via(headers, peer="203.0.113.5") is None
    assert via(headers, peer="") is None
    assert via({"Forwarded": "for=192.0.2.1"}, peer="203.0.113.5") is None


def test_our_proxy_says_who_asks():
    """Address, scheme and host."""
    headers = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
    }
    assert via(headers) == ("192.0.2.1", "https", "shop.example")
    assert via({}) == ("10.0.0.1", "http", "")


@pytest.mark.parametrize(
    ("hops", "address"),
    [
        ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("6.6.6.6, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        ("10.0.0.9, 192.0.2.1", "192.0.2.1"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
        ("6.6.6.6, ", "10.0.0.1"),
        ("[2001:db8:2::1]:4711", "2001:db8:2::1"),
        ("2001:db8:2::1", "2001:db8:2::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:99", "192.0.2.1"),
        ("fe80::1%eth0", "10.0.0.1"),
        ("6.6.6.6," + "10.0.0.2," * 40 + "10.0.0.2", "10.0.0.2"),
    ],
)
def test_what_a_client_forges_is_left_of_what_proxies_write(hops, address):
    """The first from the right that is none of ours is the client."""
    assert via({"X-Forwarded-For": hops})[0] == address


def test_several_headers_are_one_list():
    """In their order."""
    headers = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "192.0.2.1")]
    assert via(headers)[0] == "192.0.2.1"


def test_scheme_and_host_belong_to_their_hop():
    """A client's own claims to the left do not count."""
    headers = {
        "X-Forwarded-For": "6.6.6.6, 192.0.2.1, 10.0.0.2",
        "X-Forwarded-Proto": "ftp, https, http",
        "X-Forwarded-Host": "evil.example, shop.example, inner",
    }
    assert via(headers) == ("192.0.2.1", "https", "shop.example")
    assert (
        via({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "gopher"})[1]
        == "http"
    )
    assert via({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Host": "a b"})[2] == ""


def test_only_one_kind_of_header_is_read():
    """The other comes through the proxy as the client wrote it."""
    both = {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=6.6.6.6"}
    assert via(both)[0] == "192.0.2.1"
    assert via(both, header="forwarded")[0] == "6.6.6.6"
    assert via({"X-Forwarded-For": "6.6.6.6"}, header="forwarded")[0] == "10.0.0.1"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ('for="[2001:db8:2::1]:4711"', ("2001:db8:2::1", "http", "")),
        (
            "For=192.0.2.1;Proto=HTTPS;host=a.example",
            ("192.0.2.1", "https", "a.example"),
        ),
        ("for=6.6.6.6, for=192.0.2.1;proto=https", ("192.0.2.1", "https", "")),
        ("for=192.0.2.1, for=10.0.0.2;by=x", ("192.0.2.1", "http", "")),
        ("for=unknown;proto=https", ("10.0.0.1", "https", "")),
        ("for=_hidden, for=10.0.0.2", ("10.0.0.2", "http", "")),
        ('for="192.0.2.1;proto=https', ("10.0.0.1", "http", "")),
        ("for=192.0.2.1;for=6.6.6.6", ("10.0.0.1", "http", "")),
        ("for=192.0.2.1 proto=https", ("10.0.0.1", "http", "")),
    ],
)
def test_the_standard_header(value, found):
    """RFC 7239; one that is broken counts for nothing."""
    assert via({"Forwarded": value}, header="forwarded") == found


def test_the_standards_own_examples():
    """RFC 7239, section 4."""
    assert parse_forwarded('for="_gazonk"') == [{"for": "_gazonk"}]
    assert parse_forwarded("for=192.0.2.60;proto=http;by=203.0.113.43") == [
        {"for": "192.0.2.60", "proto": "http", "by": "203.0.113.43"}
    ]
    assert parse_forwarded("for=192.0.2.43, for=198.51.100.17") == [
        {"for": "192.0.2.43"},
        {"for": "198.51.100.17"},
    ]
    assert parse_forwarded(r'for="a\"b\\c"') == [{"for": r"a\"b\c".replace(r"\"", '"')}]
    assert parse_forwarded("") == []
    assert parse_forwarded(" , ;; for=a") == [{"for": "a"}]


@settings(max_examples=2000, deadline=None)
@given(st.text(alphabet='for=pthsy;," \\[]:._-a1\t\x00é', max_size=60))
def test_any_header_is_parsed_or_not(value):
    """2000 inputs: no other error, and no address that is none."""
    parsed = parse_forwarded(value)
    assert parsed is None or all(parsed)
    for header, name in (
        ("forwarded", "Forwarded"),
        ("x-forwarded", "X-Forwarded-For"),
    ):
        address = via({name: value}, header=header)[0]
        assert str(ipaddress.ip_address(address)) == address


@settings(max_examples=1000, deadline=None)
@given(st.text(alphabet="0123456789abcdef:.[]%_ ", max_size=30))
def test_any_node_has_an_address_or_none(node):
    """1000 inputs."""
    found = node_address(node)
    assert found == "" or str(ipaddress.ip_address(found)) == found


def test_long_headers_take_no_time():
    """The parser reads each character a bounded number of times."""
    parse_forwarded('for="' + "\\" * 100_000)
    parse_forwarded("a" * 100_000)
    parse_forwarded(";" * 100_000)
    parse_forwarded(" " * 100_000 + "x")


def test_a_wrong_network_is_said():
    """At the start."""
    for text in ("10.0.0.0/33", "10.0.0.1/8", "proxy.example", ""):
        with pytest.raises(InvalidArgument, match="trusted_proxies"):
            Proxies([text])
