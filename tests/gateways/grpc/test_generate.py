"""Descriptors and .proto text of services: what protoc makes of the text is the descriptor."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator  # noqa: TC003  # read when services are defined
from enum import IntEnum
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import HealthCheck, given, settings
from msgspec import Struct

from kitmsg import BusinessError, Service, endpoint
from kitmsg.idl.lock import BreakingChange, Lock
from kitmsg.idl.service import Description, shape_service
from kitmsg_gateways.grpc.generate import descriptor, file_name, generate, text
from kitmsg_gateways.grpc.layout import Layout, lay_out
from tests.anytypes import Case, cases
from tests.require import miss

if TYPE_CHECKING:
    from pathlib import Path

    from kitmsg.idl.model import ServiceShapes


class Level(IntEnum):
    """How loud."""

    QUIET = 0
    LOUD = 5


class Full(BusinessError):
    """No room."""

    template = "{room} is full"
    room: str


class Line(Struct, tag=True):
    """A line of text."""

    words: list[str]
    level: Level = Level.LOUD


class Break(Struct, tag=True):
    """An empty line."""


class Chat(Service):
    """Talks.  Comments of any length are wrapped, as this one is, since it is quite long."""

    @endpoint
    async def join(self, room: str, mood: Literal["good", "so-so"] = "good") -> None:
        """Join a room."""

    @endpoint(raises=[Full])
    async def say(self, line: Line) -> dict[str, list[int]]:
        """Say something."""
        return {}

    @endpoint
    async def listen(self, room: str) -> AsyncIterator[Line | Break]:
        yield Break()

    @endpoint
    async def talk(self, lines: AsyncIterator[Line]) -> AsyncIterator[str]:
        async for line in lines:
            yield str(line)

    @endpoint
    async def dictate(self, room: str, words: AsyncIterator[str]) -> int:
        return len([word async for word in words])

    @endpoint
    async def guess(
        self, hints: list[int | None], rest: Any = None
    ) -> list[str] | None:
        return None


STRING = {"type": "string"}
INTEGER = {"type": "integer"}

TEXT = """\
syntax = "proto3";

package chat;

import "google/protobuf/struct.proto";

// Talks. Comments of any length are wrapped, as this one is, since it is quite long.
service Chat {
  rpc Dictate(stream DictateInput) returns (DictateResponse);
  rpc Guess(GuessRequest) returns (GuessResponse);
  // Join a room.
  rpc Join(JoinRequest) returns (JoinResponse);
  rpc Listen(ListenRequest) returns (stream ListenResult);
  // Say something.
  rpc Say(Line) returns (SayResponse);
  rpc Talk(stream Line) returns (stream TalkResponse);
}

// An empty line.
message Break {
}

// The first message of a stream is its request, the others are items.
message DictateInput {
  oneof kind {
    DictateRequest request = 1;
    DictateItem item = 2;
  }
}

message DictateItem {
  string value = 1;
}

message DictateRequest {
  string room = 1;
}

message DictateResponse {
  int64 value = 1;
}

// No room.
message Full {
  string room = 1;
}

message GuessRequest {
  repeated Int64OrNull hints = 1;
  google.protobuf.Value rest = 2;
}

message GuessResponse {
  StringList value = 1;
}

message Int64List {
  repeated int64 value = 1;
}

message Int64OrNull {
  optional int64 value = 1;
}

// Join a room.
message JoinRequest {
  string room = 1;
  optional JoinRequestMood mood = 2;
}

message JoinResponse {
}

// A line of text.
message Line {
  repeated string words = 1;
  optional Level level = 2;
}

message ListenRequest {
  string room = 1;
}

message ListenResult {
  oneof kind {
    Line line = 1;
    Break break = 2;
  }
}

message SayResponse {
  map<string, Int64List> value = 1;
}

message StringList {
  repeated string value = 1;
}

message TalkRequest {
}

message TalkResponse {
  string value = 1;
}

enum JoinRequestMood {
  JOIN_REQUEST_MOOD_UNSPECIFIED = 0;
  JOIN_REQUEST_MOOD_GOOD = 1;
  JOIN_REQUEST_MOOD_SO_SO = 2;
}

// How loud.
enum Level {
  LEVEL_QUIET = 0;
  LEVEL_LOUD = 5;
}
"""


def shapes_of(cls: type[Service]) -> ServiceShapes:
    endpoints = [
        Description(d.name, d.describe(), d.signature.doc, d.signature.stream)
        for d in cls.__declarations__.values()
    ]
    return shape_service(cls.name, endpoints, doc=cls.__doc__ or "")


def request(fields: dict[str, Any]) -> ServiceShapes:
    """Return a service that takes an object with these fields, none of them required."""
    schema = {"type": "object", "properties": fields}
    return shape_service("s", [Description("call", {"request": schema})])


def compiled(layout: Layout, folder: Path) -> FileDescriptorProto:
    """Return what protoc makes of the text."""
    try:
        from grpc_tools import protoc
    except ImportError:
        miss("grpcio-tools is not installed; pip install grpcio-tools to run this test")
    (folder / file_name(layout)).write_text(text(layout))
    out, include = folder / "out", files("grpc_tools") / "_proto"
    words = [f"-I{folder}", f"-I{include}", f"--descriptor_set_out={out}"]
    assert protoc.main(["protoc", *words, "--fatal_warnings", file_name(layout)]) == 0
    return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def test_a_service_as_text() -> None:
    """Messages, boxes, enums, streams and comments of a real class."""
    assert text(lay_out(shapes_of(Chat))) == TEXT


def test_protoc_reads_the_text_as_the_descriptor(tmp_path: Path) -> None:
    """The two forms of a service say the same."""
    layout = lay_out(shapes_of(Chat))
    assert compiled(layout, tmp_path) == descriptor(layout)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=cases())
def test_protoc_reads_any_service(tmp_path: Path, case: Case) -> None:
    """Whatever types there are, the text is protobuf and says what the descriptor says."""
    endpoint_ = Description("call", case.signature.describe())
    layout = lay_out(shape_service("any", [endpoint_]))
    assert compiled(layout, tmp_path) == descriptor(layout)


def test_the_same_service_gives_the_same_bytes() -> None:
    """Neither the order of endpoints nor a lock of the same numbers changes anything."""
    shapes, lock = shapes_of(Chat), Lock()
    endpoints = [
        Description(d.name, d.describe(), d.signature.doc, d.signature.stream)
        for d in Chat.__declarations__.values()
    ]
    random.Random(1).shuffle(endpoints)
    again = shape_service("chat", endpoints, doc=Chat.__doc__ or "")
    first = descriptor(lay_out(shapes, lock)).SerializeToString(deterministic=True)
    assert descriptor(lay_out(again)).SerializeToString(deterministic=True) == first
    read = Lock.parse(lock.dump())
    assert (
        descriptor(lay_out(again, read)).SerializeToString(deterministic=True) == first
    )
    assert read.dump() == lock.dump()


def test_names_that_protobuf_takes_for_one_are_told_apart(tmp_path: Path) -> None:
    """Keys of any text become names; of two alike, the one with the lower number has it."""
    keys = ["a_b", "aB", "a-b", "1", "é", "", "message", "_", "self", "__"]
    layout = lay_out(request({key: {"type": "string"} for key in keys}))
    made = compiled(layout, tmp_path)
    assert made == descriptor(layout)
    names = [field.name for field in made.message_type[0].field]
    assert names[:4] == ["a_b", "aB_2", "a_b_3", "x1"]
    assert (names[6], names[8]) == ("message", "self")


def test_values_that_protobuf_takes_for_one_are_told_apart(tmp_path: Path) -> None:
    """Values of any text become names, in all enums of a package."""
    values = ["red", "RED", "sea-green", "sea green", "", "é", "-1"]
    fields = {
        "colour": {"enum": values},
        "number": {"enum": [-1, 0, 2**40]},
        "colour_sea": {"enum": ["green", "x"]},
    }
    layout = lay_out(request(fields))
    assert compiled(layout, tmp_path) == descriptor(layout)
    names = [name for name, _, _ in layout.enums["CallRequestColour"].values]
    assert names[:4] == [
        "CALL_REQUEST_COLOUR_UNSPECIFIED",
        "CALL_REQUEST_COLOUR_RED",
        "CALL_REQUEST_COLOUR_RED_2",
        "CALL_REQUEST_COLOUR_SEA_GREEN",
    ]


def test_a_type_may_be_called_as_the_service(tmp_path: Path) -> None:
    """``orders.Orders`` is the service; a type of that name gives way."""
    schema = {"title": "S", "type": "object", "properties": {"a": {"type": "string"}}}
    whole = {"$ref": "#/$defs/S", "$defs": {"S": schema}}
    layout = lay_out(shape_service("s", [Description("call", {"request": whole})]))
    assert "SData" in layout.messages
    assert compiled(layout, tmp_path) == descriptor(layout)


@pytest.mark.parametrize(
    ("service", "full_name"),
    [
        ("greeter", "greeter.Greeter"),
        ("order_book", "order_book.OrderBook"),
        ("my-service", "my_service.MyService"),
        ("2fast", "x_2fast.X2fast"),
        ("API", "API.API"),
        ("google", "google.Google"),
        ("stream", "stream.Stream"),
    ],
)
def test_services_have_pretty_names(
    service: str, full_name: str, tmp_path: Path
) -> None:
    """The package is the service's name on the bus, the service the same in CamelCase."""
    schema = {"type": "object", "properties": {"a": {}}}
    layout = lay_out(shape_service(service, [Description("call", {"request": schema})]))
    assert layout.full_name == full_name
    assert compiled(layout, tmp_path) == descriptor(layout)


def test_two_services_cannot_have_one_package() -> None:
    """Each would be taken for the other."""
    empty = Description("call", {"request": {"type": "object", "properties": {}}})
    services = [shape_service(name, [empty]) for name in ("a-b", "a_b")]
    with pytest.raises(ValueError, match="a_b: another service has the package 'a_b'"):
        generate(services, Lock())


def test_what_was_removed_is_reserved(tmp_path: Path) -> None:
    """A field or a value that is gone leaves its number and its name behind."""
    lock = Lock()
    enum = {"enum": ["a", "b"]}
    lay_out(
        request({"old": {"type": "string"}, "kept": {"type": "string"}, "e": enum}),
        lock,
    )
    after = request(
        {"kept": {"type": "string"}, "new": enum, "e": {"enum": ["b", "c"]}}
    )
    layout = lay_out(after, Lock.parse(lock.dump()))
    assert compiled(layout, tmp_path) == descriptor(layout)
    found = text(layout)
    assert '  reserved 1;\n  reserved "old";\n  string kept = 2;' in found.replace(
        "optional ", ""
    )
    assert "  reserved 1;\n  CALL_REQUEST_E_UNSPECIFIED = 0;\n" in found
    assert "CALL_REQUEST_E_B = 2;\n  CALL_REQUEST_E_C = 3;" in found


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        (STRING, INTEGER, "was 'string' and is now 'int64'"),
        (
            INTEGER,
            {"type": "array", "items": INTEGER},
            "was 'int64' and is now 'Int64List'",
        ),
        (STRING, {"enum": ["a"]}, "was 'string' and is now 'CallRequestX'"),
        (INTEGER, {"type": "object", "properties": {}}, "is now 'CallRequestX'"),
    ],
)
def test_a_change_that_breaks_clients_is_refused(
    before: dict[str, Any], after: dict[str, Any], sentence: str
) -> None:
    """A refusal names the message and the field, and leaves the lock as it was."""
    lock = Lock()
    lay_out(request({"x": before}), lock)
    dumped = lock.dump()
    with pytest.raises(BreakingChange, match="s.CallRequest.x") as caught:
        lay_out(request({"x": after}), Lock.parse(dumped))
    assert sentence in str(caught.value)


def test_another_stream_breaks_clients() -> None:
    """A method that becomes a stream is another method."""

    class Before(Service):
        name = "s"

        @endpoint
        async def get(self) -> int:
            return 1

    class After(Service):
        name = "s"

        @endpoint
        async def get(self) -> AsyncIterator[int]:
            yield 1

    lock = Lock()
    lay_out(shapes_of(Before), lock)
    with pytest.raises(BreakingChange, match="s.methods.Get was .* is now .*-> stream"):
        lay_out(shapes_of(After), lock)


def test_a_descriptor_stands_by_itself() -> None:
    """A pool takes the file as it is, for clients that ask by reflection."""
    from google.protobuf import struct_pb2

    pool = DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(descriptor(lay_out(shapes_of(Chat))))
    service = pool.FindServiceByName("chat.Chat")
    assert service.methods_by_name["Talk"].input_type.full_name == "chat.Line"
