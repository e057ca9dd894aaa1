"""Clients made by protoc from the .proto that kitmsg writes."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.idl.lock import Lock
from kitmsg.idl.service import Description, shape_service
from kitmsg_gateways.grpc.generate import generate
from tests.gateways.grpc.services import Shop, Streams
from tests.require import miss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import kitmsg
    from tests.gateways.grpc.conftest import Outside


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The modules that protoc generates, by name."""
    if importlib.util.find_spec("grpc_tools") is None:
        miss("grpcio-tools is not installed: pip install 'kitmsg[grpc-tools]'")
    services = [
        shape_service(
            cls.name,
            [
                Description(d.name, d.describe(), "", d.signature.stream)
                for d in cls.__declarations__.values()
            ],
        )
        for cls in (Shop, Streams)
    ]
    for name, text in generate(services, Lock()).items():
        (tmp_path / name).write_text(text)
        words = [f"-I{tmp_path}", f"--python_out={tmp_path}"]
        words += [f"--grpc_python_out={tmp_path}", name]
        command = [sys.executable, "-m", "grpc_tools.protoc", *words]
        subprocess.run(command, check=True, cwd=tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("shop_pb2", "shop_pb2_grpc", "streams_pb2", "streams_pb2_grpc")
    found = {name: importlib.import_module(name) for name in names}
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    return found


async def test_generated_stubs_call_the_gateway(
    hub: kitmsg.Kit, start: Callable[..., Any], stubs: dict[str, Any]
) -> None:
    """What a team generates in any language is what the gateway speaks."""
    await hub.serve(Shop())
    await hub.serve(Streams())
    outside: Outside = await start(hub)
    messages = stubs["shop_pb2"]
    shop = stubs["shop_pb2_grpc"].ShopStub(outside.channel)
    assert (await shop.Price(messages.PriceRequest(name="tea", count=2))).value == 5.0
    cup = messages.Cup(name="mug", size=messages.SIZE_SMALL, price=1.0, tags=["a"])
    made = await shop.Make(messages.MakeRequest(cup=cup))
    assert (made.name, made.size, list(made.tags)) == (
        "mug",
        messages.SIZE_SMALL,
        ["a"],
    )
    numbers = stubs["streams_pb2"]
    streams = stubs["streams_pb2_grpc"].StreamsStub(outside.channel)
    counted = outside.keep(streams.Count(numbers.CountRequest(to=3)))
    assert [item.value async for item in counted] == [1, 2, 3]
    total = streams.Total(iter([numbers.TotalItem(value=n) for n in (1, 2, 3)]))
    assert (await outside.keep(total)).value == 6
