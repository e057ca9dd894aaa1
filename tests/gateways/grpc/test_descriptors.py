"""Messages of a foreign .proto as plain values, by the upstream's methods."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.grpc.load import load
from kitmsg_gateways.grpc.upstream.offer import offers_of_service

if TYPE_CHECKING:
    from pathlib import Path

    from kitmsg_gateways.grpc.upstream.call import GrpcMethod

PROTO = """
syntax = "proto3";
package odd.v1;
import "google/protobuf/any.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Color { option allow_alias = true; NONE = 0; RED = 1; CRIMSON = 1; BLUE = 5; }
enum One { ONLY = 0; }
message Timestamp { int32 x = 1; }
message Node {
  repeated Node kids = 1; map<string, Node> by = 2;
  oneof kind { string a = 3; Color c = 4; }
}
message Odd {
  One one = 1; optional One maybe = 2; Color color = 3; map<string, Color> colors = 4;
  uint64 big = 5; float half = 6; bytes data = 7; string HasField = 8; string class = 9;
  Timestamp mine = 10; google.protobuf.Timestamp theirs = 11;
  google.protobuf.Any any = 12; google.protobuf.Struct object = 13;
  google.protobuf.Value value = 14; google.protobuf.Int64Value wrapped = 15;
  map<string, google.protobuf.Value> values = 16; google.protobuf.Empty nothing = 17;
}
message Keys { map<int32, string> by = 1; }
service Echo {
  rpc Tell(Odd) returns (Odd);
  rpc Grow(Node) returns (Node);
  rpc Rest(google.protobuf.Empty) returns (google.protobuf.Empty);
  rpc Look(Keys) returns (Odd);
}
"""

ZEROS = {
    "one": "ONLY",
    "color": "NONE",
    "colors": {},
    "big": 0,
    "half": 0.0,
    "data": b"",
    "HasField": "",
    "class": "",
    "values": {},
}


@pytest.fixture
def methods(tmp_path: Path) -> dict[str, GrpcMethod]:
    """The methods of the service by name."""
    path = tmp_path / "odd.proto"
    path.write_text(PROTO)
    (service,) = load([str(path)]).services
    found = offers_of_service("odd", service)
    return {each.path.rpartition("/")[2]: each for each in found}


def echoed(method: GrpcMethod, value: Any) -> Any:
    """Return what a value is when its message comes back."""
    return method.read(method.encode(value).message)


def test_fields_without_presence_are_zero_in_a_reply(
    methods: dict[str, GrpcMethod],
) -> None:
    """Others are left out, as the message leaves them out."""
    assert echoed(methods["Tell"], {}) == ZEROS
    assert echoed(methods["Rest"], {}) == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"maybe": "ONLY"},
        {"color": "RED", "colors": {"sky": "BLUE"}},
        {"big": 2**64 - 1, "half": 0.5, "data": b"\xff", "HasField": "x", "class": "y"},
        {"mine": {"x": 3}, "theirs": "2020-01-01T00:00:00Z"},
        {"any": {"type_url": "t", "value": b"v"}, "wrapped": {"value": 3}},
        {"object": {"fields": {"a": [1, {"b": None}]}}, "nothing": {}},
        {"value": None, "values": {"q": None, "r": [True]}},
    ],
)
def test_values_of_every_type_cross_in_both_directions(
    methods: dict[str, GrpcMethod], fields: dict[str, Any]
) -> None:
    """Google's own messages too, beside one of the user's with a name of theirs."""
    assert echoed(methods["Tell"], fields) == ZEROS | fields


def test_messages_hold_themselves(methods: dict[str, GrpcMethod]) -> None:
    """In lists, in maps and in options."""
    leaf = {"kids": [], "by": {}, "c": "BLUE"}
    tree = {"kids": [leaf], "by": {"x": leaf}, "a": ""}
    assert echoed(methods["Grow"], tree) == tree


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"color": "GREEN"}, "color"), ({"one": "TWO"}, "one"), ({"big": None}, "big")],
)
def test_what_has_no_form_in_the_message_is_refused_with_its_field(
    methods: dict[str, GrpcMethod], fields: dict[str, Any], field: str
) -> None:
    """Nothing is sent."""
    with pytest.raises(InvalidArgument, match=field) as caught:
        methods["Tell"].encode(fields)
    assert caught.value.field == field


def test_a_method_without_a_form_in_json_is_left_out_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names its field, and says why."""
    path = tmp_path / "odd.proto"
    path.write_text(PROTO)
    (service,) = load([str(path)]).services
    with caplog.at_level(logging.WARNING, "kitmsg_gateways.grpc"):
        found = offers_of_service("odd", service)
    assert "odd.v1.Echo.Look: odd.v1.Keys.by: only a map with text" in caplog.text
    assert [each.declaration.name for each in found] == ["tell", "grow", "rest"]
