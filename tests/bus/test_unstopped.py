"""What must not stop the reader of a NatsBus, and what may use its connection beside it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kitmsg.bus import natspy
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import (
    InvalidArgument,
)
from tests.bus.links import Changes, address, echo

if TYPE_CHECKING:
    from kitmsg.message import Message


async def raw(server: EmbeddedServer, commands: bytes) -> None:
    """Send `commands` as a client of our own making, and wait for the PONG."""
    reader, writer = await asyncio.open_connection(*address(server).split(":"))
    writer.write(b'CONNECT {"verbose":false,"headers":true}\r\n')
    writer.write(commands + b"PING\r\n")
    await reader.readuntil(b"PONG\r\n")
    writer.close()
    await writer.wait_closed()


async def test_a_subject_that_is_not_utf8_stops_nobody(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """Such a message is dropped and counted, also for nats-py's subscriptions."""
    seen: list[str] = []
    bus.subscribe("raw.>", lambda m: seen.append(m.subject))
    foreign = await bus.client.subscribe("raw.>")
    await bus.flush()
    changes = Changes(bus)
    await raw(server, b"PUB raw.\xff\xfe 1\r\nx\r\nPUB raw.a \xff 1\r\nx\r\n")
    await raw(server, b"PUB raw.good 1\r\nx\r\n")
    await bus.flush()
    assert seen == ["raw.good"]
    assert (await foreign.next_msg()).subject == "raw.good"
    assert bus.stats.bad_subjects == 4
    assert changes.seen == []


async def test_broken_headers_are_the_handlers_business(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """The header block is handed over as it came; looking at it may fail."""
    seen: list[Message] = []
    bus.subscribe("raw", seen.append)
    await bus.flush()
    await raw(server, b"HPUB raw 15 16\r\nNATS/1.0\r\n\xff\r\n\r\nx\r\n")
    await bus.flush()
    assert len(seen) == 1
    with pytest.raises(InvalidArgument):
        _ = seen[0].headers


async def test_a_slow_foreign_consumer_stops_nobody(
    bus: NatsBus, caplog: pytest.LogCaptureFixture
) -> None:
    """nats-py reports each message it drops; that is logged once and costs nothing."""
    bus.subscribe("echo", echo(bus), "q")
    await bus.client.subscribe("flood", pending_msgs_limit=1)
    await bus.flush()
    for _ in range(50):
        bus.publish("flood", b"")
    assert (await bus.request("echo", b"x", 5)).data == b"x"
    assert caplog.text.count("slow consumer on 'flood'") == 1


async def test_a_protocol_error_leads_to_a_new_connection(bus: NatsBus) -> None:
    """nats-py would close for good; here the next connection works."""
    bus.subscribe("echo", echo(bus), "q")
    changes = Changes(bus)
    bus._connection.send(b"NONSENSE\r\n")
    await changes.until(False, True)
    assert (await bus.request("echo", b"x", 5)).data == b"x"


async def test_an_error_that_ends_nothing_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Connecting again would not help against a limit, so the link stays."""
    with EmbeddedServer(jetstream=False, config="max_subscriptions: 3") as server:
        bus = await NatsBus.connect(server.url)
        changes = Changes(bus)
        bus.subscribe("echo", echo(bus), "q")
        for i in range(5):
            bus.subscribe(f"more.{i}", lambda _: None)
        assert (await bus.request("echo", b"x", 5)).data == b"x"
        assert changes.seen == []
        assert caplog.text.count("maximum subscriptions exceeded") == 1
        await bus.close()


async def test_jetstream_works_beside_it(nats_bus: NatsBus) -> None:
    """The client underneath serves JetStream, push and pull, on the same link."""
    js = nats_bus.client.jetstream()
    await js.add_stream(name="BESIDE", subjects=["beside.*"])
    pushed = await js.subscribe("beside.a")
    for i in range(10):
        await js.publish("beside.a", b"%d" % i, headers={"N": str(i)})
    pull = await js.pull_subscribe("beside.*", durable="pull")
    pulled = await pull.fetch(10)
    assert [m.data for m in pulled] == [b"%d" % i for i in range(10)]
    first = await pushed.next_msg()
    assert first.headers == {"N": "0"}
    await js.delete_stream("BESIDE")


async def test_nats_py_does_not_replay_either(
    server: EmbeddedServer, bus: NatsBus
) -> None:
    """What is published through the client while down is refused, not kept."""
    seen: list[bytes] = []
    bus.subscribe("it", lambda m: seen.append(m.data))
    changes = Changes(bus)
    server.kill()
    await changes.until(False)
    with pytest.raises(Exception, match="outbound buffer limit"):
        await bus.client.publish("it", b"down")
    server.restart()
    await changes.until(False, True)
    await bus.client.publish("it", b"up")
    await bus.client.flush()
    assert seen == [b"up"]


async def test_an_untried_nats_py_is_read_by_its_own_reader(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, and everything works."""
    monkeypatch.setattr(natspy, "VERSION", "2.99.0")
    with pytest.warns(RuntimeWarning, match=r"nats-py 2\.99\.0 was not tried"):
        bus = await NatsBus.connect(server.url)
    bus.subscribe("it", lambda message: bus.respond(message, b"yes"))
    assert (await bus.request("it", b"", 5)).data == b"yes"
    assert not bus._connection.is_fast
    await bus.close()
