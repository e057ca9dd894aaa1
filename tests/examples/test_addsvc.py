"""addsvc through each of its doors, byte for byte as Go kit's clients and servers have it."""

from __future__ import annotations

import asyncio
import importlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
import kitmsg_gateways.http
from examples.addsvc.__main__ import open_doors
from examples.addsvc.gokit import make_service
from tests import peers
from tests.require import miss

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus.embedded import EmbeddedServer

HERE = Path(__file__).parent
IDL = HERE.parents[1] / "examples" / "addsvc" / "addsvc.thrift"


class Doors:
    """The service on a real bus, and its gateways by protocol."""

    def __init__(self, kit: kitmsg.Kit, servers: dict[str, Any], nats_url: str) -> None:
        self.kit = kit
        self.servers = servers
        self.nats_url = nats_url

    async def raw(self, door: str, data: bytes, size: int = -1) -> bytes:
        """Send bytes on a connection of its own; return what comes, `size` bytes or all."""
        port = self.servers[door].port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            async with asyncio.timeout(10):
                return await (reader.read() if size < 0 else reader.readexactly(size))
        finally:
            writer.close()

    async def post(
        self, path: str, body: bytes, head: bytes = b""
    ) -> tuple[bytes, bytes]:
        """Post as Go kit's HTTP client does: chunked, no Content-Type."""
        got = await self.raw(
            "http",
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Go-http-client/1.1\r\n%b"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
            % (path.encode(), head, len(body), body),
        )
        before, _, after = got.partition(b"\r\n\r\n")
        return before, after


@pytest.fixture
async def doors(nats_server: EmbeddedServer) -> AsyncIterator[Doors]:
    """All doors of addsvc, on free ports."""
    for module in ("grpc", "thriftpy2"):
        try:
            __import__(module)
        except ImportError:
            miss(f"{module} is not installed: pip install 'kitmsg[grpc,thrift]'")
    async with kitmsg.connect(nats_server.url) as kit:
        await kit.serve(make_service())
        servers = await open_doors(kit)
        yield Doors(kit, servers, nats_server.url)
        for server in servers.values():
            await server.stop()


async def test_http_is_go_kits(doors: Doors) -> None:
    """Keys in any case; a result under v; a refusal is a 400 with its text under error."""
    for body in (b'{"A":1,"B":2}\n', b'{"a":1,"b":2}', b'{"a":1,"B":2,"c":null}'):
        head, got = await doors.post("/sum", body)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Content-Type: application/json; charset=utf-8\r\n" in head
        assert got == b'{"v":3}\n'
    head, got = await doors.post("/concat", b'{"A":"a","B":"b"}\n')
    assert got == b'{"v":"ab"}\n'
    head, got = await doors.post("/concat", b"{}")
    assert got == b'{"v":""}\n'
    for path, body, text in (
        ("/sum", b'{"A":0,"B":0}\n', b"can't sum two zeroes"),
        ("/sum", b"{}", b"can't sum two zeroes"),
        ("/sum", b'{"A":2147483647,"B":1}\n', b"integer overflow"),
        ("/concat", b'{"A":"kilo","B":"byte per"}\n', b"result exceeds maximum size"),
    ):
        head, got = await doors.post(path, body)
        assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert got == b'{"error":"%b"}\n' % text


async def test_http_takes_what_curl_sends(doors: Doors) -> None:
    """``curl -d`` calls JSON a form; Go's servers do not mind, and neither does this."""
    form = b"Content-Type: application/x-www-form-urlencoded\r\n"
    _, got = await doors.post("/sum", b'{"a":1,"b":2}', form)
    assert got == b'{"v":3}\n'


async def test_jsonrpc_is_go_kits(doors: Doors) -> None:
    """Bare method names, ids as they came; a refusal is an error, not an empty success."""
    head, got = await doors.post(
        "/rpc", b'{"jsonrpc":"2.0","method":"sum","params":{"A":1,"B":2},"id":0}'
    )
    assert b"Content-Type: application/json; charset=utf-8\r\n" in head
    assert got == b'{"jsonrpc":"2.0","result":{"v":3},"id":0}\n'
    _, got = await doors.post(
        "/rpc",
        b'{"jsonrpc":"2.0","method":"concat","params":{"A":"a","B":"b"},"id":"x"}',
    )
    assert got == b'{"jsonrpc":"2.0","result":{"v":"ab"},"id":"x"}\n'
    head, got = await doors.post(
        "/rpc", b'{"jsonrpc":"2.0","method":"sum","params":{},"id":1}'
    )
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"error":{"code":-32602,"message":"can\'t sum two zeroes"' in got


async def test_grpc_is_go_kits(doors: Doors) -> None:
    """The bytes of pb.Add's messages; a refusal is in the reply's err, with status OK."""
    import grpc.aio

    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{doors.servers['grpc'].port}"
    ) as channel:
        sum_ = channel.unary_unary("/pb.Add/Sum")
        concat = channel.unary_unary("/pb.Add/Concat")
        assert await sum_(b"\x08\x01\x10\x02") == b"\x08\x03"
        assert await sum_(b"") == b"\x12\x14can't sum two zeroes"
        assert (
            await sum_(b"\x08\xff\xff\xff\xff\x07\x10\x01")
            == b"\x12\x10integer overflow"
        )
        assert await concat(b"\x0a\x01a\x12\x01b") == b"\x0a\x02ab"
        much = b"\x0a\x04kilo\x12\x08byte per"
        assert await concat(much) == b"\x12\x1bresult exceeds maximum size"


def _thrift(kind: int, name: bytes, body: bytes) -> bytes:
    """Return a message of the strict binary protocol, unframed."""
    head = struct.pack(">HHi", 0x8001, kind, len(name)) + name
    return head + struct.pack(">i", 7) + body


def _reply(type_: int, value: bytes, err: bytes) -> bytes:
    """Return the body of a reply: field 0, a struct of value and err."""
    fields = struct.pack(">bh", type_, 1) + value
    text = struct.pack(">bhi", 11, 2, len(err)) + err
    return struct.pack(">bh", 12, 0) + fields + text + b"\x00\x00"


async def test_thrift_is_go_kits(doors: Doors) -> None:
    """Binary, unframed; a refusal is in the reply's err, beside the zero value."""
    args = struct.pack(">bhq", 10, 1, 1) + struct.pack(">bhq", 10, 2, 2) + b"\x00"
    want = _thrift(2, b"Sum", _reply(10, struct.pack(">q", 3), b""))
    assert await doors.raw("thrift", _thrift(1, b"Sum", args), len(want)) == want
    args = struct.pack(">bhq", 10, 1, 0) + struct.pack(">bhq", 10, 2, 0) + b"\x00"
    want = _thrift(2, b"Sum", _reply(10, struct.pack(">q", 0), b"can't sum two zeroes"))
    assert await doors.raw("thrift", _thrift(1, b"Sum", args), len(want)) == want


async def test_nats_is_go_kits(doors: Doors) -> None:
    """Bare JSON without headers, both ways."""
    for body, want in (
        (b'{"A":1,"B":2}', b'{"v":3}'),
        (b'{"a":0}', b'{"err":"can\'t sum two zeroes"}'),
    ):
        got = await doors.kit.bus.request("addsvc.sum", body, 5.0)
        assert (got.data, got.header_block) == (want, b"")
    got = await doors.kit.bus.request("addsvc.concat", b'{"A":"a","B":"b"}', 5.0)
    assert got.data == b'{"v":"ab"}'


async def test_subjects_may_be_others(memory_bus: Any) -> None:
    """Where Go kit's own service listens is for whoever deployed it to say."""
    async with kitmsg.connect(bus=memory_bus) as kit:
        await kit.serve(make_service("math.add", "text.join"))
        got = await memory_bus.request("math.add", b'{"A":1,"B":2}', 5.0)
        assert got.data == b'{"v":3}'
        server = await kitmsg_gateways.http.serve(kit, port=0)
        await server.stop()


async def test_what_goes_out_of_a_door_comes_back_in(doors: Doors) -> None:
    """Each protocol's upstream calls that protocol's gateway, as one calls Go kit's own."""
    spec = f"{doors.servers['http'].url}/openapi.json"
    for kind, flags, name, result in (
        ("http", {"openapi": spec}, "addsvc_sum", {"v": 3}),
        (
            "grpc",
            {"proto": (str(IDL.with_suffix(".proto")),)},
            "sum",
            {"v": 3, "err": ""},
        ),
        ("thrift", {"thrift": str(IDL)}, "sum", 3),
    ):
        module = importlib.import_module(f"kitmsg_gateways.{kind}.upstream")
        address = doors.servers[kind].url
        if kind != "http":
            address = address.partition("://")[2]
        options = module.UpstreamOptions(**flags)
        upstream = await module.open_upstream(f"far_{kind}", [address], options)
        async with upstream:
            await doors.kit.serve(upstream)
            assert await doors.kit.call(f"far_{kind}.{name}", a=1, b=2) == result


async def test_one_command_opens_all_doors(nats_server: EmbeddedServer) -> None:
    """It says where they are, and ends at SIGTERM."""
    words = [
        "--http",
        "0",
        "--grpc",
        "0",
        "--thrift",
        "0",
        "--nats-url",
        nats_server.url,
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "examples.addsvc", *words),
        cwd=HERE.parents[1],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        lines = [await process.stdout.readline() for _ in range(4)]
        process.terminate()
        assert await process.wait() == 0
    assert [line.split()[0] for line in lines] == [b"http", b"grpc", b"thrift", b"nats"]


@pytest.fixture(scope="session")
def gokit() -> str:
    """A program that calls addsvc with Go kit's own clients."""
    return peers.path("gokit-addcli")


async def test_go_kits_own_clients_cannot_tell(gokit: str, doors: Doors) -> None:
    """Five protocols, the same answers; each carries a refusal in its own way."""
    servers = doors.servers
    ports = [f"127.0.0.1:{servers[name].port}" for name in ("grpc", "thrift")]
    ran = await asyncio.to_thread(
        subprocess.run,
        [gokit, servers["http"].url, *ports, doors.nats_url],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (
        ran.stdout.splitlines()
        == (HERE / "gokit" / "expected.txt").read_text().splitlines()
    ), ran.stderr
