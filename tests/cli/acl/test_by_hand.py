"""Services, clients and upstreams that are wired by hand have rights by name."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from examples.addsvc import explicit, gokit
from examples.addsvc.service import AddService, TwoZeroes
from examples.stringsvc.stringsvc1 import BasicStrings, ask, start
from examples.stringsvc.stringsvc3 import Proxying
from kitmsg import Context
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.discovery.fixed import FixedInstancer
from kitmsg.discovery.instance import Instance
from kitmsg.errors import BusDenied
from kitmsg.middleware import log
from kitmsg.schema import signature
from kitmsg_gateways.http.upstream import Upstream
from tests.cli.acl.users import connected, own, printed

if TYPE_CHECKING:
    from collections.abc import Iterator


STRINGS = ("stringsvc", "strings1", "strings2", "strings3", "proxy")

BY_HAND = [
    "--service=addsvc=addsvc.sum,addsvc.concat",
    *(f"--service={name}={name}.uppercase,{name}.count" for name in STRINGS),
    *(f"--queue={name}=stringsvc" for name in STRINGS),
    *(f"--calls=proxy={name}" for name in STRINGS[1:4]),
    "--upstream=payments",
    "--upstream=parcels=get",
]


@pytest.fixture
def by_hand(capsys: Any) -> Iterator[EmbeddedServer]:
    """A server with the users of services that have no class."""
    config = re.sub(
        r"password: \$KITMSG_PASSWORD_(\w+)", own, printed(capsys, *BY_HAND)
    )
    with EmbeddedServer(config=config) as made:
        yield made


async def test_services_wired_by_hand_work(by_hand, caplog, capsys):
    """Go kit's string service in its three steps, the last with instances of its own."""
    async with contextlib.AsyncExitStack() as stack:

        async def bus_of(name: str) -> Any:
            return (await stack.enter_async_context(connected(by_hand, name))).bus

        for name in STRINGS[:4]:
            intake = await start(await bus_of(name), BasicStrings(), log(), name=name)
            stack.push_async_callback(intake.drain)
        bus = await bus_of("proxy")
        instances = FixedInstancer(Instance(address=name) for name in STRINGS[1:4])
        proxying = Proxying(BasicStrings(), instances, bus)
        stack.push_async_callback(proxying.close)
        intake = await start(bus, proxying, name="proxy")
        stack.push_async_callback(intake.drain)
        client = await bus_of("client")
        for name in ("stringsvc", "proxy"):
            await ask(client, f"{name}.uppercase", '{"s":"hello"}')
            await ask(client, f"{name}.count", '{"s":"hello"}')
        denied: list[str] = []
        bus.watch_denials(denied.append)
        bus.publish("stringsvc.count", b"")
        bus.subscribe("stringsvc.count", lambda _: None, "stringsvc")
        bus.subscribe("proxy.count", lambda _: None, "q")
        await bus.flush()
        assert denied == ["stringsvc.count", "stringsvc.count", "proxy.count"]
    out = capsys.readouterr().out
    assert out.count('<- {"v":"HELLO"}') == out.count('<- {"v":5}') == 2


@pytest.mark.parametrize("wired", ["explicit", "gokit"])
async def test_addsvc_wired_in_other_ways_works(by_hand, wired, caplog):
    """With a server and a client by hand, and as Go kit's own."""
    async with (
        connected(by_hand, "addsvc") as kit,
        connected(by_hand, "client") as calls,
    ):
        method = AddService().sum
        if wired == "gokit":
            await kit.serve(gokit.make_service())
            reply = await calls.bus.request("addsvc.sum", b'{"a":1,"b":2}', 5.0)
            assert reply.data == b'{"v":3}'
        else:
            served = explicit.make_server(kit.bus, method, "addsvc.sum")
            await served.start()
            call = explicit.make_client(calls.bus, method, "addsvc.sum")
            bind = signature(method).bind
            assert await call(Context(), bind(1, 2)) == 3
            with pytest.raises(TwoZeroes):
                await call(Context(), bind(0, 0))
            await served.drain()
    assert "ermission" not in caplog.text


async def test_an_upstream_works_under_its_name(by_hand, caplog):
    """With all endpoints or with those that are named, by a gateway's user too."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(request.path)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with TestServer(app) as api, contextlib.AsyncExitStack() as stack:
        routes = {"get": "GET /of/{id}", "list": "GET /all"}
        for name in ("payments", "parcels"):
            kit = await stack.enter_async_context(connected(by_hand, name))
            given = routes if name == "payments" else {"get": routes["get"]}
            await kit.serve(Upstream(str(api.make_url("")), given, name=name))
        for user in ("client", "gateway", "cli"):
            calls = await stack.enter_async_context(connected(by_hand, user))
            assert await calls.call("payments.get", id="7") == "/of/7"
            assert await calls.call("payments.list") == "/all"
            assert await calls.call("parcels.get", id="8") == "/of/8"
            assert "ermission" not in caplog.text
            with pytest.raises(BusDenied):
                await calls.call("parcels.list")
            caplog.clear()
