"""Findings of gRPC's interop client: compression, constants, messages, binary metadata."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import grpc
import grpc.aio
import msgspec
import pytest
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

import kitmsg_gateways.grpc
from kitmsg import BusinessError, Code, Context, Service, endpoint
from kitmsg.errors import KitError, Unavailable, error_for
from kitmsg_gateways.grpc.load import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import kitmsg
    from tests.gateways.grpc.conftest import Outside

PROTO = """syntax = "proto3";
package interop;
service Interop {
  rpc Tell(Text) returns (Nothing);
  rpc Sort(Sorted) returns (Sorted);
  rpc Nowhere(Nothing) returns (Nothing);
}
message Nothing {}
message Text { string text = 1; }
enum Payload { OTHER = 0; COMPRESSABLE = 1; RANDOM = 2; }
message Sorted { Payload kind = 1; string version = 2; string text = 3; }
"""
TEXT = "\t\ntest with whitespace\r\nand Unicode ☺ and 😈\t\n"


class Sorted(msgspec.Struct):
    kind: Literal["COMPRESSABLE"]
    version: Literal["v1"]
    text: str


class Failed(BusinessError):
    """It failed."""

    code = Code.ABORTED
    at: datetime
    of: UUID
    cost: Decimal


class Methods(msgspec.Struct):
    SerializeToString: str
    HasField: str | None = None
    Clear: str = "c"
    WhichOneof: str = "w"
    MergeFromString: int = 1


class Misnamed(BusinessError):
    """Its fields have the names of methods."""

    SerializeToString: str
    Clear: str


class Interop(Service):
    """Answers what the tests ask."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    @endpoint
    async def tell(self, ctx: Context, text: str) -> None:
        self.seen = dict(ctx.headers)
        if text != "ok":
            raise error_for(Code.UNKNOWN, text)

    @endpoint
    async def sort(self, it: Sorted) -> Sorted:
        return it

    @endpoint
    async def long(self) -> str:
        return "a" * 100_000

    @endpoint(raises=[Failed])
    async def fail(self) -> None:
        at = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
        raise Failed(at, UUID(int=7), Decimal("9.50"))

    @endpoint(raises=[Misnamed])
    async def names(self, it: Methods) -> Methods:
        if not it.SerializeToString:
            raise Misnamed("s", "c")
        return it

    @endpoint
    async def out(self) -> None:
        raise Unavailable("the database is away", retry_after=3)

    @endpoint(idempotent=True)
    async def away(self) -> None:
        raise Unavailable("the database is away", retry_after=3)


def trailers(failure: grpc.aio.AioRpcError) -> dict[str, Any]:
    """Return the trailing metadata of a failure."""
    return dict(failure.trailing_metadata() or ())


def info(failure: grpc.aio.AioRpcError) -> Any:
    """Return the `ErrorInfo` of a failure."""
    status = status_pb2.Status.FromString(trailers(failure)["grpc-status-details-bin"])
    found = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(found) for detail in status.details)
    return found


@pytest.fixture
async def interop(hub: kitmsg.Kit) -> Interop:
    service = Interop()
    await hub.serve(service)
    return service


@pytest.fixture
def proto(tmp_path: Path) -> str:
    (tmp_path / "interop.proto").write_text(PROTO)
    return str(tmp_path / "interop.proto")


@pytest.mark.usefixtures("interop")
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_a_client_is_answered_in_what_it_accepts(
    hub: kitmsg.Kit, start: Callable[..., Any], compression: str
) -> None:
    """One that lists no compression gets none; its library would fail the call."""
    outside: Outside = await start(hub, compression=compression)
    bits = {"none": 1, "deflate": 3, "gzip": 5, "all": 7}
    for accepted in bits.values():
        option = ("grpc.compression_enabled_algorithms_bitset", accepted)
        async with grpc.aio.insecure_channel(
            outside.server.address, options=[option]
        ) as channel:
            data = await channel.unary_unary("/interop.Interop/Long")(b"", timeout=10)
            assert len(data) > 100_000


@pytest.mark.usefixtures("interop")
async def test_a_field_with_one_value_may_be_in_a_proto(
    hub: kitmsg.Kit, start: Callable[..., Any], proto: str
) -> None:
    """It is filled where it is not set, checked where it is, and there in replies."""
    with contextlib.suppress(KitError):
        await start(hub, proto=(proto,))
    text = PROTO.replace("  rpc Nowhere(Nothing) returns (Nothing);\n", "")
    with open(proto, "w") as file:
        file.write(text)
    outside: Outside = await start(hub, proto=(proto,))
    for fields in ({}, {"kind": 1, "version": "v1"}):
        reply = await outside("interop.Interop/Sort", text="x", **fields)
        assert (reply.kind, reply.version, reply.text) == (1, "v1", "x")
    for wrong in ({"kind": 2}, {"version": "v2"}):
        failure = await outside.failure("interop.Interop/Sort", text="x", **wrong)
        assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "has to be" in failure.details()


async def test_a_method_that_its_service_lacks_is_unimplemented(
    hub: kitmsg.Kit, start: Callable[..., Any], proto: str, until: Callable[..., Any]
) -> None:
    """Coming back would not help: no pushback, no UNAVAILABLE."""
    outside: Outside = await start(hub, proto=(proto,))
    failure = await outside.failure("interop.Interop/Nowhere")
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    await hub.serve(Interop())
    await until(lambda: outside.server.table.methods)
    failure = await outside.failure("interop.Interop/Nowhere")
    assert failure.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "grpc-retry-pushback-ms" not in trailers(failure)


@pytest.mark.usefixtures("interop")
@pytest.mark.parametrize("text", [TEXT, "", " 100 % ", "a  b", "unknown"])
async def test_a_message_crosses_unchanged(
    hub: kitmsg.Kit, start: Callable[..., Any], text: str
) -> None:
    """White space at any place and none at all: over gRPC, and in the Python client."""
    outside: Outside = await start(hub)
    failure = await outside.failure("interop.Interop/Tell", text=text)
    assert failure.code() is grpc.StatusCode.UNKNOWN
    assert failure.details() == text
    with pytest.raises(KitError) as caught:
        await hub.client(Interop).tell(text)
    assert caught.value.message == text


async def test_bytes_cross_under_a_key_that_ends_with_bin(
    hub: kitmsg.Kit, start: Callable[..., Any], interop: Interop, proto: str
) -> None:
    """In base64 on the bus, as bytes over gRPC: into a service and out of an upstream."""
    outside: Outside = await start(hub, forward_metadata=("x-any-bin",))
    sent = {"metadata": (("x-any-bin", b"\x00\xff\x80"),)}
    await outside("interop.Interop/Tell", text="ok", with_=sent)
    assert interop.seen["x-any-bin"] == "AP+A"
    interop.seen.clear()
    far = kitmsg_gateways.grpc.Upstream(
        outside.server.address, load([proto]), name="far"
    )
    ctx = Context(metadata={"x-any-bin": "AP+A"})
    await far.endpoint("tell")(ctx, {"text": "ok"})
    assert interop.seen["x-any-bin"] == "AP+A"


@pytest.mark.usefixtures("interop")
async def test_a_message_crosses_an_upstream_unchanged(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A gateway, an upstream and the bus between them."""
    outside: Outside = await start(hub)
    await hub.serve(
        kitmsg_gateways.grpc.Upstream(outside.server.address, Interop, name="far")
    )
    over: Outside = await start(hub)
    failure = await over.failure("far.Far/Tell", text=TEXT)
    assert failure.details() == TEXT


@pytest.mark.usefixtures("interop")
async def test_reflection_knows_the_details_of_errors(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """So that grpcurl shows them."""
    outside: Outside = await start(hub)
    pool = outside.server._reflection._pool
    names = ("Status", "ErrorInfo", "BadRequest", "RetryInfo", "RequestInfo")
    for name in (f"google.rpc.{each}" for each in names):
        assert pool.FindMessageTypeByName(name).full_name == name


@pytest.mark.usefixtures("interop")
async def test_facts_of_an_error_are_plain_text(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Times, UUIDs and decimals are no JSON in quotes."""
    outside: Outside = await start(hub)
    assert dict(info(await outside.failure("interop.Interop/Fail")).metadata) == {
        "at": "2024-05-06T07:08:09Z",
        "of": "00000000-0000-0000-0000-000000000007",
        "cost": "9.50",
    }


@pytest.mark.usefixtures("interop")
async def test_fields_may_have_the_names_of_methods(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Of protobuf's messages: in requests, results and errors."""
    outside: Outside = await start(hub)
    method = outside.method("interop.Interop/Names")
    asked_type = GetMessageClass(method.input_type)
    told_type = GetMessageClass(method.output_type)
    call = outside.channel.unary_unary("/interop.Interop/Names")
    asked = asked_type(SerializeToString="a", HasField="b")
    reply: Any = told_type.FromString(
        await call(asked_type.SerializeToString(asked), timeout=10)
    )
    assert (reply.SerializeToString, reply.HasField, reply.Clear) == ("a", "b", "c")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"", timeout=10)
    assert info(caught.value).metadata["SerializeToString"] == "s"
    far = kitmsg_gateways.grpc.Upstream(outside.server.address, Interop)
    assert await far.client(Interop).names(Methods("x")) == Methods("x")


async def test_unavailable_says_whether_it_may_be_repeated(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """-1, never, where the work may have begun; a time where another try is safe."""
    host = await hub.serve(Interop())
    outside: Outside = await start(hub)
    failure = await outside.failure("interop.Interop/Out")
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert trailers(failure)["grpc-retry-pushback-ms"] == "-1"
    failure = await outside.failure("interop.Interop/Away")
    assert trailers(failure)["grpc-retry-pushback-ms"] == "3000"
    request = outside.request("interop.Interop/Out")
    await host.intake.drain(0)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await outside.channel.unary_unary("/interop.Interop/Out")(
            request.SerializeToString(), timeout=10
        )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert trailers(caught.value)["grpc-retry-pushback-ms"] == "1000"


async def test_an_upstream_that_is_not_reached_has_begun_nothing(
    hub: kitmsg.Kit,
) -> None:
    """The error says so across the bus, so that `retry` may repeat the call."""
    far = kitmsg_gateways.grpc.Upstream("127.0.0.1:1", Interop, name="far")
    await hub.serve(far)
    with pytest.raises(Unavailable) as caught:
        await hub.call("far.out")
    assert caught.value.refused == "far.out"


async def test_an_enum_of_one_value_crosses_an_upstream(
    hub: kitmsg.Kit, start: Callable[..., Any], tmp_path: Path
) -> None:
    """A gateway serves the .proto of the upstream's own server."""
    path = tmp_path / "one.proto"
    path.write_text(
        'syntax = "proto3"; package one;\n'
        "service One { rpc Get(Ask) returns (Ask); }\n"
        "enum Only { ONE = 0; } message Ask { Only only = 1; string text = 2; }\n"
    )
    server = grpc.aio.server()
    echo = grpc.unary_unary_rpc_method_handler(_echo)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("one.One", {"Get": echo}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    far = kitmsg_gateways.grpc.Upstream(
        f"127.0.0.1:{port}", load([str(path)]), name="one"
    )
    await hub.serve(far)
    outside: Outside = await start(hub, proto=(str(path),))
    assert (await outside("one.One/Get", text="x")).text == "x"
    await server.stop(None)


async def _echo(data: bytes, _: Any) -> bytes:
    return data
