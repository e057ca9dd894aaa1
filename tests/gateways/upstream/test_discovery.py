"""Upstreams whose servers are found in a system of discovery: every protocol, real DNS."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.discovery.address import instancer as discovered
from kitmsg.discovery.fixed import FixedInstancer
from kitmsg.discovery.instance import Instance
from kitmsg.errors import Unavailable
from kitmsg_gateways import grpc, http, thrift
from kitmsg_gateways.grpc.upstream import Upstream as GrpcUpstream
from kitmsg_gateways.http.upstream import Upstream as HttpUpstream
from kitmsg_gateways.thrift.upstream import Upstream as ThriftUpstream
from kitmsg_gateways.upstream.instancer import instancer
from tests.discovery.systems.knot import Knot

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {
    "http": (http, HttpUpstream),
    "grpc": (grpc, GrpcUpstream),
    "thrift": (thrift, ThriftUpstream),
}


class Sums(Service):
    """Adds."""

    @endpoint
    async def add(self, a: int, b: int) -> int:
        """Return the sum."""
        return a + b


@pytest.fixture(scope="module")
def knot() -> Iterator[Knot]:
    server = Knot()
    yield server
    server.program.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_upstream_calls_what_dns_names(kind: str, knot: Knot) -> None:
    module: Any
    made: Any
    module, made = KINDS[kind]
    async with Kit(MemoryBus()) as kit:
        await kit.serve(Sums)
        options = module.GatewayOptions(host="127.0.0.1", port=0)
        gateway = await module.serve(kit, options)
        port = urlsplit(
            gateway.url if "://" in gateway.url else f"//{gateway.url}"
        ).port
        await asyncio.to_thread(knot.set, kind, f"@ 1 SRV 1 1 {port} here.x.test.")
        await asyncio.to_thread(knot.set, "here", "@ 1 A 127.0.0.1")
        address = f"srv://{kind}.x.test?resolver=127.0.0.1:{knot.port}"
        upstream = made(address, Sums)
        try:
            assert await upstream.client(Sums).add(2, 3) == 5
            await upstream.close()
            assert await upstream.client(Sums).add(3, 4) == 7  # opened again
        finally:
            await upstream.close()
            await gateway.stop()
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("watch ")]


async def test_a_name_that_nobody_has_is_unavailable_without_its_system(
    knot: Knot,
) -> None:
    address = f"srv://nope.x.test?resolver=127.0.0.1:{knot.port}"
    upstream = HttpUpstream(address, Sums)
    with pytest.raises(Unavailable) as failed:
        await upstream.client(Sums).add(1, 2)
    assert "x.test" not in str(failed.value)
    assert "there is no name nope.x.test" in str(failed.value.__cause__)
    await upstream.close()


def test_metadata_says_the_scheme_and_the_path() -> None:
    found = FixedInstancer(
        [
            Instance(address="a:1"),
            Instance(address="b:1", metadata={"scheme": "https", "path": "/v1"}),
            Instance(address="https://c/v2"),
        ]
    )
    check = HttpUpstream.check_address
    made = instancer(found, check, HttpUpstream.EXAMPLE)
    urls = [each.address for each in made.state.instances]
    assert urls == ["http://a:1", "https://b:1/v1", "https://c/v2"]


def test_what_is_no_address_of_the_protocol_is_left_out_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = FixedInstancer([Instance(address="a:1"), Instance(address="an-id")])
    check = GrpcUpstream.check_address
    made = instancer(found, check, GrpcUpstream.EXAMPLE)
    assert [each.address for each in made.state.instances] == ["a:1"]
    assert made.state.instances[0].address == "a:1"
    assert caplog.text.count("an-id is left out") == 1


async def test_an_instancer_that_was_given_is_its_giver_s_to_close() -> None:
    given = discovered("a:1")
    made = instancer(given, str, "a:1")
    told: list[Any] = []
    made.watch(told.append)
    await made.close()
    assert given.state.instances == told[0]
