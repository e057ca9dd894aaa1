"""The gateway over NATS itself, as a user who may not do everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from thriftpy2.thrift import TApplicationException

import kitmsg
from kitmsg.bus.embedded import EmbeddedServer
from kitmsg.bus.nats import NatsBus
from kitmsg.errors import PermissionDenied
from tests.gateways.thrift.services import Greeter

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateways.thrift.conftest import Outside

DENIED = """
authorization { users: [
  { user: all, password: x }
  { user: edge, password: x, permissions: { publish: { deny: ["greeter.hello"] } } }
] }
"""


async def test_what_this_gateway_may_not_do_is_for_its_log(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Strangers learn no subject and no user; what a service denies still passes."""

    class Guarded(kitmsg.Service):
        @kitmsg.endpoint
        async def enter(self) -> None:
            raise PermissionDenied("not you")

    with EmbeddedServer(jetstream=False, config=DENIED) as server:
        bus = await NatsBus.connect(server.url, user="all", password="x")
        edge = await NatsBus.connect(server.url, user="edge", password="x")
        async with kitmsg.connect(bus=bus) as kit, kitmsg.connect(bus=edge):
            await kit.serve(Greeter())
            await kit.serve(Guarded())
            outside: Outside = await start(edge)
            client, _ = await outside.client("Greeter")
            with pytest.raises(TApplicationException) as caught:
                await client.hello("Ann")
            assert str(caught.value.message).startswith("internal: ")
            assert "NATS" not in str(caught.value.message)
            client, _ = await outside.client("Guarded")
            with pytest.raises(TApplicationException, match="permission_denied: not"):
                await client.enter()
            await outside.server.stop()
    assert "this NATS user may not send to 'greeter.hello'" in caplog.text
