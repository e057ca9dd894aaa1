"""The syntax of addresses, and the sentences about wrong ones."""

from __future__ import annotations

import importlib.metadata
import ssl

import pytest
import trustme

from kitmsg.discovery.address import (
    INSTANCERS,
    REGISTRARS,
    instancer,
    is_discovered,
    parse_address,
    schemes,
)
from kitmsg.discovery.fixed import fixed
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar
from kitmsg.errors import FailedPrecondition

ONE = Instance(address="10.0.0.5:8080")


def test_plain_addresses_are_instances_in_the_order_they_were_given() -> None:
    for given in ("b:2,a:1", ["b:2", "a:1"], "b:2, a:1", ("b:2,a:1", "b:2")):
        found = instancer(given).state
        assert [each.address for each in found.instances] == ["b:2", "a:1"]
        assert (found.age, found.error) == (0.0, None)


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert str(instancer("[::1]:8080").state.instances[0]) == "[::1]:8080"


def test_an_instancer_is_its_own_address() -> None:
    made = fixed("a:1")
    assert instancer(made) is made


def test_the_parts_of_an_address_are_told_apart() -> None:
    found = parse_address("consul://me:p%40ss@h1:1,h2/a/b%20c?tag=x&tag=y&dc=eu")
    assert (found.scheme, found.hosts, found.path) == (
        "consul",
        ("h1:1", "h2"),
        "a/b c",
    )
    assert (found.user, found.password) == ("me", "p@ss")
    assert found.options == {"tag": ("x", "y"), "dc": ("eu",)}
    assert found.servers(8500) == [("h1", 1), ("h2", 8500)]


def test_secrets_are_not_in_what_is_shown() -> None:
    found = parse_address("consul://me:hush@h/p?token=hush&dc=eu&tag=a&tag=b")
    assert str(found) == "consul://h/p?dc=eu&tag=a&tag=b"
    assert "hush" not in repr(str(found))
    assert "hush" not in instancer("etcd://me:hush@h:1/p/").name
    for wrong in ("nope://me:hush@h/p", "consul://me:hush@h:x/p", "me:hush@h:1,b://c"):
        with pytest.raises(ValueError) as failed:  # noqa: PT011
            instancer(wrong)
        assert "hush" not in str(failed.value)


def test_every_scheme_of_the_design_is_installed() -> None:
    assert schemes() == ("bus", "consul", "dns", "etcd", "eureka", "srv", "zk")
    assert schemes(REGISTRARS) == ("consul", "etcd", "eureka", "zk")


def test_a_host_called_bus_is_a_host() -> None:
    assert not is_discovered("bus:4222")
    assert is_discovered("bus:payments")
    assert not is_discovered("http://a:1")
    assert is_discovered("CONSUL://a/b")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "'' has no host; give host:port; it may also begin with bus:, "),
        (
            "a",
            "'a' is not host:port, such as 10.0.0.5:8080; it may also begin with "
            "bus:, consul://, dns://, etcd://, eureka://, srv://, zk://",
        ),
        ("a:b", "'a:b' is not host:port, such as 10.0.0.5:8080"),
        ("a:0", "a port is from 1 to 65535, not 0"),
        ("a:65536", "a port is from 1 to 65535, not 65536"),
        ("::1:80", "'::1:80' has no host; give host:port"),
        (["a:1", "dns://b:1"], "an address with a scheme stands alone"),
        ([], "give an address, such as 10.0.0.5:8080 or srv://_http._tcp.x"),
        (
            "konsul://a/b",
            "an address cannot begin with konsul://; known are host:port, bus:, "
            "consul://, dns://, etcd://, eureka://, srv://, zk://",
        ),
        ("consul:///b", "'' has no host; give host:port"),
        ("consul://a:b/c", "'a:b' is not host:port"),
        ("consul://a", "name one service, as in consul://127.0.0.1:8500/payments"),
        ("consul://a/b?tga=x", "no option 'tga' here; there are ca, cert, dc, grace, "),
        ("consul://a/b?wait=soon", "wait must be a number, not 'soon'"),
        ("consul://a/b?wait=nan", "wait must be at least 0.1, not 'nan'"),
        ("consul://a/b?passing=perhaps", "passing must be true or false"),
        ("consul://a/b?ca=/nope.pem", "a file for TLS cannot be used: "),
        ("consul://a/b?invalidate_after=-1", "must be at least 0, not '-1'"),
        ("dns://a", "records have no port; give it: dns://a:8080"),
        ("dns://a:1,b:2", "give one name, such as dns://example.com:8080"),
        ("srv://_x._tcp.a:80", "ports stand in SRV records; take it off the name"),
        ("srv://_x._tcp.a/b", "give one name, such as srv://_http._tcp.example.com"),
        ("dns://a:1?min_ttl=9&max_ttl=2", "max_ttl must be at least 9, not '2'"),
        ("dns://a:1?resolver=b:x", "'b:x' is not host:port"),
        ("etcd://a", "say below which prefix: etcd://host:2379/services/pay/"),
        ("zk://a/", "say which node: zk://host:2181/services/payments"),
        ("eureka://a", "name the app: eureka://host:8761/eureka/PAYMENTS"),
        ("bus:pay", "bus:pay: there is no bus here to find it on"),
        ("bus:a.b", "a.b"),
    ],
)
def test_a_wrong_address_is_one_sentence(address: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=".") as failed:
        instancer(address)
    assert sentence in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (
            "10.0.0.5:80",
            "has no scheme; known are consul://, etcd://, eureka://, zk://",
        ),
        ("bus:payments", "nothing is registered on the bus: a service that listens is"),
        (
            "dns://a:1",
            "an address to register at cannot begin with dns://; known are "
            "consul://, etcd://, eureka://, zk://",
        ),
        ("consul://a/b?wait=3", "no option 'wait' here"),
        ("etcd://a/b?ttl=0.1", "ttl must be at least 1"),
        ("zk://a/b?acl=mine", "acl is one of open, creator, read, not 'mine'"),
    ],
)
def test_a_wrong_address_of_a_registry_is_one_sentence(
    address: str, sentence: str
) -> None:
    with pytest.raises(ValueError, match=".") as failed:
        registrar(address, ONE)
    assert sentence in str(failed.value)


@pytest.mark.parametrize(
    ("scheme", "extra"), [("zk", "zookeeper"), ("srv", "dns"), ("consul", "consul")]
)
def test_a_missing_package_is_named_with_the_extra_that_has_it(
    scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ModuleNotFoundError("No module named 'gone'", name="gone")

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", fail)
    with pytest.raises(FailedPrecondition) as failed:
        instancer(f"{scheme}://a/b")
    assert str(failed.value) == (
        f"{scheme}:// needs gone: pip install 'kitmsg[{extra}]'"
    )
    with pytest.raises(ValueError, match="cannot begin with nope://") as unknown:
        instancer("nope://a/b")
    assert f"{scheme}:// (pip install 'kitmsg[{extra}]')" in str(unknown.value)


def test_a_file_of_authorities_means_tls(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    context = parse_address(f"etcd://a/b?ca={file}").tls()
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert parse_address("etcd://a/b").tls() is None
    assert parse_address("etcd://a/b?tls=true").tls() is not None


def test_a_scheme_is_a_plugin() -> None:
    for group, noun in ((INSTANCERS, "source"), (REGISTRARS, "entry")):
        for each in importlib.metadata.entry_points(group=group):
            assert callable(getattr(each.load(), noun))
