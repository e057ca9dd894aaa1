"""Services whose schemas change while clients are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from thriftpy2.thrift import TApplicationException

import kitmsg
from kitmsg import Service, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateways.thrift.conftest import Outside


class Before(Service):
    name = "vee"

    @endpoint
    async def get(self, a: str, n: str = "d") -> str:
        return f"a={a} n={n}"

    @endpoint
    async def other(self) -> int:
        return 1


class Breaking(Service):
    name = "vee"
    version = "2.0.0"

    @endpoint
    async def get(self, m: int, a: int = 0) -> str:
        return f"{a} {m}"

    @endpoint
    async def other(self) -> int:
        return 2


class Fitting(Service):
    name = "vee"
    version = "3.0.0"

    @endpoint
    async def get(self, m: str = "e", a: str = "") -> str:
        return f"a={a} m={m}"


async def test_what_clients_would_misread_is_refused_until_it_fits(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That endpoint is unavailable and the log names the field; the others stay."""
    host = await hub.serve(Before())
    outside: Outside = await start(hub)
    client, module = await outside.client("Vee")
    assert await client.get(module.GetRequest("x", "y")) == "a=x n=y"
    await host.drain(0)
    host = await hub.serve(Breaking())
    await until(lambda: outside.server.table.refused)
    with pytest.raises(TApplicationException) as caught:
        await client.get(module.GetRequest("x"))
    assert str(caught.value.message) == (
        "unavailable: what 'vee' says of its types now is refused by this gateway; its"
        " log says why"
    )
    assert await client.other() == 2
    (line,) = (line for line in caplog.messages if "is not served" in line)
    assert line.startswith("vee.get is not served: vee.GetRequest.a was 'string'")
    await host.drain(0)
    await hub.serve(Fitting())  # its `m` is not what the refused one had
    await until(lambda: b"get" in outside.server.table.methods)
    assert await client.get(module.GetRequest("x")) == "a=x m=e"
    with pytest.raises(TApplicationException, match="there is no method 'other' here"):
        await client.other()


async def test_what_does_not_fit_an_idl_of_ones_own_is_there_all_the_same(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    write: Callable[..., str],
) -> None:
    """Callers are not told that the service has left."""
    host = await hub.serve(Before())
    text = "service Vee { string get(1: string a, 2: string n) }"
    outside: Outside = await start(hub, thrift=(write(text),))
    client, _ = await outside.client("Vee", text)
    assert await client.get("x", "y") == "a=x n=y"
    await host.drain(0)
    await hub.serve(Breaking())
    await until(lambda: outside.server.table.refused)
    with pytest.raises(TApplicationException, match="refused by this gateway"):
        await client.get("x", "y")
