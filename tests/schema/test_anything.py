"""Random types through every codec: what goes in comes out, at the service and back."""

from __future__ import annotations

import jsonschema
import msgspec
from hypothesis import given, settings

from kitmsg.codec import JSON, MSGPACK, Codec
from tests.anytypes import Case, cases, codecs


@settings(max_examples=200, deadline=None)
@given(cases(), codecs())
def test_requests_arrive_equal(case: Case, codec: Codec) -> None:
    """Inherited, generic, in a model or under an odd key."""
    encode = case.signature.request_encoder(codec)
    decode = case.signature.request_decoder(codec)
    for value in case.values:
        request = case.signature.bind(value)
        assert decode(encode(request)) == request


@settings(max_examples=200, deadline=None)
@given(cases(), codecs())
def test_results_arrive_equal(case: Case, codec: Codec) -> None:
    """The service's own check of them included."""
    encode = case.signature.response_encoder(codec)
    decode = case.signature.response_decoder(codec)
    for value in case.values:
        assert decode(encode(value)) == value


@settings(max_examples=100, deadline=None)
@given(cases())
def test_what_travels_fits_its_schema(case: Case) -> None:
    """Of the direction in which it goes; and both codecs carry the same."""
    asked, answered = (
        jsonschema.Draft202012Validator(schema)
        for schema in (
            case.signature.request_schema(),
            case.signature.response_schema(),
        )
    )
    for value in case.values:
        request = case.signature.bind(value)
        asked.validate(
            msgspec.json.decode(case.signature.request_encoder(JSON)(request))
        )
        result = case.signature.response_encoder(JSON)(value)
        answered.validate(msgspec.json.decode(result))
        packed = case.signature.response_encoder(MSGPACK)(value)
        assert case.signature.response_decoder(MSGPACK)(packed) == value
