"""A .proto of the user's own: mapped by names, checked, and served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator  # noqa: TC003  # read with the signature
from datetime import datetime, timedelta  # noqa: TC003  # read with the types
from enum import Enum
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import msgspec
import pytest

import kitmsg_gateways.grpc
from examples.addsvc.service import AddService
from kitmsg import BusinessError, Service, endpoint
from kitmsg.errors import FailedPrecondition
from kitmsg_gateways.grpc import GatewayOptions, load as loading
from tests.gateways.grpc.services import Shop, Streams

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import kitmsg
    from tests.gateways.grpc.conftest import Outside

ADDSVC = "examples/addsvc/addsvc.proto"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Give a function that writes a .proto and returns its path."""

    def make(body: str, name: str = "api.proto") -> str:
        path = tmp_path / name
        path.write_text(f'syntax = "proto3";\npackage api;\n{body}')
        return str(path)

    return make


async def test_serves_go_kits_addsvc(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """`pb.Add` finds `addsvc` by its name; business errors are in the reply's `err`."""
    await hub.serve(AddService())
    outside: Outside = await start(hub, proto=(ADDSVC,))
    reply = await outside("pb.Add/Sum", a=1, b=2)
    assert (reply.v, reply.err) == (3, "")
    reply = await outside("pb.Add/Sum")
    assert (reply.v, reply.err) == (0, "two zeroes are not worth a call")
    reply = await outside("pb.Add/Concat", a="a", b="b")
    assert (reply.v, reply.err) == ("ab", "")


async def test_bytes_are_those_of_go_kits_messages(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A SumRequest as Go writes it gets a SumReply as Go reads it."""
    await hub.serve(AddService())
    outside: Outside = await start(hub, proto=(ADDSVC,))
    call = outside.channel.unary_unary("/pb.Add/Sum")
    assert await call(b"\x08\x01\x10\x02") == b"\x08\x03"
    minus = b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"  # a = -2
    assert await call(minus) == b"\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"


async def test_a_service_that_is_not_there_yet_is_waited_for(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Its methods are UNAVAILABLE until it comes, and reflection tells of them."""
    outside: Outside = await start(hub, proto=(ADDSVC,))
    failure = await outside.failure("pb.Add/Sum", a=1)
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert "pb.Add" in outside.server.table.services
    await hub.serve(AddService())
    await until(lambda: outside.server.table.methods)
    assert (await outside("pb.Add/Sum", a=1)).v == 1


SHOP = """
service Store {{
  rpc Price({request}) returns ({reply});
}}
message Ask {{ {ask} }}
message Answer {{ {answer} }}
"""


@pytest.mark.parametrize(
    ("ask", "answer", "text"),
    [
        ("int64 count = 2;", "double v = 1;", "lacks the field 'name'"),
        ("int64 name = 1;", "double v = 1;", "api.Ask.name is int64; shop.price has"),
        ("string name = 1; bool x = 2;", "double v = 1;", "api.Ask.x: shop.price does"),
        ("string name = 1;", "string v = 1;", "api.Answer.v is string"),
        ("string name = 1;", "double v = 1; int64 w = 2;", "needs one field"),
        ("repeated string name = 1;", "double v = 1;", "is repeated string"),
        (
            "string name = 1; Ask count = 2;",
            "double v = 1;",
            "api.Ask.count is api.Ask",
        ),
    ],
)
async def test_a_proto_that_does_not_fit_is_refused_with_the_field(
    hub: kitmsg.Kit, write: Callable[..., str], ask: str, answer: str, text: str
) -> None:
    """The gateway does not start, and says which field and why."""
    await hub.serve(Shop())
    body = SHOP.format(request="Ask", reply="Answer", ask=ask, answer=answer)
    options = GatewayOptions(port=0, proto=(write(body),), map=("api.Store=shop",))
    with pytest.raises(FailedPrecondition) as caught:
        await kitmsg_gateways.grpc.serve(hub, options)
    assert text in str(caught.value)


async def test_a_stream_and_no_stream_do_not_fit(
    hub: kitmsg.Kit, write: Callable[..., str]
) -> None:
    """Both ways are checked."""
    await hub.serve(Shop())
    body = SHOP.format(
        request="stream Ask",
        reply="Answer",
        ask="string name = 1;",
        answer="double v=1;",
    )
    options = GatewayOptions(port=0, proto=(write(body),), map=("api.Store=shop",))
    with pytest.raises(FailedPrecondition, match="does not stream its requests"):
        await kitmsg_gateways.grpc.serve(hub, options)


async def test_a_service_that_comes_later_and_does_not_fit_is_unavailable(
    hub: kitmsg.Kit,
    write: Callable[..., str],
    start: Callable[..., Any],
    until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names the field; the caller hears that it cannot be had."""
    body = SHOP.format(
        request="Ask", reply="Answer", ask="bytes name = 1;", answer="double v = 1;"
    )
    outside: Outside = await start(hub, proto=(write(body),), map=("api.Store=shop",))
    await hub.serve(Shop())
    await until(lambda: outside.server.table.refused)
    assert "api.Ask.name is bytes" in caplog.text
    assert "no endpoint" not in caplog.text  # not even while its schemas are fetched
    failure = await outside.failure("api.Store/Price", name=b"tea")
    assert failure.code() is grpc.StatusCode.UNAVAILABLE
    assert "does not fit" in str(failure.details())


class Colour(Enum):
    RED = "red"
    DEEP_BLUE = "deep-blue"


class Part(msgspec.Struct):
    id: int
    label: str | None = None


class Order(msgspec.Struct):
    parts: list[Part]
    colours: list[Colour]
    by_name: dict[str, Part]
    data: bytes
    ratio: float
    is_new: bool
    best: Part | None = None
    since: datetime | None = None
    lasts: timedelta | None = None


class Factory(Service):
    """Gives back what it gets."""

    @endpoint
    async def echo_order(self, order: Order) -> Order:
        return order

    @endpoint
    async def nothing(self) -> None:
        pass


FACTORY = """
import "google/protobuf/empty.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
service FactoryService {
  rpc EchoOrder(Order) returns (Order);
  rpc Nothing(google.protobuf.Empty) returns (google.protobuf.Empty);
}
enum Colour { COLOUR_UNSPECIFIED = 0; COLOUR_RED = 7; DEEP_BLUE = 3; }
message Part { int32 id = 9; optional string label = 4; }
message Order {
  repeated Part parts = 3;
  repeated Colour colours = 1;
  map<string, Part> by_name = 8;
  bytes data = 2;
  float ratio = 12;
  bool isNew = 13;
  Part best = 14;
  google.protobuf.Timestamp since = 15;
  google.protobuf.Duration lasts = 16;
}
"""


async def test_messages_of_any_shape_go_through(
    hub: kitmsg.Kit, write: Callable[..., str], start: Callable[..., Any]
) -> None:
    """Own numbers, own names, enums, maps, nested messages: there and back equal."""
    await hub.serve(Factory())
    outside: Outside = await start(hub, proto=(write(FACTORY),))
    order = outside.request(
        "api.FactoryService/EchoOrder",
        parts=[{"id": 1}, {"id": -2, "label": ""}],
        colours=["COLOUR_RED", "DEEP_BLUE"],
        by_name={"a": {"id": 3}},
        data=b"\x00\xff",
        ratio=0.5,
        isNew=True,
        best={"id": 4},
        since={"seconds": 1_767_323_045, "nanos": 120_000_000},
        lasts={"seconds": -90, "nanos": -500_000_000},
    )
    echoed = await outside.stub("api.FactoryService/EchoOrder")(order)
    assert str(echoed) == str(order)
    await outside("api.FactoryService/Nothing")


ADDER = """
service Adder { rpc Add(stream Number) returns (Sum); }
message Number { int64 n = 1; }
message Sum { int64 v = 1; string err = 2; }
"""


class Refused(BusinessError):
    """It is not added."""

    template = "{number} is not added"
    number: int


class Adder(Service):
    """Adds what it is sent."""

    @endpoint(raises=[Refused])
    async def add(self, numbers: AsyncIterator[int]) -> int:
        total = 0
        async for number in numbers:
            if number < 0:
                raise Refused(number)
            total += number
        return total


async def test_a_stream_that_is_refused_is_told_in_err(
    hub: kitmsg.Kit, write: Callable[..., str], start: Callable[..., Any]
) -> None:
    """As for a plain call, where the reply has a place for it."""
    await hub.serve(Adder())
    outside: Outside = await start(hub, proto=(write(ADDER),))

    async def add(*numbers: int) -> Any:
        items = [outside.request("api.Adder/Add", n=n) for n in numbers]
        return await outside.stub("api.Adder/Add")(iter(items))

    assert (await add(1, 2, 3)).v == 6
    assert (await add(1, -2)).err == "-2 is not added"


STREAMS = """
service Streams {
  rpc count(CountRequest) returns (stream Number);
  rpc Total(stream Number) returns (Number);
  rpc Scaled(stream ScaledInput) returns (stream Number);
}
message CountRequest { int64 to = 1; int64 bad = 2; }
message Number { int64 n = 1; }
message Factor { int64 factor = 1; }
message ScaledInput { oneof kind { Factor request = 1; Number item = 2; } }
"""


async def test_streams_of_the_users_own_messages(
    hub: kitmsg.Kit, write: Callable[..., str], start: Callable[..., Any]
) -> None:
    """Out, in and both, with a request first where the endpoint takes one."""
    await hub.serve(Streams())
    options = {"proto": (write(STREAMS.replace("Streams {", "Numbers {")),)}
    outside: Outside = await start(hub, **options, map=("api.Numbers=streams",))
    count = outside.stub("api.Numbers/count")
    request = outside.request("api.Numbers/count", to=3)
    assert [item.n async for item in count(request)] == [1, 2, 3]
    numbers = [outside.request("api.Numbers/Total", n=n) for n in (1, 2, 3)]
    assert (await outside.stub("api.Numbers/Total")(iter(numbers))).n == 6
    inputs = [
        outside.request("api.Numbers/Scaled", request={"factor": 2}),
        outside.request("api.Numbers/Scaled", item={"n": 21}),
    ]
    scaled = outside.stub("api.Numbers/Scaled")(iter(inputs))
    assert [item.n async for item in scaled] == [42]


async def test_a_method_can_be_mapped_to_any_endpoint(
    hub: kitmsg.Kit, write: Callable[..., str], start: Callable[..., Any]
) -> None:
    """``--map`` wins over names, for a service and for a method."""
    await hub.serve(Shop())
    body = SHOP.format(
        request="Ask", reply="Answer", ask="string name = 1;", answer="double v = 1;"
    ).replace("rpc Price", "rpc Cost")
    mapped = ("api.Store/Cost=shop.price",)
    outside: Outside = await start(hub, proto=(write(body),), map=mapped)
    assert (await outside("api.Store/Cost", name="tea")).v == 2.5


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("pb.Nope=addsvc", "there is no 'pb.Nope' in the .proto; it has pb.Add"),
        ("pb.Add=", "write pb.Add=SERVICE"),
        ("pb.Add/Sum=addsvc", "write pb.Add/Sum=SERVICE.ENDPOINT"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(entry: str, text: str) -> None:
    """With what there is, or how to write it."""
    from kitmsg_gateways.grpc.sources import UserSource

    with pytest.raises(ValueError, match=text):
        UserSource(GatewayOptions(proto=(ADDSVC,), map=(entry,)))


def test_files_that_cannot_be_used_are_named(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file, a mistake in one, no service in it, no compiler."""
    from kitmsg_gateways.grpc.sources import UserSource

    def problem(path: str) -> str:
        with pytest.raises(FailedPrecondition) as caught:
            UserSource(GatewayOptions(proto=(path,)))
        return str(caught.value)

    assert problem("/no/such.proto") == "there is no file /no/such.proto"
    assert "api.proto:3" in problem(write("message A { Nothing a = 1; }"))
    no_proto = tmp_path / "no.proto"
    no_proto.write_text('"""Python."""\n', encoding="utf-8")
    said = problem(str(no_proto))
    assert said.startswith(f"{no_proto} cannot be compiled: {no_proto}:1")
    assert "defines no service" in problem(write("message A { string a = 1; }"))
    assert "is no descriptor set" in problem(write("?", "api.pb"))
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "pip install 'kitmsg[grpc-tools]'" in problem(ADDSVC)


def test_a_compiled_descriptor_set_needs_no_compiler(tmp_path: Path) -> None:
    """What protoc wrote is read as it is, imports included."""
    out = str(tmp_path / "addsvc.pb")
    words = ["-Iexamples/addsvc", f"--descriptor_set_out={out}", "--include_imports"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *words, ADDSVC]
    subprocess.run(command, check=True)
    (service,) = loading.load([out]).services
    assert service.full_name == "pb.Add"
