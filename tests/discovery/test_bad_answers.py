"""Garbage, half answers, refusals and floods from every system: trouble, and nothing worse."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.discovery.address import instancer
from kitmsg.discovery.backoff import Backoff
from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar
from kitmsg.errors import Unavailable
from tests.bus.proxy import Proxy
from tests.discovery.watching import Watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.discovery.systems import Registry

    Watch = Callable[[str], Awaitable[Watching]]

FLOOD = 10 << 20


def http(status: str, body: bytes, *more: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length or len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


HTTP = {
    "garbage": b"\x00\xff\xfe garbage \r\n\r\n" * 40,
    "half": http("200 OK", b'[{"No', length=400),
    "no JSON": http("200 OK", b"<html>", "X-Consul-Index: 9"),
    "other JSON": http("200 OK", b'{"surprise": 1}', "X-Consul-Index: 9"),
    "null": http("200 OK", b"null", "X-Consul-Index: 9"),
    "refusal": http("403 Forbidden", b"token hush is not good"),
    "fault": http("500 Internal Server Error", b"\x1b[31mno leader\x00"),
    "elsewhere": http("307 Temporary Redirect", b"", "Location: http://127.0.0.1:1/"),
    "flood": http("200 OK", b"[" * FLOOD, "X-Consul-Index: 9"),
}
ZOOKEEPER = {
    "garbage": b"\x00\xff\xfe garbage \r\n\r\n" * 40,
    "half": struct.pack(">i", 400) + b"half",
    "negative": struct.pack(">i", -5) + b"\x00" * 100,
    "nonsense": struct.pack(">i", 16) + b"\xff" * 16,
    "flood": struct.pack(">i", FLOOD) + b"\x00" * FLOOD,
}
CASES = [
    *((system, case) for system in ("consul", "etcd", "eureka") for case in HTTP),
    *(("zk", case) for case in ZOOKEEPER),
]


class Liar(Proxy):
    """A proxy that may answer everything with other bytes than the server's."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.lie: bytes | None = None

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sink):
            while data := await source.read(64 << 10):
                if self.lie is not None and not is_up:
                    sink.write(self.lie)
                    await sink.drain()
                    return
                sink.write(data)
                await sink.drain()


@pytest.mark.parametrize(
    ("system_name", "case"),
    CASES,
    indirect=["system_name"],
    ids=lambda each: str(each).replace(" ", "-"),
)
async def test_a_lie_is_an_error_and_the_last_good_set_stays(
    system: Registry,
    watch: Watch,
    service: str,
    case: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    two = await system.put(service, 2)
    lies = ZOOKEEPER if system.address("").startswith("zk") else HTTP
    async with Liar(system.port) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        watching = await watch(system.address(service, port))
        await watching.until(two)
        proxy.lie = lies[case]
        await system.put(service, 3)  # so that something is answered
        await watching.until_lost()
        assert watching.addresses == two
        error = watching.instancer.state.error
        assert isinstance(error, Unavailable)
        text = str(error)
        assert text.isprintable()
        assert len(text) < 600
        proxy.lie = None
        await watching.until_found()
        await watching.instancer.close()
    assert "Traceback" not in caplog.text


@pytest.fixture
async def resolver() -> AsyncIterator[Callable[[bytes], Awaitable[int]]]:
    """A DNS server that answers everything with the same bytes after the query's id."""
    made: list[asyncio.DatagramTransport] = []

    class Same(asyncio.DatagramProtocol):
        def __init__(self, answer: bytes) -> None:
            self.answer = answer

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data[:2] + self.answer, addr)

    async def start(answer: bytes) -> int:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Same(answer), local_addr=("127.0.0.1", 0)
        )
        made.append(transport)
        return int(transport.get_extra_info("sockname")[1])

    yield start
    for transport in made:
        transport.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff" * 200, b"\x81\x80" + b"\x00\x05" * 4, b"\x81\x82" + b"\x00" * 8],
    ids=["nothing", "garbage", "half", "servfail"],
)
@pytest.mark.parametrize("scheme", ["dns://a.x.test:1", "srv://_a._tcp.x.test"])
async def test_bad_datagrams_are_errors(
    resolver: Callable[[bytes], Awaitable[int]], scheme: str, answer: bytes
) -> None:
    port = await resolver(answer)
    made = instancer(f"{scheme}?resolver=127.0.0.1:{port}&timeout=0.3")
    watching = Watching(made)
    state = await made.settled()
    assert isinstance(state.error, Unavailable)
    assert watching.told == []
    await made.close()


SECRETIVE = [
    "consul://127.0.0.1:{port}/pay?token=hush&timeout=0.5",
    "etcd://ann:hush@127.0.0.1:{port}/pay?timeout=0.5",
    "eureka://ann:hush@127.0.0.1:{port}/eureka/PAY?timeout=0.5",
]


@pytest.fixture
async def refusing() -> AsyncIterator[int]:
    """Port of a server that refuses everything, and repeats the token."""

    async def refuse(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HTTP["refusal"])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize("address", SECRETIVE)
async def test_a_secret_that_a_server_repeats_is_not_shown(
    address: str, refusing: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = instancer(address.format(port=refusing))
    made._backoff = Backoff(cap=1.0)  # type: ignore[attr-defined]
    made.watch(lambda _: None)
    error = (await made.settled()).error
    assert "access refused: HTTP 403, token *** is not good" in str(error)
    assert "hush" not in caplog.text + str(error) + made.name
    await made.close()


@pytest.mark.parametrize("address", SECRETIVE)
async def test_a_registrar_shows_no_secret_either(
    address: str, refusing: int, caplog: pytest.LogCaptureFixture
) -> None:
    kept = registrar(address.format(port=refusing), Instance(address="a:1"))
    await kept.start()
    async with asyncio.timeout(10):
        while "HTTP 403" not in caplog.text:
            await asyncio.sleep(0.01)
    await kept.stop()
    assert "hush" not in caplog.text
