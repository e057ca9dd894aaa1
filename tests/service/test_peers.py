"""Calls of services that are not kitmsg's: JSON goes to them, and JSON comes back."""
# the services here are props

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import nats
import nats.micro
import pytest

import kitmsg
from kitmsg import Kit, Service, current, endpoint
from kitmsg.codec import JSON, MSGPACK, sniff_reply
from kitmsg.errors import DataLoss

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nats.micro.request import Request

    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.message import Message


class Sum(msgspec.Struct):
    value: int
    note: str = ""


class Calc(Service):
    """The class of a service that somebody wrote in another language."""

    name = "calc"

    @endpoint
    async def add(self, a: int, b: int) -> Sum:
        raise NotImplementedError

    @endpoint
    async def count(self, text: str) -> int:
        raise NotImplementedError


class Front(Service):
    """Calls `Calc` by an injected client."""

    def __init__(self, calc: Calc) -> None:
        self.calc = calc

    @endpoint
    async def both(self, a: int, b: int) -> int:
        return (await self.calc.add(a, b)).value


class Mine(Service):
    """One of kitmsg's own."""

    @endpoint
    async def codec(self) -> str:
        return current().codec.name  # type: ignore[union-attr]


class Timer(Service):
    """Has fields that are called as options of a call."""

    @endpoint
    async def set(self, timeout: int, codec: str) -> str:
        return f"{timeout} {codec}"


@pytest.fixture
async def foreign(nats_server: EmbeddedServer) -> AsyncIterator[str]:
    """A NATS micro service that knows JSON and nothing of kitmsg; returns the URL."""

    async def add(request: Request) -> None:
        asked = json.loads(request.data)
        await request.respond(json.dumps({"value": asked["a"] + asked["b"]}).encode())

    async def count(request: Request) -> None:
        await request.respond(str(len(json.loads(request.data)["text"])).encode())

    connection = await nats.connect(nats_server.url)
    service = await nats.micro.add_service(connection, name="calc", version="1.0.0")
    group = service.add_group(name="calc")
    await group.add_endpoint(name="add", handler=add)
    await group.add_endpoint(name="count", handler=count)
    await connection.flush()
    yield nats_server.url
    await service.stop()
    await connection.close()


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_a_service_of_another_language_is_called_in_json(foreign: str) -> None:
    """By name, by a typed client and by an injected one; a reply of one digit too."""
    async with kitmsg.connect(foreign) as kit:
        assert await kit.call("calc.add", a=1, b=2) == {"value": 3}
        client = kit.client(Calc)
        assert await client.add(3, 4) == Sum(7)
        assert await client.count("seven..") == 7
        await kit.serve(Front)
        assert await kit.client(Front).both(5, 6) == 11


async def test_a_kit_has_a_codec_for_all_it_calls(kit: Kit) -> None:
    """Injected clients too; each client and call may have its own."""
    seen: list[bytes] = []

    def reply(message: Message) -> None:
        seen.append(message.data[:1])
        kit.bus.respond(message, b'{"value": 3}')

    kit.bus.subscribe("calc.add", reply)
    own = Kit(kit.bus, codec=MSGPACK)
    await own.serve(Front)
    await own.client(Front, codec=JSON).both(1, 2)
    await own.client(Calc).add(1, 2)
    await own.client(Calc, codec=JSON).add(1, 2)
    await own.call("calc.add", codec=JSON, a=1, b=2)
    await own.call("calc.add", a=1, b=2)
    assert [first == b"{" for first in seen] == [False, False, True, True, False]


async def test_connect_takes_a_codec(kit: Kit) -> None:
    """It is the kit's."""
    other = await kitmsg.connect(bus=kit.bus, codec=JSON)
    await kit.serve(Mine())
    assert await other.client(Mine).codec() == "json"
    assert await other.call("mine.codec") == "json"


async def test_kitmsg_speaks_messagepack_with_its_own(kit: Kit) -> None:
    """From the first call on; the service is asked once what it is."""
    asked: list[Message] = []
    kit.bus.subscribe("$SRV.INFO.mine", asked.append)
    await kit.serve(Mine())
    client = kit.client(Mine)
    assert [await client.codec(), await client.codec()] == ["msgpack", "msgpack"]
    assert await kit.call("mine.codec") == "msgpack"
    assert len(asked) == 1


async def test_a_bare_subscriber_is_called_in_json(kit: Kit) -> None:
    """Such as Go kit's, which no discovery knows; it is looked for once."""
    seen: list[bytes] = []

    def reply(message: Message) -> None:
        seen.append(message.data)
        kit.bus.respond(message, b'{"value":3}')

    kit.bus.subscribe("calc.add", reply)
    client = kit.client(Calc)
    for _ in range(2):
        assert await client.add(1, 2) == Sum(3)
    assert seen == [b'{"a":1,"b":2}'] * 2


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (b'{"value":3}', MSGPACK),
        (b' {"value": 3}', MSGPACK),
        (b"\x81\xa5value\x03", JSON),
    ],
)
async def test_a_reply_is_read_as_what_it_is(
    kit: Kit, reply: bytes, asked: Any
) -> None:
    """Not as its request was, where it says nothing and cannot be that."""
    kit.bus.subscribe("calc.add", lambda m: kit.bus.respond(m, reply))
    assert await kit.client(Calc, codec=asked).add(1, 2) == Sum(3)
    assert await kit.call("calc.add", codec=asked) == {"value": 3}


async def test_a_reply_that_does_not_fit_is_data_loss_in_either_codec(kit: Kit) -> None:
    """The field is named."""
    kit.bus.subscribe("calc.add", lambda m: kit.bus.respond(m, b'{"value":"x"}'))
    with pytest.raises(DataLoss, match="value"):
        await kit.client(Calc, codec=MSGPACK).add(1, 2)


def test_a_single_byte_is_of_the_codec_that_was_asked_in() -> None:
    """It could be of both."""
    assert sniff_reply(b"7", MSGPACK) is MSGPACK
    assert sniff_reply(b"7", JSON) is JSON
    assert sniff_reply(b"", MSGPACK) is MSGPACK


async def test_fields_named_as_options_go_in_the_dict(kit: Kit) -> None:
    """The keywords stay the call's own."""
    await kit.serve(Timer())
    fields = {"timeout": 30, "codec": "h264"}
    assert await kit.call("timer.set", fields, timeout=2.0) == "30 h264"
