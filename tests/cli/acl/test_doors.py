"""Gateways, the command line and log levels work with exactly their rights."""

from __future__ import annotations

import json

import aiohttp
import pytest

import kitmsg
import kitmsg_gateways.http
from examples.greeter import Greeter
from examples.ticker import Ticker
from kitmsg import Event, Service
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.cli.acl import users_of, with_events
from kitmsg.cli.app import main
from kitmsg.discovery.subject import find_stats, ping_services
from kitmsg.errors import KitError
from kitmsg.events.declared import Declared, apply, plan
from kitmsg.logs.levels import LevelOrder
from kitmsg.worker.levels import LevelResponder, ask_levels
from kitmsg_gateways.http import GatewayOptions
from tests.cli.acl.users import administered, configured, connected, working


async def test_a_gateway_and_the_command_line_work(server, caplog):
    """Discovery, presence, schemas, calls and streams over HTTP; counters for the CLI."""
    async with (
        working(server, Greeter, Ticker),
        connected(server, "gateway") as kit,
        connected(server, "cli") as cli,
    ):
        gateway = await kitmsg_gateways.http.serve(kit, GatewayOptions(port=0))
        try:
            async with aiohttp.ClientSession(gateway.url) as session:
                async with session.get("/hello/Ann") as response:
                    assert await response.json() == "Hello, Ann!"
                async with session.get("/openapi.json") as response:
                    assert "/hello/{name}" in (await response.json())["paths"]
        finally:
            await gateway.stop()
        assert {each.name for each in await ping_services(cli.bus)} == {
            "greeter",
            "ticker",
        }
        assert len(await find_stats(cli.bus, "greeter")) == 1
        assert await cli.call("greeter.hello", name="Ann") == "Hello, Ann!"
    assert "ermission" not in caplog.text


class Rang(Event, subject="bells.rang.{door}"):
    """Somebody is at a door."""

    door: str


class Broke(Event, subject="bells.broke.{door}"):
    """A bell is silent."""

    door: str


class Bells(Service):
    """Has events that gateways may open."""

    publishes = (Rang, Broke)


async def test_a_gateway_publishes_and_reads_the_events_that_are_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And no others; it makes neither a stream nor a consumer."""
    users = with_events(
        users_of([Bells], [], []), [Bells], ["bells.rang", "bells.broke:read"]
    )
    (rights,) = (user for user in users if user.name == "gateway")
    assert not any("CREATE" in subject for subject in rights.publish)
    with EmbeddedServer(config=administered(configured(users))) as server:
        await _make_stream(server)
        async with working(server, Bells), connected(server, "gateway") as kit:
            options = GatewayOptions(port=0, events=("bells.rang", "bells.broke"))
            gateway = await kitmsg_gateways.http.serve(kit, options)
            try:
                await _ring(gateway.url)
            finally:
                await gateway.stop()
            assert "ermission" not in caplog.text
            async with connected(server, "gateway") as other:
                with pytest.raises(KitError, match="ermission|may not"):
                    await other.publish(Broke("front"))


async def test_a_gateway_that_may_not_read_an_event_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A client gets no names of the bus; the gateway's log has what to do."""
    users = with_events(users_of([Bells], [], []), [Bells], ["bells.rang:read"])
    (subject,) = {s for u in users for s in u.subscribe if s.startswith("event.")}
    config = administered(configured(users, **{f', "{subject}"': ""}))
    with EmbeddedServer(config=config) as server:
        await _make_stream(server)
        async with working(server, Bells), connected(server, "gateway") as kit:
            options = GatewayOptions(port=0, events=("bells.rang",))
            gateway = await kitmsg_gateways.http.serve(kit, options)
            try:
                async with (
                    aiohttp.ClientSession(gateway.url) as session,
                    session.get("/events/bells.rang") as response,
                ):
                    told = await response.read()
            finally:
                await gateway.stop()
    assert b"internal" in told
    assert b"event." not in told
    assert "kitmsg acl --events" in caplog.text


async def _make_stream(server: EmbeddedServer) -> None:
    declared = Declared()
    declared.event(Rang)
    async with kitmsg.connect(server.url, user="admin", password="admin") as admin:
        await apply(admin.jetstream, await plan(admin.jetstream, declared))


async def _ring(url: str) -> None:
    """Publish an event, twice, and follow it."""
    sent = {"specversion": "1.0", "id": "1", "source": "/", "type": "bells.rang"}
    body = json.dumps({**sent, "data": {"door": "front"}})
    headers = {"Content-Type": "application/cloudevents+json"}
    async with (
        aiohttp.ClientSession(url) as session,
        session.get("/events/bells.rang?since=1") as following,
    ):
        for is_again in (False, True):
            async with session.post(
                "/events/bells.rang", data=body, headers=headers
            ) as response:
                assert await response.json() == {"sequence": 1, "duplicate": is_again}
        assert json.loads(await following.content.readline())["sequence"] == "1"
        async with session.get("/events/bells.broke?since=1&follow=false") as response:
            assert await response.read() == b""


def test_an_event_that_no_service_has(capsys):
    """The sentence has those that there are."""
    target = f"{__name__}:Bells"
    assert main(["acl", target, "--events", "bells.rung"]) == 2
    assert "there is bells.broke, bells.rang" in capsys.readouterr().err
    assert main(["acl", target, "--events", "bells.rang:read"]) == 0
    assert "event.bells.rang.*" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("user", "name"), [("greeter", "greeter"), ("gateway", "gateway.http")]
)
async def test_log_levels_are_set_with_exactly_these(server, caplog, user, name):
    """The command line gives the order; services and gateways hear it and answer."""
    async with connected(server, user) as kit, connected(server, "cli") as cli:
        responder = LevelResponder(kit.bus)
        responder.start([(name, "1")])
        await kit.bus.flush()
        (report,) = await ask_levels(cli.bus, name, LevelOrder())
        assert (report.name, report.error) == (name, "")
        responder.stop()
    assert "ermission" not in caplog.text
