"""Server reflection, as grpcurl and its like use it: list, describe, call."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from kitmsg_gateways.grpc.reflection import Reflection
from tests.gateways.grpc.services import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    import kitmsg
    from tests.gateways.grpc.conftest import Outside


async def test_a_dynamic_client_lists_describes_and_calls(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """The reflection database of grpcio is enough to call a service never seen before."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)

    def work() -> tuple[list[str], float]:
        with grpc.insecure_channel(outside.server.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = list(database.get_services())
            pool = DescriptorPool(database)
            method = pool.FindServiceByName("shop.Shop").methods_by_name["Price"]
            request = GetMessageClass(method.input_type)(name="tea", count=2)
            call = channel.unary_unary(
                "/shop.Shop/Price",
                lambda message: message.SerializeToString(),
                GetMessageClass(method.output_type).FromString,
            )
            return services, call(request).value

    services, value = await asyncio.to_thread(work)
    assert {"shop.Shop", "grpc.health.v1.Health"} <= set(services)
    assert value == 5.0


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_both_versions_follow_what_is_served(
    hub: kitmsg.Kit,
    start: Callable[..., Any],
    until: Callable[..., Any],
    version: str,
) -> None:
    """One stream of questions sees a service appear and leave, and describes itself."""
    outside: Outside = await start(hub)
    name = f"grpc.reflection.{version}.ServerReflection"
    begin = outside.channel.stream_stream(
        f"/{name}/ServerReflectionInfo",
        lambda message: message.SerializeToString(),
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = outside.keep(begin())

    async def ask(**question: str) -> Any:
        await call.write(reflection_pb2.ServerReflectionRequest(**question))
        return await call.read()

    async def services() -> set[str]:
        answer = await ask(list_services="")
        return {each.name for each in answer.list_services_response.service}

    assert "shop.Shop" not in await services()
    host = await hub.serve(Shop())
    await until(lambda: outside.server.table.methods)
    assert {"shop.Shop", name} <= await services()
    answer = await ask(file_containing_symbol="shop.Shop.Price")
    assert answer.file_descriptor_response.file_descriptor_proto
    answer = await ask(file_containing_symbol=name)
    assert answer.file_descriptor_response.file_descriptor_proto
    answer = await ask(file_containing_symbol="no.Such")
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    await host.drain(0)
    await until(lambda: not outside.server.table.methods)
    assert "shop.Shop" not in await services()
    await call.done_writing()


async def test_reflection_can_be_turned_off(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Without it nobody can ask."""
    outside: Outside = await start(hub, reflection=False)
    name = "grpc.reflection.v1.ServerReflection"
    call = outside.keep(
        outside.channel.stream_stream(f"/{name}/ServerReflectionInfo")()
    )
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_file_that_fits_no_other_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What cannot be described hides nothing else."""
    good = FileDescriptorProto(name="good.proto", package="good", syntax="proto3")
    good.service.add(name="Good")
    bad = FileDescriptorProto(name="bad.proto", package="bad", syntax="proto3")
    bad.dependency.append("missing.proto")
    reflection = Reflection([])
    reflection.show(["good.Good"], [bad, good])
    assert "cannot show bad.proto" in caplog.text
    assert reflection._pool.FindServiceByName("good.Good").name == "Good"
