"""Timestamp and Duration as text: exact both ways, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, strategies as st

from kitmsg_gateways.grpc.times import (
    read_duration,
    read_timestamp,
    write_duration,
    write_timestamp,
)
from kitmsg_gateways.grpc.values import Misfit


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_comes_back_equal(when: datetime) -> None:
    """As itself and as the text that it becomes."""
    fields = write_timestamp(when)
    text = read_timestamp(Timestamp(**fields))
    assert datetime.fromisoformat(text) == when
    assert write_timestamp(text) == fields


@given(st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)))
def test_a_duration_comes_back_equal(length: timedelta) -> None:
    """Negative ones and fractions too."""
    fields = write_duration(length)
    text = read_duration(Duration(**fields))
    assert write_duration(text) == fields


def test_zones_are_brought_to_one() -> None:
    """A time of any zone is the same moment; one without is refused."""
    fields = write_timestamp("2026-01-02T05:04:05+02:00")
    assert read_timestamp(Timestamp(**fields)) == "2026-01-02T03:04:05Z"
    with pytest.raises(Misfit, match="with a zone"):
        write_timestamp("2026-01-02T05:04:05")


@pytest.mark.parametrize("value", ["yesterday", 7, None, {}])
def test_what_is_no_time_is_refused(value: object) -> None:
    """With what was expected."""
    with pytest.raises(Misfit, match="RFC 3339"):
        write_timestamp(value)
    with pytest.raises(Misfit, match="ISO 8601"):
        write_duration(value)


def test_a_timestamp_out_of_range_is_refused() -> None:
    """A server may send what is no time."""
    with pytest.raises(Misfit, match="years 1 and 9999"):
        read_timestamp(Timestamp(seconds=1 << 60))
