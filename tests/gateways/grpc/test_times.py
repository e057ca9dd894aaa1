"""Timestamp and Duration as text: exact both ways, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, strategies as st

from kitmsg_gateways.grpc.values import (
    Misfit,
    decode_duration,
    decode_timestamp,
    encode_duration,
    encode_timestamp,
)


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_comes_back_equal(when: datetime) -> None:
    """As itself and as the text that it becomes."""
    fields = encode_timestamp(when)
    text = decode_timestamp(Timestamp(**fields))
    assert datetime.fromisoformat(text) == when
    assert encode_timestamp(text) == fields


@given(st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)))
def test_a_duration_comes_back_equal(length: timedelta) -> None:
    """Negative ones and fractions too."""
    fields = encode_duration(length)
    text = decode_duration(Duration(**fields))
    assert encode_duration(text) == fields


def test_zones_are_brought_to_one() -> None:
    """A time of any zone is the same moment; one without is refused."""
    fields = encode_timestamp("2026-01-02T05:04:05+02:00")
    assert decode_timestamp(Timestamp(**fields)) == "2026-01-02T03:04:05Z"
    with pytest.raises(Misfit, match="with a zone"):
        encode_timestamp("2026-01-02T05:04:05")


@pytest.mark.parametrize("value", ["yesterday", 7, None, {}])
def test_what_is_no_time_is_refused(value: object) -> None:
    """With what was expected."""
    with pytest.raises(Misfit, match="RFC 3339"):
        encode_timestamp(value)
    with pytest.raises(Misfit, match="ISO 8601"):
        encode_duration(value)


def test_a_timestamp_out_of_range_is_refused() -> None:
    """A server may send what is no time."""
    with pytest.raises(Misfit, match="years 1 and 9999"):
        decode_timestamp(Timestamp(seconds=1 << 60))
