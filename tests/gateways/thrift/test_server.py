"""The gateway as its clients see it: thriftpy2's own client, and bare sockets."""

from __future__ import annotations

import asyncio
import dataclasses
import struct

import pytest
from thriftpy2.thrift import TApplicationException

import kitmsg_gateways.thrift
from examples.addsvc.service import AddService
from kitmsg import Service, endpoint
from kitmsg_gateways.thrift import GatewayOptions
from tests.gateways.thrift.messages import SPEECHES, call, number, text
from tests.gateways.thrift.services import Greeter


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
