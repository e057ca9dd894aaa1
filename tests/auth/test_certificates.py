"""Principals of client certificates."""

from __future__ import annotations

import pytest

from kitmsg.auth.certificates import certificate_principal


def subject(*parts: tuple[str, str]) -> tuple[tuple[tuple[str, str], ...], ...]:
    """Return a subject as `ssl` gives it."""
    return tuple((part,) for part in parts)


@pytest.mark.parametrize(
    ("parts", "names", "name"),
    [
        ([("commonName", "Ann, A.")], [("DNS", "ann.example")], "CN=Ann\\, A."),
        ([], [("DNS", "ann.example"), ("URI", "spiffe://x/ann")], "spiffe://x/ann"),
        ([], [("IP Address", "10.0.0.1"), ("DNS", "ann.example")], "ann.example"),
    ],
)
def test_a_certificate_has_a_name(parts, names, name):
    """Its subject; without one its first URI, else its first DNS name."""
    found = certificate_principal(subject(*parts), tuple(names))
    assert found is not None
    assert (found.name, found.method) == (name, "tls")
    assert found.claims["san"] == [f"{kind}:{value}" for kind, value in names]


@pytest.mark.parametrize("names", [[], [("IP Address", "10.0.0.1")], [("DNS", "")]])
def test_a_certificate_without_a_name_is_nobodys(names):
    """An address is not who somebody is."""
    assert certificate_principal((), tuple(names)) is None


def test_the_name_of_a_certificates_owner():
    """RFC 4514: the most special part first, what separates parts escaped."""
    subject = (
        (("countryName", "DE"),),
        (("organizationName", "Ann, Bob & Co"),),
        (("commonName", "shop"), ("userId", "7")),
    )
    principal = certificate_principal(subject, (("DNS", "shop.example"),))
    assert principal is not None
    assert principal.name == r"CN=shop+UID=7,O=Ann\, Bob & Co,C=DE"
    assert (principal.method, principal.claims) == (
        "tls",
        {"san": ["DNS:shop.example"]},
    )
