"""Deadlines and headers of one call, and what a reply becomes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict

from kitmsg.codec import JSON, MSGPACK, RAW
from kitmsg.errors import InvalidArgument
from kitmsg.message import Headers, encode_headers
from kitmsg_gateways.http.call import (
    asked_timeout,
    fields_of,
    request_codec,
    request_id,
)
from kitmsg_gateways.http.errors import Problem
from kitmsg_gateways.http.options import GatewayOptions
from kitmsg_gateways.http.visit import Visit


def block(*pairs: tuple[str, str], authorization: bool = False) -> dict[str, str]:
    """Return the headers that cross for those of a request."""
    request: Any = SimpleNamespace(headers=CIMultiDict(pairs))  # no more is looked at
    options = GatewayOptions(forward_authorization=authorization)
    made = fields_of(Visit(request, "/", "id-1"), options)
    return dict(Headers.parse(encode_headers(made)))


ALWAYS = {"Kit-Request-Id": "id-1"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Request-Timeout": "7"}, 7.0),
        ({"Request-Timeout": "0.25"}, 0.25),
        ({"X-Request-Timeout-Ms": "250"}, 0.25),
        ({"Request-Timeout": "3", "X-Request-Timeout-Ms": "250"}, 0.25),
    ],
)
def test_the_time_a_client_gives(headers, seconds):
    """The nearer of both headers; none if it does not say."""
    assert asked_timeout(CIMultiDict(headers)) == seconds


@pytest.mark.parametrize("name", ["Request-Timeout", "X-Request-Timeout-Ms"])
def test_a_time_said_twice_is_refused(name):
    """Which of the two is meant cannot be known."""
    headers = CIMultiDict([(name, "5"), (name.lower(), "7")])
    with pytest.raises(InvalidArgument, match=f"{name} came more than once"):
        asked_timeout(headers)


def test_the_block_is_a_header_block():
    """With nothing in it but what is always said."""
    assert block() == ALWAYS
    assert block(("Cookie", "a=b"), ("X-Forwarded-For", "1.2.3.4")) == ALWAYS


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\x00", "é", "\udcff", "", "x" * 9000])
def test_values_that_could_break_the_block_are_dropped(value):
    """No line break, no NUL, no text that is not ASCII, nothing endless."""
    pairs = [(name, value) for name in ("traceparent", "tracestate", "baggage")]
    assert block(*pairs) == ALWAYS


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\x00", "é", ""])
def test_credentials_that_could_break_the_block_are_refused(value):
    """Not dropped: the call would be made as somebody else."""
    with pytest.raises(InvalidArgument, match="Authorization"):
        block(("Authorization", value), authorization=True)
    with pytest.raises(InvalidArgument, match="once"):
        block(("Authorization", "a"), ("authorization", "b"), authorization=True)


def test_an_idempotency_key_crosses():
    """With the quotes of a structured field or without; one that came twice does not."""
    for given in ("8e03-978e", '"8e03-978e"'):
        sent = block(("Idempotency-Key", given))
        assert sent == {**ALWAYS, "Kit-Idempotency-Key": "8e03-978e"}
    with pytest.raises(InvalidArgument, match="Idempotency-Key must come once"):
        block(("Idempotency-Key", "a"), ("idempotency-key", "b"))
    with pytest.raises(InvalidArgument, match="Idempotency-Key must come once"):
        block(("Idempotency-Key", ""))


def test_several_lines_of_baggage_are_one_list():
    """As HTTP joins fields; two trace parents are none."""
    assert block(("baggage", "a=1"), ("baggage", "b=2"))["baggage"] == "a=1,b=2"
    assert "traceparent" not in block(("traceparent", "a"), ("traceparent", "b"))


@pytest.mark.parametrize(
    ("value", "codec"),
    [
        ("", JSON),
        ("application/json", JSON),
        ("Application/JSON; charset=utf-8", JSON),
        ("application/vnd.api+json", JSON),
        ("application/msgpack", MSGPACK),
        ("application/octet-stream", RAW),
    ],
)
def test_the_codec_of_a_body(value, codec):
    """By its content type; JSON without one."""
    assert request_codec({"Content-Type": value}, has_body=True) is codec


def test_a_content_type_nobody_reads():
    """415, with those that are read."""
    with pytest.raises(Problem) as caught:
        request_codec({"Content-Type": "text/plain"}, has_body=True)
    assert caught.value.status == 415
    assert request_codec({"Content-Type": "text/plain"}, has_body=False) is JSON


def test_an_id_is_taken_over_or_made():
    """Either header; what is no plain word is replaced."""
    assert request_id({"X-Request-Id": "a-1"}) == "a-1"
    assert request_id({"Kit-Request-Id": "a-1"}) == "a-1"
    made = {request_id({}), request_id({"X-Request-Id": "a b"}), request_id({})}
    assert len(made) == 3
