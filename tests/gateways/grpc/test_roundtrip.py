"""Random types and values through protobuf and back, and random services through protoc."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings

from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.idl.service import Description, shape_service
from kitmsg_gateways.grpc.convert import Converters, reply_error, request_error
from kitmsg_gateways.grpc.layout import Layout, lay_out
from tests.anytypes import Case, bytes_of, cases, codecs


def laid_out(case: Case) -> Layout:
    endpoint = Description("call", case.signature.describe())
    shapes = shape_service("any", [endpoint])
    assert shapes.refused == {}
    return lay_out(shapes)


@settings(max_examples=100, deadline=None)
@given(cases(), codecs())
def test_requests_arrive_equal(case: Case, codec: Codec) -> None:
    """What a client writes into its messages is what the method gets."""
    layout = laid_out(case)
    (rpc,) = layout.rpcs
    converter = Converters(layout).of(rpc.input)
    bus = JSON if rpc.codec == "json" else MSGPACK
    pack = msgspec.json.encode if bus is JSON else msgspec.msgpack.encode
    for value in case.values:
        request = case.signature.bind(value)
        plain = bytes_of(codec)(case.signature.request_encoder(codec)(request))
        data = converter.encoder(request_error)(plain)
        payload = pack(converter.decoder(request_error)(data))
        assert case.signature.request_decoder(bus)(payload) == request


@settings(max_examples=100, deadline=None)
@given(cases(), codecs(), codecs())
def test_responses_arrive_equal(case: Case, codec: Codec, upstream: Codec) -> None:
    """What a method gives is what a client reads out of its message."""
    layout = laid_out(case)
    (rpc,) = layout.rpcs
    converter = Converters(layout).of(rpc.output)
    for value in case.values:
        payload = case.signature.response_encoder(codec)(value)
        data = converter.encoder(reply_error)(bytes_of(codec)(payload))
        plain = converter.decoder(reply_error)(data)
        pack = msgspec.json.encode(plain)
        assert case.signature.response_decoder(JSON)(pack) == value
