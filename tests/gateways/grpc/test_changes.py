"""Services whose schemas change while clients are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

import kitmsg
from kitmsg import Service, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateways.grpc.conftest import Outside

GET = "vee.Vee/Get"


class Before(Service):
    name = "vee"

    @endpoint
    async def get(self, a: str, n: str = "d") -> str:
        return f"a={a} n={n}"

    @endpoint
    async def other(self) -> int:
        return 1


class After(Service):
    name = "vee"
    version = "2.0.0"

    @endpoint
    async def get(self, m: str = "e", n: str = "d", a: str = "") -> str:
        return f"a={a} n={n} m={m}"

    @endpoint
    async def other(self) -> int:
        return 2


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
    async def get(self, a: str, m: str = "e") -> str:
        return f"a={a} m={m}"


async def test_connected_clients_are_understood_after_a_change(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Fields keep their numbers in whatever order they come; new ones get new numbers."""
    host = await hub.serve(Before())
    outside: Outside = await start(hub)
    old, request = outside.stub(GET), outside.request(GET, a="x")
    assert (await old(request)).value == "a=x n=d"
    await host.drain(0)
    await hub.serve(After())
    await until(lambda: "2.0.0" in str(outside.server.table.methods.values()))
    assert (await old(request)).value == "a=x n=d m=e"
    assert (await outside(GET, m="new", a="y")).value == "a=y n=d m=new"


async def test_what_clients_would_misread_is_refused_until_it_fits(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That endpoint is UNAVAILABLE and the log names the field; the others stay."""
    host = await hub.serve(Before())
    outside: Outside = await start(hub)
    old, request = outside.stub(GET), outside.request(GET, a="x")
    await host.drain(0)
    host = await hub.serve(Breaking())
    await until(lambda: outside.server.table.refused)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await old(request)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "'vee'" in str(caught.value.details())
    assert "refused by this gateway; its log says why" in str(caught.value.details())
    assert (await outside("vee.Vee/Other")).value == 2
    (line,) = (line for line in caplog.messages if "is not served" in line)
    assert line.startswith("vee.get is not served: vee.GetRequest.a was 'string'")
    assert "or restart this gateway if there are no such clients" in line
    await host.drain(0)
    await hub.serve(Fitting())  # its `m` is not what the refused one had
    await until(lambda: "3.0.0" in str(outside.server.table.methods.values()))
    assert (await old(request)).value == "a=x m=e"
    gone = await _failure(outside, "/vee.Vee/Other")
    assert gone.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_with_a_lock_it_is_refused_from_the_start(
    hub: kitmsg.Kit, start: Callable[..., Any], tmp_path: Any
) -> None:
    """A gateway that starts beside a service that does not fit says so as well."""
    lock = tmp_path / "kitmsg.proto.lock"
    lock.write_text('[vee.GetRequest]\na = "1 string"\n')
    await hub.serve(Breaking())
    outside: Outside = await start(hub, lock=str(lock))
    failure = await _failure(outside, f"/{GET}")
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    (line,) = outside.server.table.refused
    assert f"delete its line in {lock} and restart this gateway" in line


async def _failure(outside: Outside, path: str) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await outside.channel.unary_unary(path)(b"")
    return caught.value
