"""Each system's own: what an address may say of it, and what its answers mean."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from kitmsg.discovery import etcd as etcd_module
from kitmsg.discovery.address import instancer
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar
from tests.discovery.systems.consul import Consul
from tests.discovery.systems.etcd import Etcd
from tests.discovery.watching import Watching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.discovery.systems.eureka import Eureka
    from tests.discovery.systems.knot import Names, Records
    from tests.discovery.systems.zookeeper import ZooKeeper

    Watch = Callable[[str], Awaitable[Watching]]


def on(name: str) -> pytest.MarkDecorator:
    """Run a test on one system."""
    return pytest.mark.parametrize("system_name", [name], indirect=True)


async def lost(watch: Watch, address: str) -> str:
    """Return the error of an address."""
    watching = await watch(address)
    await watching.until_lost()
    return str(watching.instancer.state.error)


# -- DNS


@on("srv")
async def test_srv_records_have_priority_and_weight(
    system: Records, watch: Watch, service: str
) -> None:
    system.knot.records["one"] = "@ 1 A 10.0.2.1"
    system.knot.records["both"] = "@ 1 A 10.0.2.2\n@ 1 AAAA fd00::2"
    records = "@ 1 SRV 20 5 81 one.x.test.\n@ 1 SRV 10 0 82 both.x.test."
    system.knot.set(f"_grpc._tcp.{service}", records)
    watching = await watch(system.address(service))
    await watching.until({"10.0.2.1:81", "10.0.2.2:82", "[fd00::2]:82"})
    found = [(i.address, i.priority, i.weight) for i in watching.told[-1]]
    assert found == [
        ("10.0.2.2:82", 10, 0.0),
        ("[fd00::2]:82", 10, 0.0),
        ("10.0.2.1:81", 20, 5.0),
    ]
    assert watching.told[-1][2].metadata == {"host": "one.x.test"}


@on("srv")
async def test_a_target_that_does_not_exist_takes_nobody_along(
    system: Records, watch: Watch, service: str
) -> None:
    system.knot.records["there"] = "@ 1 A 10.0.2.3"
    records = "@ 1 SRV 1 1 81 there.x.test.\n@ 1 SRV 1 1 82 nowhere.x.test."
    system.knot.set(f"_grpc._tcp.{service}", records)
    watching = await watch(system.address(service))
    await watching.until({"10.0.2.3:81"})


@on("srv")
async def test_port_0_and_the_target_of_nothing(
    system: Records, watch: Watch, service: str
) -> None:
    system.knot.set(f"_grpc._tcp.{service}", "@ 1 SRV 0 0 0 .")
    watching = await watch(system.address(service))
    await watching.until(set())  # RFC 2782: decidedly not available
    system.knot.set(f"_grpc._tcp.{service}", "@ 1 SRV 1 1 0 ns.x.test.")
    await watching.until_lost()
    assert "the SRV record of ns.x.test has port 0" in str(
        watching.instancer.state.error
    )


@on("srv")
async def test_an_answer_too_long_for_a_datagram_comes_over_tcp(
    system: Records, watch: Watch, service: str
) -> None:
    hundred = await system.put(service, 100)
    watching = await watch(system.address(service))
    await watching.until(hundred)


@on("dns")
async def test_a_name_that_does_not_exist_is_an_error_that_keeps_the_set(
    system: Names, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    watching = await watch(system.address(service))
    await watching.until(two)
    del system.knot.records[service]
    system.knot.set("other", "@ 1 A 10.0.0.1")
    await watching.until_lost()
    error = f"there is no name {service}.x.test in DNS"
    assert error in str(watching.instancer.state.error)
    assert watching.addresses == two


@on("dns")
async def test_the_next_resolver_is_asked_when_one_is_silent(
    system: Names, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    address = system.address(service).replace("resolver=", "resolver=127.0.0.1:9,")
    watching = await watch(address.replace("timeout=0.4", "timeout=3"))
    await watching.until(two)


@on("dns")
async def test_the_ttl_is_kept_within_its_bounds(
    system: Names, watch: Watch, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0.01)

    address = system.address(service).partition("&min_ttl")[0]
    for ttl, options, expected in (
        (3, "&min_ttl=1", 3.0),
        (3, "&min_ttl=7", 7.0),
        (300, "&max_ttl=20", 20.0),
    ):
        name = f"{service}{ttl}{expected:.0f}"
        system.knot.set(name, f"@ {ttl} A 10.0.0.1")
        monkeypatch.setattr("kitmsg.discovery.dns.asyncio.sleep", noted)
        watching = await watch(address.replace(service, name) + options)
        await watching.until({"10.0.0.1:8080"})
        while not waits:
            await sleep(0.01)
        monkeypatch.undo()
        await watching.instancer.close()
        assert set(waits) == {expected}
        waits.clear()


# -- Consul


@on("consul")
async def test_tags_passing_and_the_node_s_address(
    system: Consul, watch: Watch, service: str
) -> None:
    def register(id_: str, port: int, **more: Any) -> None:
        body = {"ID": id_, "Name": service, "Port": port, **more}
        system.ask("PUT", "/v1/agent/service/register", body)

    failing = {"TTL": "1h", "Status": "critical"}
    await asyncio.to_thread(register, "a", 1, Tags=["v2", "eu"], Address="10.0.0.1")
    await asyncio.to_thread(register, "b", 2, Tags=["v2"])
    await asyncio.to_thread(register, "c", 3, Tags=["v2"], Check=failing)
    await asyncio.to_thread(register, "portless", 0, Tags=["v2"])
    address = system.address(service)
    await (await watch(address)).until({"10.0.0.1:1", "127.0.0.1:2"})
    await (await watch(f"{address}&tag=v2&tag=eu")).until({"10.0.0.1:1"})
    everybody = {"10.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
    watching = await watch(f"{address}&passing=false&dc=dc1")
    await watching.until(everybody)
    assert {each.zone for each in watching.told[-1]} == {"dc1"}
    assert "No path to datacenter" in await lost(watch, f"{address}&dc=nowhere")


async def test_consul_s_token_decides_what_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rules = 'default_policy = "deny" tokens { initial_management = "root-token" }'
    consul = await asyncio.to_thread(
        OpenedConsul, "-hcl", f"acl {{ enabled = true {rules} }}"
    )
    try:
        address = consul.address("consul")
        assert "HTTP 403" in await lost_alone(f"{address}&token=hush")
        watching = Watching(instancer(f"{address}&token=root-token"))
        await watching.instancer.settled()
        assert watching.instancer.state.error is None
        await watching.instancer.close()
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", "root-token")
        watching = Watching(instancer(address))
        assert (await watching.instancer.settled()).error is None
        await watching.instancer.close()
    finally:
        consul.program.kill()


class OpenedConsul(Consul):
    """Consul whose catalogue is not ours to read: a leader is enough."""

    def _has_leader(self) -> bool:
        return bool(self.ask("GET", "/v1/status/leader"))


async def lost_alone(address: str) -> str:
    watching = Watching(instancer(address))
    await watching.until_lost()
    error = str(watching.instancer.state.error)
    await watching.instancer.close()
    return error


# -- etcd


@on("etcd")
async def test_a_compacted_watch_begins_anew_without_trouble(
    system: Etcd, watch: Watch, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = await system.put(service, 2)
    status = await system.run("get", "x", "-w", "json")
    revision = status.partition('"revision":')[2].partition(",")[0]
    await system.run("compact", revision)
    real = etcd_module._Etcd.range
    old: list[int] = [1]

    async def ranged(self: Any, prefix: str) -> tuple[dict[str, bytes], int]:
        entries, now = await real(self, prefix)
        return entries, old.pop() if old else now

    monkeypatch.setattr(etcd_module._Etcd, "range", ranged)
    watching = await watch(system.address(service))
    await watching.until(two)
    await watching.until(await system.put(service, 3))
    assert not old
    assert watching.instancer.state.error is None
    assert len(watching.told) == 2


@on("etcd")
async def test_keys_of_others_are_read_and_nonsense_is_left_out(
    system: Etcd, watch: Watch, service: str, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = f"/services/{service}/"
    await system.run("put", prefix + "go-kit", "10.0.0.1:1")
    curator = '{"address": "10.0.0.2", "port": 2, "name": "x", "sslPort": null}'
    await system.run("put", prefix + "curator", curator)
    await system.run("put", prefix + "nonsense", "{]")
    await system.run("put", prefix + "worse", '{"address": "no port"}')
    await system.run("put", f"/services/{service}2/other", "10.0.0.3:3")
    watching = await watch(system.address(service))
    await watching.until({"10.0.0.1:1", "10.0.0.2:2"})
    await system.run("put", prefix + "third", "10.0.0.4:4")
    await watching.until({"10.0.0.1:1", "10.0.0.2:2", "10.0.0.4:4"})
    assert caplog.text.count(f"{prefix}nonsense is left out") == 1


@on("etcd")
async def test_a_prefix_of_one_s_own_may_lack_the_slash(
    system: Etcd, watch: Watch, service: str
) -> None:
    await system.run("put", f"{service}/a", "10.0.0.1:1")
    await (await watch(f"{system.address('x')}&prefix={service}/")).until(
        {"10.0.0.1:1"}
    )


async def test_etcd_is_spoken_to_over_tls_as_a_user(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    cert = ca.issue_cert("127.0.0.1")
    cert.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    cert.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    files = (f"--cert-file={tmp_path}/cert.pem", f"--key-file={tmp_path}/key.pem")
    etcd = await asyncio.to_thread(
        lambda: Etcd(*files, scheme="https", client=(f"--cacert={ca_file}",))
    )
    try:
        await etcd.run("user", "add", "root:s3cret")
        await etcd.run("user", "grant-role", "root", "root")
        await etcd.run("put", "/services/pay/a", "10.0.0.1:1")
        await etcd.run("auth", "enable")
        where = f"127.0.0.1:{etcd.port}/services/pay/"
        address = f"etcd://root:s3cret@{where}?ca={ca_file}&interval=0.3"
        watching = Watching(instancer(address))
        await watching.until({"10.0.0.1:1"})
        kept = registrar(
            f"etcd://root:s3cret@{where}?ca={ca_file}", Instance(address="a:1")
        )
        await kept.start()
        await watching.until({"10.0.0.1:1", "a:1"})
        await kept.stop()
        await watching.until({"10.0.0.1:1"})
        await watching.instancer.close()
        error = await lost_alone(f"etcd://root:wrong@{where}?ca={ca_file}")
        assert "authentication failed" in error
        assert "wrong" not in error
        assert "certificate" in await lost_alone(f"etcd://{where}?tls=true")
    finally:
        etcd.program.kill()


async def test_an_expired_certificate_is_an_error(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    cert = ca.issue_cert("127.0.0.1", not_after=yesterday)
    cert.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    cert.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    files = (f"--cert-file={tmp_path}/cert.pem", f"--key-file={tmp_path}/key.pem")
    etcd = await asyncio.to_thread(lambda: Etcd(*files, scheme="https"))
    try:
        error = await lost_alone(f"etcd://127.0.0.1:{etcd.port}/pay/?ca={ca_file}")
        assert "certificate has expired" in error
    finally:
        etcd.program.kill()


# -- ZooKeeper


@on("zk")
async def test_nodes_of_a_user_are_read_by_that_user_only(
    system: ZooKeeper, watch: Watch, service: str
) -> None:
    def as_user(address: str) -> str:
        alone = address.replace("/services/", "/of-users/")
        return alone.replace("zk://", "zk://ann:s3cret@")

    kept = registrar(as_user(system.registration(service)), Instance(address="a:1"))
    await kept.start()
    await kept.announced()
    await (await watch(as_user(system.address(service)))).until({"a:1"})
    stranger = as_user(system.address(service)).replace("ann:s3cret@", "")
    assert "access refused" in await lost(watch, stranger)
    other = registrar(stranger_of(system, service), Instance(address="b:1"))
    await other.start()
    async with asyncio.timeout(20):
        await other.announced()  # what is above is everybody's
    await other.stop()
    await kept.stop()


def stranger_of(system: ZooKeeper, service: str) -> str:
    """Return an address beside the one of the user."""
    return system.registration(f"{service}b").replace("/services/", "/of-users/")


@on("zk")
async def test_the_parent_node_stays_when_the_last_entry_leaves(
    system: ZooKeeper, service: str
) -> None:
    kept = registrar(system.registration(service), Instance(address="a:1"))
    await kept.start()
    await kept.announced()
    await kept.stop()
    client = await asyncio.to_thread(system.client)
    left = await asyncio.to_thread(client.get_children, f"/services/{service}")
    await asyncio.to_thread(client.stop)
    client.close()
    assert left == []


# -- Eureka


@on("eureka")
async def test_only_instances_that_are_up_count(
    system: Eureka, watch: Watch, service: str
) -> None:
    two = await system.put(service, 2)
    watching = await watch(system.address(service))
    await watching.until(two)
    gone = min(two)
    path = f"/apps/{service.upper()}/{gone}/status?value=OUT_OF_SERVICE"
    await asyncio.to_thread(system.ask, "PUT", path)
    await watching.until(two - {gone})
