"""Names of services and methods: multiplexed, left out, chosen, and those that come and go."""

from __future__ import annotations

import logging

import pytest

from kitmsg import Service, endpoint
from kitmsg_gateways.thrift import GatewayOptions
from tests.gateways.thrift.messages import call, text
from tests.gateways.thrift.services import Greeter


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
