"""The gateway as its clients see it: thriftpy2's own client, and bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import ssl
import struct
from typing import Any

import pytest
import trustme
from thriftpy2.thrift import TApplicationException

import kitmsg_gateways.thrift
from examples.addsvc.service import AddService
from kitmsg import Service, endpoint
from kitmsg_gateways.thrift import GatewayOptions
from tests.gateways.stubborn import keeps_sending
from tests.gateways.thrift.services import Greeter, Slow

SPEECHES = [(p, f) for p in ("binary", "compact") for f in (False, True)]
WAIT = struct.pack(">Ii", 0x80010001, 4) + b"wait"


def call(name: bytes, seqid: int = 1, args: bytes = b"\0", kind: int = 1) -> bytes:
    """Return a message of the binary protocol."""
    head = struct.pack(">Ii", 0x80010000 | kind, len(name)) + name
    return head + struct.pack(">i", seqid) + args


def number(value: int, id_: int = 1) -> bytes:
    """Return an i64 field."""
    return struct.pack(">bhq", 10, id_, value)


def text(value: str, id_: int = 1) -> bytes:
    """Return a string field."""
    data = value.encode()
    return struct.pack(">bhi", 11, id_, len(data)) + data


@pytest.mark.parametrize(("protocol", "is_framed"), SPEECHES)
async def test_every_way_to_speak_is_understood(hub, start, protocol, is_framed):
    """Binary or compact, framed or not: the first bytes tell."""
    await hub.serve(Greeter())
    outside = await start(hub)
    client, _ = await outside.client("Greeter", protocol=protocol, is_framed=is_framed)
    assert await client.hello("Ann") == "Hello, Ann!"
    assert await client.hello("Bob") == "Hello, Bob!"


@pytest.mark.parametrize(("protocol", "is_framed"), SPEECHES)
async def test_a_declared_error_is_an_exception(hub, start, protocol, is_framed):
    """What an endpoint raises by declaration is thrown, with its fields and its text."""
    await hub.serve(Greeter())
    outside = await start(hub)
    client, module = await outside.client(
        "Greeter", protocol=protocol, is_framed=is_framed
    )
    with pytest.raises(module.Rude) as caught:
        await client.refuse("Ann")
    error = caught.value
    assert (error.name, error.times) == ("Ann", 2)
    assert error.message == "Ann was rude 2 times"


async def test_any_other_error_is_an_application_exception(hub, start):
    """The type is from the table of codes; the text begins with the code."""
    await hub.serve(Greeter())
    client, _ = await (await start(hub)).client("Greeter")
    with pytest.raises(TApplicationException) as caught:
        await client.missing("it")
    assert caught.value.type == TApplicationException.INTERNAL_ERROR
    assert caught.value.message == "not_found: there is no it"
    with pytest.raises(TApplicationException) as caught:
        await client.hello(None)
    assert caught.value.type == TApplicationException.PROTOCOL_ERROR
    assert caught.value.message == "invalid_argument: field 'name' is missing"


async def test_an_internal_error_tells_no_secret(hub, start):
    """What went wrong inside stays in the service's log."""
    await hub.serve(Greeter())
    client, _ = await (await start(hub)).client("Greeter")
    with pytest.raises(TApplicationException) as caught:
        await client.crash()
    assert caught.value.type == TApplicationException.INTERNAL_ERROR
    assert "secret" not in str(caught.value)


async def test_an_unknown_method_is_said(hub, start):
    """Its parameters are passed over, and the connection goes on."""
    await hub.serve(Greeter())
    outside = await start(hub)
    nested = struct.pack(">bh", 12, 1) + text("x") + number(5, 2) + b"\0\0"
    answer = await outside.raw(call(b"helo", 7, nested) + call(b"crash", 8), 2)
    kind, size = struct.unpack_from(">Ii", answer)
    assert (kind, answer[8 : 8 + size]) == (0x80010003, b"helo")
    assert struct.unpack_from(">i", answer, 12) == (7,)
    assert b"unimplemented: there is no method 'helo' here" in answer
    assert answer.count(b"crash") == 1
    assert outside.server.metrics.count("other", "unimplemented") == 1


async def test_a_failure_of_the_gateway_itself_is_answered(hub, start, caplog):
    """It is logged, the client is told where to look, and the connection goes on."""
    await hub.serve(Greeter())
    outside = await start(hub)
    served = outside.server.table.methods[b"hello"]
    broken = dataclasses.replace(served.binding, request=lambda _: 1 / 0)
    served.binding = broken
    answer = await outside.raw(call(b"hello", 1, b"\0") + call(b"tell", 2, b"\0"), 2)
    assert b"internal: the gateway failed; its log says more under" in answer
    assert any("a call of greeter.hello failed here" in m for m in caplog.messages)


async def test_void_is_answered(hub, start):
    """A method without result has an answer without fields."""
    service = Greeter()
    await hub.serve(service)
    outside = await start(hub)
    answer = await outside.raw(call(b"tell", 3, text("x") + b"\0"))
    assert answer == call(b"tell", 3, b"\0", kind=2)
    assert service.told == ["x"]


async def test_the_old_form_without_a_version_is_read(hub, start):
    """Clients that do not write a version are answered in the strict form."""
    await hub.serve(Greeter())
    outside = await start(hub)
    old = struct.pack(">i", 5) + b"hello" + b"\x01" + struct.pack(">i", 9)
    expected = call(b"hello", 9, text("Hello, Ann!", 0) + b"\0", kind=2)
    assert await outside.raw(old + text("Ann") + b"\0") == expected
    frame = old + text("Ann") + b"\0"
    framed = struct.pack(">i", len(frame)) + frame
    reader, writer = await outside.connect()
    writer.write(framed)
    answer = await reader.readexactly(4 + len(expected))
    assert answer == struct.pack(">i", len(expected)) + expected


async def test_one_way_to_speak_can_be_chosen(hub, start):
    """Whoever speaks otherwise is closed, and counted."""
    await hub.serve(Greeter())
    outside = await start(hub, protocol="compact", transport="framed")
    client, _ = await outside.client("Greeter", protocol="compact", is_framed=True)
    assert await client.hello("Ann") == "Hello, Ann!"
    assert await outside.raw(call(b"hello", 1, text("Ann") + b"\0"), 0) == b""
    outside = await start(hub, protocol="binary")
    assert await outside.raw(b"\x82\x21\x00\x05hello\x00", 0) == b""
    assert outside.server.metrics.closed["malformed"] == 1


async def test_a_multiplexed_name_chooses_the_service(hub, start):
    """By the service's name on the bus, or in the IDL; the answer has the bare name."""

    class Other(Service):
        name = "other"

        @endpoint
        async def hello(self, name: str) -> str:
            return f"Bye, {name}!"

    await hub.serve(Greeter())
    await hub.serve(Other())
    outside = await start(hub)
    args = text("Ann") + b"\0"
    for name, said in ((b"Greeter:hello", "Hello"), (b"other:hello", "Bye")):
        answer = await outside.raw(call(name, 1, args))
        expected = text(f"{said}, Ann!", 0) + b"\0"
        assert answer == call(b"hello", 1, expected, kind=2)
    answer = await outside.raw(call(b"hello", 1, args))
    assert b"it may be greeter.hello, other.hello: use the multiplexed" in answer


async def test_a_service_can_be_meant_without_its_name(hub, start):
    """With --service, the methods of that one need no name in front."""

    class Other(Service):
        name = "other"

        @endpoint
        async def hello(self, name: str) -> str:
            return "other"

    await hub.serve(Greeter())
    await hub.serve(Other())
    outside = await start(hub, service="greeter")
    assert b"Hello, Ann!" in await outside.raw(call(b"hello", 1, text("Ann") + b"\0"))


async def test_a_newcomer_takes_no_name_away(hub, start, until, caplog):
    """A name that was clear means what it meant; the log says what to do."""

    class Another(Service):
        name = "another"

        @endpoint
        async def hello(self, name: str) -> str:
            return "another"

    await hub.serve(Greeter())
    outside = await start(hub)
    await hub.serve(Another())
    await until(lambda: b"another:hello" in outside.server.table.methods)
    assert b"Hello, Ann!" in await outside.raw(call(b"hello", 1, text("Ann") + b"\0"))
    assert any("'hello' still means greeter.hello" in line for line in caplog.messages)


async def test_several_gateways_share_a_socket(hub, start):
    """As the processes of `--workers` do."""
    await hub.serve(Greeter())
    options = GatewayOptions(port=0, drain_timeout=0.5)
    kitmsg_gateways.thrift.check(options)
    sockets = kitmsg_gateways.thrift.listen(options)
    first = await kitmsg_gateways.thrift.serve(hub, options, sockets=sockets)
    assert first.port == sockets[0].getsockname()[1]
    second = await kitmsg_gateways.thrift.serve(
        hub, options, sockets=[sock.dup() for sock in sockets]
    )
    await first.stop()
    reader, writer = await asyncio.open_connection("127.0.0.1", second.port)
    writer.write(call(b"hello", 1, text("Ann") + b"\0"))
    assert b"Hello" in await reader.read(100)
    writer.close()
    await writer.wait_closed()
    await second.stop()
    assert 'endpoint="greeter.hello"' in second.exposition()


async def test_answers_come_in_the_order_of_the_calls(hub, start, until):
    """Calls of one connection run at once; their answers keep the order."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub)
    reader, writer = await outside.connect()
    for n in range(20):
        writer.write(call(b"wait", n, number(n) + b"\0"))
    await until(lambda: len(service.running) == 20)
    for n in reversed(range(20)):
        service.running[n].set()
    for n in range(20):
        expected = call(b"wait", n, number(n, 0) + b"\0", kind=2)
        assert await reader.readexactly(len(expected)) == expected


async def test_what_comes_beyond_the_bound_waits_unread(hub, start, until):
    """No more than `max_pipelined` calls of a connection run at once; none is lost."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, max_pipelined=2)
    reader, writer = await outside.connect()
    for n in range(7):
        writer.write(call(b"wait", n, number(n) + b"\0"))
    await until(lambda: len(service.running) == 2)
    for n in range(7):
        assert len(service.running) <= n + 2
        await until(lambda n=n: n in service.running)
        service.running[n].set()
        expected = call(b"wait", n, number(n, 0) + b"\0", kind=2)
        assert await reader.readexactly(len(expected)) == expected


async def test_a_oneway_call_has_no_answer(hub, start, write):
    """The endpoint runs; the next answer is the next call's."""
    service = Greeter()
    await hub.serve(service)
    own = write(
        "service Greeter { oneway void tell(1: string text), string hello(1: string name) }"
    )
    outside = await start(hub, thrift=(own,))
    client, _ = await outside.client("Greeter", (await _read(own)))
    await client.tell("psst")
    assert await client.hello("Ann") == "Hello, Ann!"
    assert service.told == ["psst"]
    answer = await outside.raw(
        call(b"hello", 1, text("Ann") + b"\0", kind=4)
        + call(b"tell", 2, text("x") + b"\0", kind=1)
        + call(b"hello", 3, text("Bob") + b"\0")
    )
    assert answer == call(b"hello", 3, text("Hello, Bob!", 0) + b"\0", kind=2)


async def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


async def test_an_endpoint_that_hangs_is_a_deadline_exceeded(hub, start):
    """The time is the endpoint's own."""
    await hub.serve(Slow())
    client, _ = await (await start(hub)).client("Slow")
    with pytest.raises(TApplicationException, match="deadline_exceeded: "):
        await client.hang()


async def test_the_gateway_s_time_counts_where_the_endpoint_says_none(hub, start):
    """`timeout` is for endpoints that do not say."""
    await hub.serve(Slow())
    client, _ = await (await start(hub, timeout=0.1)).client("Slow")
    with pytest.raises(TApplicationException, match="deadline_exceeded: "):
        await client.wait(1)


async def test_a_client_that_vanishes_cancels_its_turns(hub, start, until):
    """Nobody works for nobody, and nothing is left behind."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub)
    _, writer = await outside.connect()
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    writer.transport.abort()
    await until(lambda: service.cancelled == [1])
    await until(lambda: outside.server.connections.open == 0)
    await until(lambda: outside.server.metrics.in_flight == 0)
    assert outside.server.metrics.count("slow.wait", "cancelled") == 1


@pytest.mark.parametrize("is_whole", [True, False])
async def test_the_end_of_a_connection_ends_its_calls(hub, start, until, is_whole):
    """A client that closes its half has gone, in the middle of a message or after one."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub)
    reader, writer = await outside.connect()
    message = call(b"wait", 1, number(1) + b"\0")
    writer.write(message if is_whole else message[:-1])
    if is_whole:
        await until(lambda: 1 in service.running)
    writer.write_eof()
    assert await reader.read() == b""
    await until(lambda: outside.server.connections.open == 0)
    await until(lambda: service.cancelled == [1] * is_whole)


async def test_a_message_may_drip_in(hub, start):
    """Byte by byte, framed or not, it is the same message."""
    await hub.serve(Greeter())
    outside = await start(hub)
    message = call(b"hello", 1, text("Ann") + b"\0")
    expected = call(b"hello", 1, text("Hello, Ann!", 0) + b"\0", kind=2)
    frame = struct.pack(">i", len(message)) + message
    for data, answer in (
        (message, expected),
        (frame, struct.pack(">i", len(expected)) + expected),
    ):
        reader, writer = await outside.connect()
        for byte in data + data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        assert await reader.readexactly(2 * len(answer)) == answer + answer


@pytest.mark.parametrize(
    ("options", "data", "reason"),
    [
        ({"idle_timeout": 0.05}, b"", "idle"),
        ({"idle_timeout": 0.05}, call(b"nothing"), "idle"),
        ({"message_timeout": 0.05}, call(b"hello")[:-1], "slow"),
    ],
)
async def test_silent_and_slow_clients_are_closed(hub, start, options, data, reason):
    """One that says nothing, or does not finish what it began."""
    await hub.serve(Greeter())
    outside = await start(hub, **options)
    await outside.raw(data, 0)
    assert outside.server.metrics.closed[reason] == 1


async def test_a_message_that_drips_gets_no_more_time(hub, start):
    """Each byte does not start the clock anew."""
    await hub.serve(Greeter())
    outside = await start(hub, message_timeout=0.1)
    reader, writer = await outside.connect()
    writer.write(call(b"hello", 1, b"")[:-2])

    async def drip() -> None:
        writer.write(struct.pack(">hbhi", 1, 11, 1, 1000))
        while True:
            writer.write(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    try:
        async with asyncio.timeout(10):
            assert await reader.read() == b""
    except ConnectionError:
        pass
    finally:
        dripping.cancel()
    assert outside.server.metrics.closed["slow"] == 1


async def test_a_client_that_takes_no_answers_is_closed(hub, start, until):
    """What it does not read is not piled up: it is read no more, then closed."""

    class Echo(Service):
        name = "echo"

        @endpoint
        async def twice(self, value: str) -> str:
            return value * 2

    await hub.serve(Echo())
    outside = await start(hub, write_timeout=0.2)
    _, writer = await outside.connect()
    message = call(b"twice", 1, text("x" * 200_000) + b"\0")

    async def send() -> None:
        while True:
            writer.write(message)
            await writer.drain()

    sending = asyncio.create_task(send())
    await until(lambda: outside.server.metrics.closed["slow"] == 1)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    done = outside.server.metrics.count("echo.twice", "ok")
    assert done < 128


async def test_connections_are_bounded(hub, start, until):
    """One too many is closed at once; room that is free again is given again."""
    await hub.serve(Greeter())
    outside = await start(hub, max_connections=1)
    _, first = await outside.connect()
    await until(lambda: outside.server.connections.open == 1)
    assert await outside.raw(call(b"hello"), 0) == b""
    assert outside.server.connections.refused == 1
    first.close()
    await until(lambda: outside.server.connections.open == 0)
    assert await outside.raw(call(b"crash")) != b""


async def test_calls_in_flight_are_bounded(hub, start, until):
    """What is too much is refused at once."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, max_concurrent=1)
    _, writer = await outside.connect()
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    answer = await outside.raw(call(b"wait", 2, number(2) + b"\0"))
    assert b"resource_exhausted: the gateway is full: 1 calls are in flight" in answer


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (struct.pack(">bhi", 11, 1, 2000), "a length of 2000 bytes"),
        (struct.pack(">bhi", 11, 1, -1), "a length of -1 bytes"),
        (struct.pack(">bhbi", 15, 9, 10, 11), "a container of 11 items"),
        (struct.pack(">bhbbi", 13, 9, 10, 10, 11), "a container of 11 items"),
        (struct.pack(">bh", 12, 9) * 9, "nested deeper than 8 levels"),
        (struct.pack(">bh", 1, 9), "a field of type 1, which does not exist"),
        (b"\x0b\x00\x01\x00\x00\x00\x01\xff\x00", "a text is not UTF-8"),
    ],
)
async def test_what_is_malformed_or_over_a_limit_ends_the_connection(
    hub, start, args, why
):
    """Nothing is made of a length before it is checked; the answer says what was wrong."""
    await hub.serve(Greeter())
    outside = await start(hub, max_message_bytes=1000, max_items=10, max_depth=8)
    answer = await outside.raw(call(b"hello", 5, args), 0)
    assert answer[:4] == b"\x80\x01\x00\x03"
    assert why.encode() in answer
    assert outside.server.metrics.closed["malformed"] == 1


async def test_what_was_wrong_is_not_taken_back(hub, start):
    """A client that is still sending reads it, and what it was answered before."""
    await hub.serve(Greeter())
    outside = await start(hub)
    endless = call(b"hello", 2, struct.pack(">bhi", 11, 1, -1))
    begin = call(b"hello", 1, text("A") + b"\0") + endless
    answer = await keeps_sending(outside.server.port, begin, b"more" * 20_000)
    assert b"Hello, A!" in answer
    assert b"a length of -" in answer


async def test_a_frame_over_the_limit_ends_the_connection(hub, start):
    """Its length is enough to know."""
    await hub.serve(Greeter())
    outside = await start(hub, max_message_bytes=1000)
    assert await outside.raw(b"\0\0\x10\0\x80\x01", 0) == b""
    assert outside.server.metrics.closed["malformed"] == 1


async def test_an_unframed_message_over_the_limit_ends_the_connection(hub, start):
    """Many small fields add up."""
    await hub.serve(Greeter())
    outside = await start(hub, max_message_bytes=1000)
    await outside.raw(call(b"hello", 5, number(1, 9) * 200)[:-1], 0)
    assert outside.server.metrics.closed["malformed"] == 1


async def test_a_reply_is_no_call(hub, start):
    """Only calls are taken."""
    await hub.serve(Greeter())
    outside = await start(hub)
    assert await outside.raw(call(b"hello", 1, kind=2), 0) == b""


async def test_services_come_and_go(hub, start, until):
    """Without a restart; one that has just left is unavailable, not unknown."""
    outside = await start(hub)
    assert b"there is no method 'hello'" in await outside.raw(call(b"hello"))
    running = await hub.serve(Greeter())
    await until(lambda: b"hello" in outside.server.table.methods)
    assert b"Hello, A!" in await outside.raw(call(b"hello", 1, text("A") + b"\0"))
    await running.drain()
    await until(lambda: b"hello" not in outside.server.table.methods)
    answer = await outside.raw(call(b"hello"))
    assert b"unavailable: the last instance of 'greeter' has just left" in answer


async def test_a_stream_is_left_out_with_a_line_in_the_log(hub, start, caplog):
    """Thrift has no form for it."""
    await hub.serve(Greeter())
    with caplog.at_level(logging.WARNING, "kitmsg_gateways.thrift"):
        outside = await start(hub)
    assert "greeter.watch is a stream, which has no form in Thrift" in caplog.messages
    assert b"watch" not in outside.server.table.methods


async def test_a_message_longer_than_the_bus_carries(hub, start):
    """It goes in parts, both ways."""

    class Echo(Service):
        name = "echo"

        @endpoint
        async def same(self, data: bytes) -> bytes:
            return data

    await hub.serve(Echo())
    outside = await start(hub, max_message_bytes=8 << 20)
    client, _ = await outside.client("Echo", is_framed=True)
    data = bytes(range(256)) * 10_000
    assert len(data) > hub.bus.max_payload
    assert await client.same(data) == data


async def test_stop_finishes_what_is_in_flight(hub, start, until):
    """Idle connections end at once, others when they are answered; none is accepted."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, drain_timeout=10.0)
    idle, _ = await outside.connect()
    reader, writer = await outside.connect()
    port = outside.server.port
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    stopping = asyncio.create_task(outside.server.stop())
    assert await idle.read() == b""
    with pytest.raises(OSError, match="refused|Connect"):
        await asyncio.open_connection("127.0.0.1", port)
    service.running[1].set()
    assert await reader.read() == call(b"wait", 1, number(1, 0) + b"\0", kind=2)
    await stopping
    assert outside.server.connections.open == 0


async def test_stop_cancels_what_does_not_finish(hub, start, until):
    """After `drain_timeout` the turns are cancelled."""
    service = Slow()
    await hub.serve(service)
    outside = await start(hub, drain_timeout=0.05)
    _, writer = await outside.connect()
    writer.write(call(b"wait", 1, number(1) + b"\0"))
    await until(lambda: 1 in service.running)
    await outside.server.stop()
    await until(lambda: service.cancelled == [1])
    assert outside.server.metrics.closed["stopped"] == 1


@pytest.fixture
def certificates(tmp_path: Any) -> Any:
    """A CA, a server's certificate, and a client's."""
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("me@x.y")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return authority, client, tmp_path


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_tls(hub, start, certificates):
    """A client that trusts the CA is served; one that speaks no TLS is not."""
    authority, _, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub, tls_cert=f"{folder}/server.pem", tls_key=f"{folder}/server.key"
    )
    assert outside.server.url.startswith("thrifts://")
    client, _ = await outside.client("Greeter", ssl_context=_context(authority))
    assert await client.hello("Ann") == "Hello, Ann!"
    assert b"Hello" not in await outside.raw(call(b"hello", 1, text("A") + b"\0"), 0)


async def test_mutual_tls(hub, start, certificates):
    """With a CA for clients, only those with its certificates are served."""
    authority, identity, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub,
        tls_cert=f"{folder}/server.pem",
        tls_key=f"{folder}/server.key",
        tls_client_ca=f"{folder}/ca.pem",
    )
    context = _context(authority)
    identity.configure_cert(context)
    client, _ = await outside.client("Greeter", ssl_context=context)
    assert await client.hello("Ann") == "Hello, Ann!"
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", outside.server.port, ssl=_context(authority)
    )
    writer.write(call(b"hello", 1, text("A") + b"\0"))
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert await reader.read() == b""
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    assert outside.server.metrics.count("greeter.hello", "ok") == 1


async def test_mutual_tls_gives_no_session_to_take_up_again(hub, start, certificates):
    """It would skip the check of a certificate that may not be trusted any more."""
    authority, identity, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub,
        tls_cert=f"{folder}/server.pem",
        tls_key=f"{folder}/server.key",
        tls_client_ca=f"{folder}/ca.pem",
    )
    context = _context(authority)
    identity.configure_cert(context)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", outside.server.port, ssl=context
    )
    writer.write(call(b"hello", 1, text("A") + b"\0"))
    assert b"Hello" in await reader.read(100)
    session = writer.get_extra_info("ssl_object").session
    assert session is None or not session.has_ticket
    writer.close()
    await writer.wait_closed()


async def test_an_endpoint_s_time_has_the_gateway_s_bound(hub, start):
    """As at every door."""
    await hub.serve(Slow())
    outside = await start(hub, timeout=30.0, max_timeout=0.05)
    answer = await outside.raw(call(b"wait", 1, number(1) + b"\0"))
    assert b"deadline_exceeded" in answer


async def test_a_renewed_certificate_is_used_without_a_restart(
    hub, start, certificates, until, caplog
):
    """The files are looked at now and then; broken ones change nothing."""
    caplog.set_level(logging.INFO)
    _, _, folder = certificates
    await hub.serve(Greeter())
    outside = await start(
        hub,
        tls_cert=f"{folder}/server.pem",
        tls_key=f"{folder}/server.key",
        reload_interval=0.01,
    )
    renewed = trustme.CA()
    pair = renewed.issue_cert("127.0.0.1")
    (folder / "server.key").unlink()
    pair.private_key_pem.write_to_path(folder / "server.key")
    (folder / "server.pem").unlink()
    pair.cert_chain_pems[0].write_to_path(folder / "server.pem")
    await until(lambda: "read again" in caplog.text)
    caplog.clear()
    client, _ = await outside.client("Greeter", ssl_context=_context(renewed))
    assert await client.hello("Ann") == "Hello, Ann!"
    (folder / "server.pem").write_text("nonsense")
    await until(lambda: "what was read before goes on" in caplog.text)
    client, _ = await outside.client("Greeter", ssl_context=_context(renewed))
    assert await client.hello("Bob") == "Hello, Bob!"


async def test_an_access_log_has_a_line_for_each_call(hub, start, caplog):
    """Who, what, how it ended, how long."""
    await hub.serve(Greeter())
    outside = await start(hub, access_log=True)
    with caplog.at_level(logging.INFO, "kitmsg_gateways.thrift.access"):
        await outside.raw(call(b"hello", 1, text("A") + b"\0") + call(b"crash", 2), 2)
    records = [r for r in caplog.records if r.name == "kitmsg_gateways.thrift.access"]
    assert sorted(record.message for record in records) == [
        "greeter.crash internal",
        "greeter.hello ok",
    ]
    assert {record.client for record in records} == {"127.0.0.1"}
    assert all(record.ms >= 0 and record.request_id for record in records)


async def test_an_access_log_may_be_as_web_servers_write_it(hub, start, capsys):
    """Common Log Format, on standard output."""
    await hub.serve(Greeter())
    outside = await start(hub, access_log="common")
    await outside.raw(call(b"hello", 1, text("A") + b"\0") + call(b"crash", 2), 2)
    ends = sorted(
        line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()
    )
    assert ends == [
        '"CALL /greeter.crash THRIFT" 500 -',
        '"CALL /greeter.hello THRIFT" 200 -',
    ]


async def test_metrics_tell_of_calls_and_connections(hub, start):
    """In Prometheus' terms."""
    await hub.serve(Greeter())
    outside = await start(hub)
    await outside.raw(
        call(b"hello", 1, text("A") + b"\0") + call(b"hello", 2, b"\x63\0"), 0
    )
    families = {family.name: family for family in outside.server.metrics.collect()}
    assert {
        "kitmsg_gateway_requests_total",
        "kitmsg_gateway_duration_seconds",
        "kitmsg_gateway_in_flight",
        "kitmsg_gateway_connections",
        "kitmsg_gateway_connections_closed_total",
    } <= set(families)
    count = outside.server.metrics.count
    assert count("greeter.hello", "ok") == 1
    (closed,) = families["kitmsg_gateway_connections_closed_total"].samples
    assert closed == ({"gateway": "thrift", "reason": "malformed"}, 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protocol": "json"}, "protocol must be one of auto, binary, compact"),
        ({"transport": "http"}, "transport must be one of auto, buffered, framed"),
        ({"timeout": 0}, "timeout must be positive"),
        ({"tls_key": "x"}, "tls_key needs tls_cert"),
        ({"tls_client_ca": "x"}, "tls_client_ca needs tls_cert"),
        ({"map": ("A=b",)}, "map needs thrift"),
    ],
)
def test_options_that_do_not_fit_are_said(options, sentence):
    """At once, in a sentence."""
    with pytest.raises(ValueError, match=sentence.replace(".", r"\.")):
        GatewayOptions(**options)


async def test_go_kit_s_addsvc_byte_for_byte(hub, start):
    """What Go kit's client sends is answered with what Go kit's server answers."""
    await hub.serve(AddService())
    outside = await start(hub, thrift=("examples/addsvc/addsvc.thrift",))

    def reply(name: bytes, value: bytes, err: str) -> bytes:
        success = struct.pack(">bh", 12, 0) + value + text(err, 2)
        return call(name, 1, success + b"\0\0", kind=2)

    sums = [
        (number(1) + number(2, 2), number(3), ""),
        (number(0) + number(0, 2), number(0), "two zeroes are not worth a call"),
    ]
    for args, value, err in sums:
        answer = await outside.raw(call(b"Sum", 1, args + b"\0"))
        assert answer == reply(b"Sum", value, err)
    answer = await outside.raw(call(b"Concat", 1, text("a") + text("b", 2) + b"\0"))
    assert answer == reply(b"Concat", text("ab"), "")


async def test_a_chosen_service_that_is_not_there_is_said(hub, start, caplog):
    """It may come later, so the gateway starts; the log has what the name may be."""
    await hub.serve(Greeter())
    for name in ("greter", "nope", "greeter"):
        await start(hub, service=name)
    first, second = (line for line in caplog.messages if "there is no service" in line)
    assert "'greter' on the bus yet" in first
    assert first.endswith("did you mean 'greeter'?")
    assert second.endswith("; there is greeter")


def test_a_name_that_no_service_can_have_is_refused():
    """Before there is a bus."""
    with pytest.raises(ValueError, match=r"the service to choose is named 'a\.b'; use"):
        GatewayOptions(service="a.b")
