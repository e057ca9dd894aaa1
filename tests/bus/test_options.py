"""NatsOptions and server addresses: what is accepted, and that no secret is shown."""

from __future__ import annotations

from typing import Any

import pytest

from kitmsg.bus.nats import NatsBus
from kitmsg.bus.options import NatsOptions, mask_url, parse_servers
from kitmsg.errors import InvalidArgument


@pytest.mark.parametrize(
    ("servers", "addresses"),
    [
        ("localhost", ["nats://localhost:4222"]),
        ("10.0.0.1:4333", ["nats://10.0.0.1:4333"]),
        ("tls://nats.example", ["tls://nats.example:4222"]),
        ("nats://[::1]:4223", ["nats://[::1]:4223"]),
        ("a, b:1 ,nats://c/", ["nats://a:4222", "nats://b:1", "nats://c:4222"]),
        (["a", "b,c"], ["nats://a:4222", "nats://b:4222", "nats://c:4222"]),
        ("a,a,nats://a:4222", ["nats://a:4222"]),
    ],
)
def test_reads_addresses(servers: str | list[str], addresses: list[str]) -> None:
    """One or many, with or without scheme and port."""
    assert parse_servers(servers) == (tuple(addresses), "", "")


def test_takes_the_user_out_of_an_address() -> None:
    """A user holds for every server, and a password may be percent-encoded."""
    urls, user, password = parse_servers("nats://ann:p%40ss@a,b")
    assert urls == ("nats://a:4222", "nats://b:4222")
    assert (user, password) == ("ann", "p@ss")
    assert parse_servers("t0ken@a")[1:] == ("t0ken", "")


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ("", "no NATS server given"),
        (" , ", "no NATS server given"),
        ("http://a", r"'http://a': begin with nats:// or tls://"),
        ("ws://a", "begin with"),
        ("nats://a:notaport", "'nats://a:notaport'"),
        ("nats://a:0", "is not nats://host:port"),
        ("nats://:4222", "is not nats://host:port"),
        ("nats://a/path", "is not nats://host:port"),
        ("ann:x@a,bob:x@b", "name different users"),
        ("nats://ann:s3cret@a:b", r"'nats://\*\*\*@a:b'"),
    ],
)
def test_names_a_bad_address(servers: str, words: str) -> None:
    """What cannot be an address is refused, its password hidden."""
    with pytest.raises(InvalidArgument, match=words) as info:
        parse_servers(servers)
    assert "s3cret" not in str(info.value)


def test_hides_users() -> None:
    """Whatever stands before the last ``@`` is hidden."""
    assert mask_url("nats://ann:p@ss@a:1") == "nats://***@a:1"
    assert mask_url("ann@a") == "***@a"
    assert mask_url("nats://a:1") == "nats://a:1"


def test_shows_no_secret() -> None:
    """The repr of options can go to a log."""
    options = [
        NatsOptions(user="ann", password="s3cret"),
        NatsOptions(token="s3cret"),
        NatsOptions(nkey_seed="s3cret"),
    ]
    for each in options:
        assert "s3cret" not in repr(each)
        assert "s3cret" not in each.identity
    assert "ann" in repr(options[0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"user": "ann", "password": "x", "token": "t"}, "not by user and token"),
        ({"creds": "c", "nkey_file": "n"}, "not by nkey_file and creds"),
        ({"user": "ann"}, "go together"),
        ({"password": "x"}, "go together"),
        ({"tls_key": "k"}, "tls_key needs tls_cert"),
        ({"connect_timeout": 0}, "connect_timeout must be more than zero"),
        ({"ping_interval": float("nan")}, "ping_interval must be"),
        ({"max_pending": -1}, "max_pending must be"),
        ({"inbox_prefix": "a b"}, "is not a subject"),
        ({"inbox_prefix": "in.*"}, "has a wildcard"),
    ],
)
def test_refuses_what_contradicts_itself(options: dict[str, Any], words: str) -> None:
    """An option that would be ignored, or cannot work, is named."""
    with pytest.raises(InvalidArgument, match=words):
        NatsOptions(**options)


async def test_one_user_too_many() -> None:
    """A user in the address and another way in the options is one too many."""
    with pytest.raises(InvalidArgument, match="names a user and so do the options"):
        await NatsBus.connect("nats://ann:x@127.0.0.1", token="t")
