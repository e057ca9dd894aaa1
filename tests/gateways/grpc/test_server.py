"""The server: services that come and go, start and stop, TLS, what strangers send."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
import trustme

import kitmsg
import kitmsg_gateways.grpc
from kitmsg import Service, endpoint
from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg_gateways.grpc import GatewayOptions
from tests.gateways.grpc.services import Shop, Streams

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.gateways.grpc.conftest import Outside

PRICE = "shop.Shop/Price"


async def test_services_come_and_go_without_a_restart(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """A service is callable once it is there; one that left is UNAVAILABLE."""
    outside: Outside = await start(hub)
    call = outside.channel.unary_unary(f"/{PRICE}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\x0a\x03tea")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    host = await hub.serve(Shop())
    await until(lambda: outside.server.table.methods)
    assert (await outside(PRICE, name="tea")).value == 2.5
    await host.drain(0)
    await until(lambda: not outside.server.table.methods)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\x0a\x03tea")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "'shop' has just left" in str(caught.value.details())


async def test_an_unknown_method_of_a_known_service_names_the_others(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """The message says what the service has."""
    await hub.serve(Streams())
    outside: Outside = await start(hub)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await outside.channel.unary_unary("/streams.Streams/Sum")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "has Count, Forever, Scaled, Total" in str(caught.value.details())


async def test_two_services_of_one_package_are_told_apart(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """The second one is refused with a sentence; the first is served."""

    class First(Service):
        name = "a-b"

        @endpoint
        async def go(self) -> int:
            return 1

    class Second(Service):
        name = "a_b"

        @endpoint
        async def go(self) -> int:
            return 2

    await hub.serve(First())
    await hub.serve(Second())
    outside: Outside = await start(hub)
    assert "rename one" in outside.server.table.refused[0]
    (path,) = outside.server.table.methods
    assert (await outside(path[1:])).value == 1


async def test_a_stop_finishes_what_is_in_flight(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A call that has begun is answered while the gateway stops."""

    class Slow(Service):
        def __init__(self) -> None:
            self.begun = asyncio.Event()
            self.go = asyncio.Event()

        @endpoint
        async def work(self) -> str:
            self.begun.set()
            await self.go.wait()
            return "done"

    slow = Slow()
    await hub.serve(slow)
    outside: Outside = await start(hub, drain_timeout=10)
    call = asyncio.create_task(outside("slow.Slow/Work"))
    await slow.begun.wait()
    stopping = asyncio.create_task(outside.server.stop())
    await asyncio.sleep(0)
    slow.go.set()
    assert (await call).value == "done"
    await stopping


async def test_a_stop_cancels_what_does_not_finish(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """After the drain the rest is cancelled, and so are the services' turns."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub, drain_timeout=0.1)
    call = asyncio.create_task(outside.failure("shop.Shop/Wait"))
    await shop.started.wait()
    await outside.server.stop()
    assert (await call).code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
    )
    await until(lambda: shop.ended == ["wait"])


async def test_a_taken_port_is_an_os_error(
    hub: kitmsg.Kit, start: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """The address of another gateway cannot be had, and errno alone says why."""
    outside: Outside = await start(hub)
    for reuse in (False, True):
        options = GatewayOptions(port=outside.server.port, reuse_port=reuse)
        with pytest.raises(OSError, match="in use") as caught:
            await kitmsg_gateways.grpc.serve(hub, options)
        assert caught.value.errno == errno.EADDRINUSE
    nowhere = GatewayOptions(host="203.0.113.1", port=0)
    with pytest.raises(OSError, match="annot assign") as caught:
        await kitmsg_gateways.grpc.serve(hub, nowhere)
    assert caught.value.errno == errno.EADDRNOTAVAIL
    assert capfd.readouterr().err == ""


async def test_several_gateways_can_share_a_port(hub: kitmsg.Kit) -> None:
    """A socket that is bound keeps the port, and each gateway listens there."""
    await hub.serve(Shop())
    (kept,) = kitmsg_gateways.grpc.listen(GatewayOptions(port=0))
    with kept:
        port = kept.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            kitmsg_gateways.grpc.listen(GatewayOptions(port=port))
        servers = [
            await kitmsg_gateways.grpc.serve(hub, sockets=[kept.dup()])
            for _ in range(2)
        ]
        assert {server.port for server in servers} == {port}
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert await channel.unary_unary(f"/{PRICE}")(b"\x0a\x03tea")
        for server in servers:
            await server.stop()


async def test_an_access_log_has_a_line_for_each_call(
    hub: kitmsg.Kit, start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What, how it ended, who, how long."""
    await hub.serve(Shop())
    outside: Outside = await start(hub, access_log=True)
    with caplog.at_level(logging.INFO, "kitmsg_gateways.grpc.access"):
        await outside(PRICE, name="tea")
    (record,) = (r for r in caplog.records if r.name == "kitmsg_gateways.grpc.access")
    assert record.message == "shop.price ok"
    facts = vars(record)
    assert facts["client"] == "127.0.0.1"
    assert facts["ms"] >= 0


async def test_an_access_log_may_be_as_web_servers_write_it(
    hub: kitmsg.Kit, start: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Common Log Format, on standard output."""
    await hub.serve(Shop())
    outside: Outside = await start(hub, access_log="common")
    await outside(PRICE, name="tea")
    line = capsys.readouterr().out
    assert line.startswith("127.0.0.1 - - [")
    assert line.endswith('] "CALL /shop.price GRPC" 200 -\n')


async def test_what_is_missing_is_named_with_its_extra(
    hub: kitmsg.Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without grpcio, the error says what to install."""
    monkeypatch.setitem(sys.modules, "grpc_reflection", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'kitmsg\[grpc\]'"):
        await kitmsg_gateways.grpc.serve(hub)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"timeout": 0}, "timeout must be positive"),
        ({"metrics_port": 1, "workers": 2}, "metrics_port is for one process"),
        ({"compression": "zip"}, "compression must be one of"),
        ({"tls_key": "a"}, "tls_key needs tls_cert"),
        ({"tls_client_ca": "a"}, "needs tls_cert"),
        ({"map": ("a=b",)}, "map needs proto"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: Any, text: str) -> None:
    """Each with a sentence."""
    with pytest.raises(ValueError, match=text):
        GatewayOptions(**options)


@pytest.fixture
def pems(tmp_path: Path) -> tuple[trustme.CA, dict[str, str]]:
    """An authority, and the files of a server that it vouches for."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    _issue(authority, tmp_path)
    return authority, {
        "tls_cert": str(tmp_path / "cert.pem"),
        "tls_key": str(tmp_path / "key.pem"),
    }


def _issue(authority: trustme.CA, folder: Path) -> None:
    cert = authority.issue_cert("localhost", "127.0.0.1")
    folder.joinpath("key.pem").write_bytes(cert.private_key_pem.bytes())
    cert.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    folder.joinpath("cert.pem").write_bytes(
        b"".join(pem.bytes() for pem in cert.cert_chain_pems)
    )


async def test_tls_and_a_renewed_certificate(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    pems: tuple[trustme.CA, dict[str, str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Calls are encrypted, and a changed certificate is used by new connections."""
    caplog.set_level(logging.INFO)
    await hub.serve(Shop())
    authority, files = pems
    outside: Outside = await start(hub, **files, reload_interval=0.01)
    assert outside.server.url.startswith("grpcs://")

    async def call(roots: bytes) -> float:
        trust = grpc.ssl_channel_credentials(roots)
        async with grpc.aio.secure_channel(outside.server.address, trust) as channel:
            outside.channel = channel
            return float((await outside(PRICE, name="tea")).value)

    assert await call(authority.cert_pem.bytes()) == 2.5
    both: Outside = await start(hub, tls_cert=str(tmp_path / "both.pem"))
    assert both.server.url.startswith("grpcs://")
    other = trustme.CA()
    _issue(other, tmp_path)
    await until(lambda: "read again" in caplog.text)
    assert await call(other.cert_pem.bytes()) == 2.5
    caplog.clear()
    (tmp_path / "key.pem").write_bytes(b"broken")
    await until(lambda: "what was read before goes on" in caplog.text)
    assert await call(other.cert_pem.bytes()) == 2.5


async def test_mutual_tls_wants_a_certificate(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    pems: tuple[trustme.CA, dict[str, str]],
    tmp_path: Path,
) -> None:
    """A client without a certificate of the authority gets nowhere."""
    await hub.serve(Shop())
    authority, files = pems
    ca = str(tmp_path / "ca.pem")
    outside: Outside = await start(hub, **files, tls_client_ca=ca)
    roots = authority.cert_pem.bytes()
    client = authority.issue_cert("client")
    good = grpc.ssl_channel_credentials(
        roots, client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
    )
    async with grpc.aio.secure_channel(outside.server.address, good) as channel:
        outside.channel = channel
        assert (await outside(PRICE, name="tea")).value == 2.5
    bad = grpc.ssl_channel_credentials(roots)
    async with grpc.aio.secure_channel(outside.server.address, bad) as channel:
        outside.channel = channel
        failure = await outside.failure(PRICE, name="tea", with_={"timeout": 3})
        assert failure.code() is grpc.StatusCode.UNAVAILABLE


async def test_files_that_are_not_there_are_named(hub: kitmsg.Kit) -> None:
    """A missing certificate ends the start with its name."""
    options = GatewayOptions(port=0, tls_cert="/no/cert.pem", tls_key="/no/key.pem")
    with pytest.raises(InvalidArgument, match="/no/"):
        await kitmsg_gateways.grpc.serve(hub, options)


async def test_metrics_are_served_for_prometheus(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """The page has the calls by method and code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await hub.serve(Shop())
    outside: Outside = await start(hub, metrics_port=port)
    await outside(PRICE, name="tea")

    def read() -> str:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=5) as page:
            return str(page.read().decode())

    text = await asyncio.to_thread(read)
    labels = 'gateway="grpc",service="shop",endpoint="shop.price",code="ok"'
    assert f"kitmsg_gateway_duration_seconds_count{{{labels}}} 1" in text


async def test_half_of_a_message_is_refused(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Truncated protobuf is INVALID_ARGUMENT, and says what it should have been."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    call = outside.channel.unary_unary(f"/{PRICE}")
    for data in (b"\x0a", b"\x0a\xff", b"\xff" * 20, b"\x0a\x03te"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(data)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_megabyte_of_metadata_is_refused(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """It ends the call, not the gateway; what is a little too long as well."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    for size in (20_000, 1_000_000):
        metadata = (("x-big", "v" * size),)
        failure = await outside.failure(PRICE, name="tea", with_={"metadata": metadata})
        assert failure.code() in (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAVAILABLE,
        )
    assert (await outside(PRICE, name="tea")).value == 2.5


async def test_strangers_on_the_port_harm_nobody(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """HTTP/1.1, TLS, garbage and half a preface are closed; calls go on, nothing stays."""
    await hub.serve(Shop())
    outside: Outside = await start(hub, handshake_timeout=0.5)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    strange = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 10,
        preface[:10],
        preface + b"\xff" * 100,
        preface + b"\x00\xff\xff\xff\x01\x04\x00\x00\x00\x01",
        preface + bytes(9) + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    ]
    for data in strange:
        reader, writer = await asyncio.open_connection("127.0.0.1", outside.server.port)
        writer.write(data)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while await reader.read(4096):
                    pass
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        assert (await outside(PRICE, name="tea")).value == 2.5
    await until(lambda: outside.server.metrics.in_flight == 0)


async def test_clients_that_vanish_leave_nothing(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Channels closed in the midst of calls and streams end the work for them."""
    shop, streams = Shop(), Streams()
    await hub.serve(shop)
    await hub.serve(streams)
    outside: Outside = await start(hub)
    async with grpc.aio.insecure_channel(outside.server.address) as channel:
        for _ in range(20):
            outside.keep(channel.unary_unary("/shop.Shop/Wait")(b""))
            call = outside.keep(channel.unary_stream("/streams.Streams/Forever")(b""))
            await call.read()
        await until(lambda: outside.server.metrics.in_flight == 40)
    await until(lambda: outside.server.metrics.in_flight == 0)
    await until(lambda: len(shop.ended) == 20 and len(streams.ended) == 20)
