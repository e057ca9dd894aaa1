"""What is mounted follows what is on the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  a service's hint

import msgspec
import pytest

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.schema.live import document_hash
from kitmsg_gateways.edge import catalogue


class Greeter(Service):
    """Says hello."""

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str) -> str:
        return f"Hello, {name}!"


class Twin(Service):
    """Wants a route that Greeter has."""

    @endpoint(http="GET /hello/{who}")
    async def hello(self, who: str) -> str:
        return "twin"


class Thief(Service):
    """Wants the gateway's own path, and another service's."""

    name = "a_thief"

    @endpoint(http="GET /docs")
    async def docs(self) -> str:
        return "mine"

    @endpoint(http="POST /greeter/hello")
    async def take(self, name: str) -> str:
        return "mine"


class Docs(Service):
    """Has the name of a page of the gateway."""

    @endpoint
    async def hello(self) -> str:
        return "docs"


async def test_services_come_and_go(hub, start, until, monkeypatch):
    """A kitmsg service is mounted when it starts and unmounted when it stops."""
    call = await start(hub, discovery_interval=3600)
    assert (await call("GET", "/hello/Ann"))[0].status == 404
    host = await hub.serve(Greeter())
    await until(lambda: call.server.table.endpoints)
    assert (await call("GET", "/hello/Ann"))[1] == "Hello, Ann!"
    await host.drain()
    hub.hosts.remove(host)
    await until(lambda: not call.server.table.endpoints)
    response, body = await call("GET", "/hello/Ann")
    assert (response.status, body["retry_after"]) == (503, 1.0)
    assert "'greeter' has just left" in body["detail"]
    assert (await call("GET", "/helo/Ann"))[0].status == 404
    monkeypatch.setattr(catalogue, "REMEMBERED_SECONDS", -1.0)
    assert (await call("GET", "/hello/Ann"))[0].status == 404


class Feed(Service):
    """Streams each way."""

    @endpoint(http="GET /ticks")
    async def out(self) -> AsyncIterator[int]:
        yield 1

    @endpoint
    async def taken(self, items: AsyncIterator[int]) -> int:
        return sum([item async for item in items])


SOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/ticks", {"Accept": "text/event-stream"}),
        ("GET", "/ticks", {"Accept": "application/x-ndjson"}),
        ("GET", "/feed/taken", SOCKET),
        ("POST", "/feed/taken", {"Content-Type": "application/x-ndjson"}),
    ],
)
async def test_a_stream_whose_service_has_just_gone_is_503(
    hub, start, until, method, path, headers
):
    """As for asks, in every form: trying again soon is right."""
    call = await start(hub, discovery_interval=3600)
    host = await hub.serve(Feed())
    await until(lambda: call.server.table.endpoints)
    await host.drain()
    hub.hosts.remove(host)
    await until(lambda: not call.server.table.endpoints)
    response, problem = await call(method, path, headers=headers)
    assert (response.status, problem["code"]) == (503, "unavailable")


@pytest.mark.parametrize(
    ("path", "method"), [("/rpc", "greeter.hello"), ("/rpc/greeter", "hello")]
)
async def test_a_method_whose_service_has_just_gone_is_unavailable(
    hub, start, until, monkeypatch, path, method
):
    """By JSON-RPC too; a moment later there is no such method."""
    call = await start(hub, discovery_interval=3600)
    host = await hub.serve(Greeter())
    await until(lambda: call.server.table.endpoints)
    await host.drain()
    hub.hosts.remove(host)
    await until(lambda: not call.server.table.endpoints)
    asked = {"jsonrpc": "2.0", "method": method, "params": ["Ann"], "id": 1}
    _, answer = await call("POST", path, json=asked)
    assert answer["error"]["code"] == -32014
    assert answer["error"]["data"]["retry_after"] == 1.0
    asked["method"] = "nobody.hello"
    assert (await call("POST", "/rpc", json=asked))[1]["error"]["code"] == -32601
    monkeypatch.setattr(catalogue, "REMEMBERED_SECONDS", -1.0)
    response, answer = await call("POST", path, json=asked)
    assert response.status == 404 or answer["error"]["code"] == -32601


async def test_a_renamed_method_is_no_lasting_conflict(
    memory_bus, start, foreign, caplog
):
    """Nobody is warned of what ends when the older instance leaves."""
    caplog.set_level("INFO", "kitmsg_gateways.http")
    facts = {"kit.http": "GET /vee"}
    foreign("vee", "vee.get", id="1", metadata=facts)
    foreign("vee", "vee.other", id="2", version="1.0.1", metadata=facts)
    call = await start(memory_bus)
    (conflict,) = call.server.table.conflicts
    assert "while instances of 'vee' differ: vee.get has that route" in conflict
    told = [r for r in caplog.records if r.message == conflict]
    assert [r.levelname for r in told] == ["INFO"]


async def test_one_route_for_two_methods_of_a_service_lasts(
    memory_bus, start, foreign, caplog
):
    """An instance that wants both is warned of at once."""
    foreign("vee", "vee.get", "vee.other", metadata={"kit.http": "GET /vee"})
    call = await start(memory_bus)
    (conflict,) = call.server.table.conflicts
    told = [r for r in caplog.records if r.message == conflict]
    assert [r.levelname for r in told] == ["WARNING"]


class Next(Service):
    """A later version of Greeter, with another parameter."""

    name = "greeter"
    version = "0.2.0"

    @endpoint(http="GET /hello/{name}")
    async def hello(self, name: str, times: int = 1) -> str:
        return f"Hello, {name}!" * times


async def test_a_new_version_takes_over_without_a_gap(hub, memory_bus, start, until):
    """The old routes stay until the schemas of the new ones are known."""
    host = await hub.serve(Greeter())
    call = await start(hub, discovery_interval=3600)
    tables = []
    stop = memory_bus.subscribe(
        "greeter._schema", lambda _: tables.append(call.server.table)
    )
    async with kitmsg.connect(bus=memory_bus) as another:  # of another process
        await another.serve(Next())
        await until(lambda: call.server.table.services["greeter"].version == "0.2.0")
        await until(lambda: call.server.table.endpoints[0].version == "0.2.0")
        stop.unsubscribe()
        await host.drain()
        hub.hosts.remove(host)
        assert [t.endpoints[0].version for t in tables] == ["0.1.0"]
        _, body = await call("GET", "/hello/Ann?times=2")
        assert body == "Hello, Ann!" * 2


async def test_one_instance_of_two_may_go(hub, start, until):
    """The other one keeps the service mounted."""
    host = await hub.serve(Greeter())
    await hub.serve(Greeter())
    call = await start(hub, discovery_interval=3600)
    await host.drain()
    hub.hosts.remove(host)
    assert (await call("GET", "/hello/Ann"))[1] == "Hello, Ann!"


async def test_foreign_services_come_and_go(memory_bus, start, foreign, until):
    """They announce nothing, so they are asked for in rounds."""
    call = await start(memory_bus, discovery_interval=0.01)
    responder = foreign("far", "far.do")
    await until(lambda: "far" in call.server.table.services)
    responder.stop()
    await until(lambda: "far" not in call.server.table.services)


async def test_the_first_service_by_name_keeps_a_route(hub, start, caplog):
    """The other one is logged, shown, and reachable by its own path."""
    await hub.serve(Twin())
    await hub.serve(Greeter())
    call = await start(hub)
    assert (await call("GET", "/hello/Ann"))[1] == "Hello, Ann!"
    assert (await call("POST", "/twin/hello", json={"who": "Ann"}))[1] == "twin"
    (conflict,) = call.server.table.conflicts
    assert "twin.hello" in conflict
    assert "greeter.hello has that route" in conflict
    assert conflict in caplog.text
    assert (await call("GET", "/openapi.json"))[1]["x-conflicts"] == [conflict]


async def test_nobody_takes_a_path_that_belongs_to_another(hub, start):
    """The gateway's pages and `POST /service/endpoint` are safe from declared routes."""
    await hub.serve(Thief())
    await hub.serve(Greeter())
    await hub.serve(Docs())
    call = await start(hub)
    response, _ = await call("GET", "/docs")
    assert response.content_type == "text/html"
    _, body = await call("POST", "/greeter/hello", json={"name": "Ann"})
    assert body == "Hello, Ann!"
    assert (await call("POST", "/docs/hello"))[1] == "docs"
    assert len(call.server.table.conflicts) == 2


async def test_metadata_of_a_foreign_service_is_honoured(memory_bus, start, foreign):
    """Route, timeout, description and schema, whatever the language."""
    schema = {
        "do": {
            "request": {"type": "object", "properties": {"n": {"type": "integer"}}},
            "response": {"type": "integer"},
        }
    }
    hash_ = document_hash(schema["do"])
    schema["do"]["hash"] = hash_
    foreign(
        "far",
        "far.do",
        metadata={
            "kit.http": "GET /far/{n}",
            "kit.schema": hash_,
            "kit.timeout": "1.5",
            "kit.idempotent": "true",
            "description": "Does it.",
        },
    )
    body = msgspec.json.encode(schema)
    memory_bus.subscribe(
        "far._schema", lambda message: memory_bus.publish(message.reply, body)
    )
    memory_bus.subscribe(
        "far.do", lambda message: memory_bus.publish(message.reply, message.data)
    )
    call = await start(memory_bus)
    assert (await call("GET", "/far/5"))[1] == {"n": 5}
    (mounted,) = call.server.table.endpoints
    assert mounted.timeout == 1.5
    assert mounted.is_idempotent
    assert mounted.description == "Does it."


def under_its_hash(reply: bytes) -> tuple[str, bytes]:
    """Return the hash of the schema in a reply, and the reply with it in its place."""
    if b'"h1"' not in reply:
        return "h1", reply
    said = msgspec.json.decode(reply)
    said["do"]["hash"] = document_hash(said["do"])
    return said["do"]["hash"], msgspec.json.encode(said)


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"[]",
        b'{"do": 5}',
        b'{"do": {"hash": 5}}',
        b'{"do": {"hash": "h1", "request": {"properties": {"n": 5}}}}',
        b'{"do": {"hash": "h1", "request": {"properties": [1]}}}',
        b'{"do": {"hash": "h1", "request": {"properties": {"n": true}}}}',
        b'{"do": {"hash": "h1", "request": {"required": [1, "a", null]}}}',
        b'{"do": {"hash": "h1", "request": {"required": 5}}}',
        b'{"do": {"hash": "h1", "request": {"$ref": "#/$defs/X", "$defs": {}}}}',
        b'{"do": {"hash": "h1", "request": {"properties": {"n": {"enum": 1}}}}}',
        b'{"do": {"hash": "h1", "request": {"properties": {"n": {"type": 1}}}}}',
        b'{"do": {"hash": "h1", "response": 5}}',
        b'{"do": {"hash": "h1", "errors": {"X": {"$defs": 5}}}}',
    ],
)
async def test_a_bad_schema_harms_nobody(memory_bus, hub, start, foreign, reply):
    """Its endpoint is mounted without one, and other services are not touched."""
    hash_, reply = under_its_hash(reply)
    metadata = {"kit.schema": hash_, "kit.http": "GET /far/{n}"}
    foreign("far", "far.do", metadata=metadata)
    for subject in ("far._schema", f"_kit.schema.far.{hash_}"):
        memory_bus.subscribe(
            subject, lambda message: memory_bus.publish(message.reply, reply)
        )
    await hub.serve(Greeter())
    call = await start(memory_bus)
    assert {e.path for e in call.server.table.endpoints} == {
        "/far/do",
        "/greeter/hello",
    }
    assert (await call("GET", "/openapi.json"))[0].status == 200


async def test_two_endpoints_of_one_name_are_told_apart(memory_bus, start, foreign):
    """Groups of a micro service may repeat a name; then the subject is the name."""
    foreign("far", "v1.do", "v2.do")
    call = await start(memory_bus)
    paths = [endpoint.path for endpoint in call.server.table.endpoints]
    assert paths == ["/far/v1.do", "/far/v2.do"]


async def test_the_newest_version_has_the_last_word(memory_bus, start, foreign):
    """By the rules of semantic versions, not by text."""
    for id_, version in (("1", "1.10.0"), ("2", "1.9.0"), ("3", "1.10.0-rc1")):
        metadata = {"description": version}
        foreign("far", "far.do", id=id_, version=version, metadata=metadata)
    call = await start(memory_bus)
    (mounted,) = call.server.table.endpoints
    assert mounted.version == mounted.description == "1.10.0"


@pytest.mark.parametrize("route", ["GET", "FETCH /x", "GET /x/{", "GET /a b"])
async def test_a_route_that_is_none_is_a_conflict(memory_bus, start, foreign, route):
    """The endpoint is still reachable by POST."""
    foreign("far", "far.do", metadata={"kit.http": route})
    call = await start(memory_bus)
    assert len(call.server.table.conflicts) == 1
    assert call.server.table.router.match("POST", "/far/do")


async def test_a_bus_that_was_away_is_looked_at_again(
    memory_bus, start, foreign, until
):
    """What started meanwhile is found when the bus is back, without waiting a round."""
    call = await start(memory_bus, discovery_interval=3600)
    memory_bus.disconnect()
    foreign("far", "far.do")
    memory_bus.reconnect()
    await until(lambda: "far" in call.server.table.services)
