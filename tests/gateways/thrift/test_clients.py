"""Clients that we did not write: code of the Apache compiler, with Apache's libraries."""

from __future__ import annotations

import asyncio
import importlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.protocol.TCompactProtocol import TCompactProtocol
from thrift.protocol.TMultiplexedProtocol import TMultiplexedProtocol
from thrift.Thrift import TApplicationException
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TBufferedTransport, TFramedTransport

from examples.addsvc.service import AddService
from tests import peers
from tests.gateways.thrift.services import Greeter
from tests.require import need

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROTOCOLS = {"binary": TBinaryProtocol, "compact": TCompactProtocol}
TRANSPORTS = {"buffered": TBufferedTransport, "framed": TFramedTransport}
WAYS = [(p, t) for p in PROTOCOLS for t in TRANSPORTS]


async def compiled(folder: Path, name: str, text: str) -> Any:
    """Return the package that the Apache compiler makes of an IDL."""
    compiler = need("thrift")
    (folder / f"{name}.thrift").write_text(text)
    arguments = ["-strict", "--gen", "py", "-out", str(folder), f"{name}.thrift"]
    done = await asyncio.create_subprocess_exec(
        compiler, *arguments, cwd=folder, stderr=subprocess.PIPE
    )
    _, errors = await done.communicate()
    assert done.returncode == 0, errors.decode()
    return name


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Give a function that imports what the compiler made, and forgets it afterwards."""
    monkeypatch.syspath_prepend(tmp_path)

    def get(package: str, module: str) -> Any:
        for name in [n for n in sys.modules if n.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        return importlib.import_module(f"{package}.{module}")

    return get


def connected(
    client: type, port: int, protocol: str, transport: str, multiplexed: str = ""
) -> tuple[Any, Any]:
    """Return a client of Apache's Python library, and its transport."""
    socket = TSocket("127.0.0.1", port)
    socket.setTimeout(10_000)
    around = TRANSPORTS[transport](socket)
    around.open()
    spoken = PROTOCOLS[protocol](around)
    if multiplexed:
        spoken = TMultiplexedProtocol(spoken, multiplexed)
    return client(spoken), around


@pytest.mark.parametrize(("protocol", "transport"), WAYS)
async def test_apache_s_python_client_with_the_exported_idl(
    hub, start, tmp_path, load, protocol, transport
):
    """Results, declared errors, other errors, and a name in front."""
    await hub.serve(Greeter())
    outside = await start(hub)
    await compiled(tmp_path, "greeter_gen", outside.idl())
    service = load("greeter_gen", "Greeter")
    errors = importlib.import_module("greeter_gen.ttypes")

    def talk() -> None:
        for multiplexed in ("", "Greeter"):
            client, around = connected(
                service.Client, outside.server.port, protocol, transport, multiplexed
            )
            assert client.hello("Änn €") == "Hello, Änn €!"
            assert client.tell("x") is None
            with pytest.raises(errors.Rude) as caught:
                client.refuse("Ann")
            assert (caught.value.name, caught.value.times) == ("Ann", 2)
            with pytest.raises(TApplicationException) as other:
                client.missing("it")
            assert other.value.type == TApplicationException.INTERNAL_ERROR
            around.close()

    await asyncio.to_thread(talk)


@pytest.mark.parametrize(("protocol", "transport"), WAYS)
async def test_apache_s_python_client_with_go_kit_s_idl(
    hub, start, tmp_path, load, protocol, transport
):
    """Business errors are in ``err``, as Go kit's addsvc has them."""
    await hub.serve(AddService())
    path = "examples/addsvc/addsvc.thrift"
    outside = await start(hub, thrift=(path,))
    with open(path) as file:
        await compiled(tmp_path, "addsvc_gen", file.read())
    service = load("addsvc_gen", "AddService")

    def talk() -> None:
        client, around = connected(
            service.Client, outside.server.port, protocol, transport
        )
        assert (client.Sum(1, 2).value, client.Sum(-5, 2).err) == (3, "")
        assert client.Sum(0, 0).err == "two zeroes are not worth a call"
        assert client.Concat("a", "b").value == "ab"
        around.close()

    await asyncio.to_thread(talk)


async def test_apache_s_cpp_client(hub, start):
    """With the exported IDL, in two ways to speak."""
    await hub.serve(AddService())
    outside = await start(hub)
    client = peers.path("thrift-cpp")
    process = await asyncio.create_subprocess_exec(
        client,
        str(outside.server.port),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    line = "3 abcd 2147483647 2147483647 + 1 is not within 32 bits\n"
    assert (process.returncode, out.decode()) == (0, line * 2)
