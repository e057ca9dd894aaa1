"""Discovery by subject: replies as ADR-32 and the ``nats micro`` commands want them."""
# the services here are props

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import nats
import nats.micro
import pytest

from kitmsg import Kit, Service, connect, endpoint
from kitmsg.discovery.subject import (
    ask_many,
    check_version,
    find_services,
    find_stats,
    ping_services,
)
from kitmsg.errors import Disconnected, NotFound

if TYPE_CHECKING:
    from kitmsg.bus.embedded import EmbeddedServer
    from kitmsg.message import Message

# The rules that the commands check replies by: ADR-32 and jsm.go's schemas/micro/v1.
NAME = {"type": "string", "pattern": "^[a-zA-Z0-9_-]+$"}
STRINGS = {"type": ["object", "null"], "additionalProperties": {"type": "string"}}
SEMVER = {
    "type": "string",
    "pattern": r"^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$",
}
SUBJECT = {"type": "string", "pattern": "^[^ >]*[>]?$", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}


def reply_schema(kind: str, **more: Any) -> dict[str, Any]:
    properties = {
        "type": {"const": f"io.nats.micro.v1.{kind}_response"},
        "name": NAME,
        "id": {"type": "string", "pattern": "^[^ .*>]+$"},
        "version": SEMVER,
        "metadata": STRINGS,
        **more,
    }
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


ENDPOINT = {
    "name": NAME,
    "subject": SUBJECT,
    "queue_group": {"type": "string"},
}
INFO_ENDPOINT = {
    "type": "object",
    "properties": {**ENDPOINT, "metadata": STRINGS},
    "required": ["name", "subject"],
    "additionalProperties": False,
}
STATS_ENDPOINT = {
    "type": "object",
    "properties": {
        **ENDPOINT,
        "num_requests": COUNT,
        "num_errors": COUNT,
        "last_error": {"type": "string"},
        "processing_time": COUNT,
        "average_processing_time": COUNT,
        "data": {"type": "object", "minProperties": 1},
    },
    "required": [
        *("name", "subject", "num_requests", "num_errors"),
        *("last_error", "processing_time", "average_processing_time"),
    ],
    "additionalProperties": False,
}
SCHEMAS = {
    "PING": reply_schema("ping"),
    "INFO": reply_schema(
        "info",
        description={"type": "string"},
        endpoints={"type": "array", "items": INFO_ENDPOINT},
    ),
    "STATS": reply_schema(
        "stats",
        started={
            "type": "string",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$",
        },
        endpoints={"type": "array", "items": STATS_ENDPOINT},
    ),
}


class Greeter(Service):
    """Says hello.

    At length.
    """

    version = "1.4.0"
    metadata = {"team": "blue"}  # noqa: RUF012  # as users write it

    @endpoint(http="GET /hello/{name}", idempotent=True, timeout=2.0)
    async def hello(self, name: str) -> str:
        """Greet by name."""
        if name == "nobody":
            raise NotFound("nobody is not here")
        return f"Hello, {name}!"

    @endpoint
    async def bye(self) -> None: ...


class Bare(Service):
    @endpoint
    async def only(self) -> None: ...


@pytest.mark.parametrize("scope", ["", ".greeter", ".greeter.{id}"])
@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_replies_are_valid(kit: Kit, verb: str, scope: str) -> None:
    """Each of the nine control subjects answers by the rules, used or unused."""
    host = await kit.serve(Greeter())
    subject = f"$SRV.{verb}{scope.format(id=host.id)}"
    for _ in range(2):
        reply = await kit.bus.request(subject, b"", 1.0)
        said = msgspec.json.decode(reply.data)
        jsonschema.validate(said, SCHEMAS[verb])
        assert reply.header_block == b""
        assert (said["name"], said["id"]) == ("greeter", host.id)
        assert (said["version"], said["metadata"]) == ("1.4.0", {"team": "blue"})
        await kit.client(Greeter).hello("Ann")
        with pytest.raises(NotFound):
            await kit.client(Greeter).hello("nobody")


async def test_a_service_without_a_word_is_valid_too(kit: Kit) -> None:
    """No docstring is an empty description, never null."""
    await kit.serve(Bare())
    for verb, schema in SCHEMAS.items():
        reply = await kit.bus.request(f"$SRV.{verb}", b"", 1.0)
        jsonschema.validate(msgspec.json.decode(reply.data), schema)


async def test_info_says_what_a_gateway_needs(kit: Kit) -> None:
    """Description, subjects, queue groups, and facts of endpoints as text."""
    await kit.serve(Greeter())
    (info,) = await find_services(kit.bus)
    assert info.description == "Says hello."
    hello, bye = info.endpoints
    assert (hello.name, hello.subject, hello.queue_group) == (
        "hello",
        "greeter.hello",
        "q",
    )
    metadata = dict(hello.metadata or {})
    assert re.fullmatch("[0-9a-f]{16}", metadata.pop("kit.schema"))
    assert metadata == {
        "kit.http": "GET /hello/{name}",
        "kit.idempotent": "true",
        "kit.timeout": "2",
        "description": "Greet by name.",
    }
    assert set(bye.metadata or {}) == {"kit.schema"}


async def test_stats_are_found(kit: Kit) -> None:
    """Counters by endpoint."""
    await kit.serve(Greeter())
    await kit.client(Greeter).hello("Ann")
    (report,) = await find_stats(kit.bus, "greeter")
    assert [(e.name, e.num_requests) for e in report.endpoints] == [
        ("hello", 1),
        ("bye", 0),
    ]


async def test_everybody_answers(kit: Kit) -> None:
    """Control subjects have no queue group: each instance answers for itself."""
    hosts = [await kit.serve(Greeter()) for _ in range(3)]
    await kit.serve(Bare())
    found = await ping_services(kit.bus)
    assert [p.name for p in found] == ["bare", "greeter", "greeter", "greeter"]
    assert {p.id for p in found[1:]} == {host.id for host in hosts}
    assert len(await ping_services(kit.bus, "greeter")) == 3
    assert await ping_services(kit.bus, "nobody") == []


async def test_a_drained_instance_answers_no_more(kit: Kit) -> None:
    """It is gone from discovery before it has finished its work."""
    host = await kit.serve(Greeter())
    await host.drain()
    kit.hosts.clear()
    assert await ping_services(kit.bus) == []


async def test_broken_replies_harm_nobody(kit: Kit) -> None:
    """A reply that is no service is left out; a null is "not said"."""
    await kit.serve(Greeter())
    bodies = [
        b"nonsense",
        b"[]",
        b'{"name":"half"}',
        b'{"name":5,"id":"x","version":"1.0.0"}',
        b'{"name":"foreign","id":"x","version":"1.0.0","description":null,'
        b'"metadata":null,"endpoints":null,"type":"io.nats.micro.v1.info_response"}',
    ]

    def say(body: bytes) -> None:
        kit.bus.subscribe("$SRV.INFO", lambda m: kit.bus.publish(m.reply, body))

    for body in bodies:
        say(body)
    found = await find_services(kit.bus)
    assert [info.name for info in found] == ["foreign", "greeter"]
    assert (found[0].description, found[0].endpoints) == ("", [])


async def test_asking_many_ends_when_it_is_quiet(kit: Kit) -> None:
    """After the last reply it waits for `stall`, in all never longer than `timeout`."""
    loop = asyncio.get_running_loop()

    def after(delay: float) -> None:
        def reply(message: Message) -> None:
            loop.call_later(delay, kit.bus.publish, message.reply, b"x")

        kit.bus.subscribe("many.ask", reply)

    for delay in (0.3, 0.35, 0.6):
        after(delay)
    started = loop.time()
    assert len(await ask_many(kit.bus, "many.ask", timeout=1.0, stall=0.1)) == 2
    assert loop.time() - started == pytest.approx(0.45, abs=0.01)
    for n in range(20):
        after(0.7 + n / 20)
    started = loop.time()
    await ask_many(kit.bus, "many.ask", timeout=1.0, stall=0.5)
    assert loop.time() - started == pytest.approx(1.0, abs=0.01)


async def test_asking_many_when_nobody_is_there(kit: Kit) -> None:
    """That is known at once."""
    started = asyncio.get_running_loop().time()
    assert await ask_many(kit.bus, "many.ask") == []
    assert asyncio.get_running_loop().time() == started


async def test_asking_many_without_a_connection(kit: Kit) -> None:
    """Fails at once."""
    kit.bus.disconnect()  # type: ignore[attr-defined]
    with pytest.raises(Disconnected):
        await ask_many(kit.bus, "many.ask")


@pytest.mark.parametrize(
    "version", ["0.0.0", "1.2.3", "1.0.0-rc.1", "1.0.0+b.7", "1.0.0-0a.x-y+001"]
)
def test_semantic_versions(version: str) -> None:
    """What semver.org allows."""
    assert check_version(version, "X") == version


@pytest.mark.parametrize(
    "version", ["", "1", "1.2", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3 "]
)
def test_other_versions(version: str) -> None:
    """And what it does not."""
    with pytest.raises(ValueError, match="is not semantic, such as"):
        check_version(version, "X")


async def test_a_plain_nats_client(nats_server: EmbeddedServer) -> None:
    """A client that knows only NATS calls, sees errors, and finds the instance."""
    kit = await connect(nats_server.url)
    host = await kit.serve(Greeter())
    plain = await nats.connect(nats_server.url)
    try:
        reply = await plain.request("greeter.hello", b'{"name":"Ann"}')
        assert reply.data == b'"Hello, Ann!"'
        assert not reply.headers
        reply = await plain.request("greeter.hello", b'{"name":"nobody"}')
        assert reply.headers is not None
        assert reply.headers["Nats-Service-Error"] == "nobody is not here"
        assert reply.headers["Nats-Service-Error-Code"] == "404"
        reply = await plain.request(
            f"$SRV.INFO.greeter.{host.id}", b"{}", headers={"Accept-Encoding": "snappy"}
        )
        jsonschema.validate(msgspec.json.decode(reply.data), SCHEMAS["INFO"])
    finally:
        await plain.close()
        await kit.close()


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_a_foreign_micro_service(nats_server: EmbeddedServer) -> None:
    """A service of another library is found, called, and its errors understood."""

    async def shout(request: nats.micro.request.Request) -> None:
        if not request.data:
            await request.respond_error("404", "nothing to shout")
            return
        await request.respond(request.data.upper())

    kit = await connect(nats_server.url)
    plain = await nats.connect(nats_server.url)
    foreign = await nats.micro.add_service(plain, name="loud", version="1.0.0")
    try:
        await foreign.add_endpoint(name="shout", handler=shout, subject="loud.shout")
        await plain.flush()
        (info,) = await find_services(kit.bus, "loud")
        assert [e.subject for e in info.endpoints] == ["loud.shout"]
        reply = await kit.bus.request("loud.shout", b'"hey"', 1.0)
        assert reply.data == b'"HEY"'
        (report,) = await find_stats(kit.bus, "loud")
        assert report.endpoints[0].num_requests == 1
        (seen,) = await ping_services(kit.bus, "loud")
        assert seen.id == info.id
    finally:
        await foreign.stop()
        await plain.close()
        await kit.close()
