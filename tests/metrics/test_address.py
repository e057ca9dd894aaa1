"""An address of metrics is understood, or refused by one sentence that says why."""

from __future__ import annotations

import pytest

from kitmsg.errors import FailedPrecondition, InvalidArgument
from kitmsg.metrics.address import backend_of, parse, schemes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is no address of metrics; write SCHEME://HOST:PORT"),
        ("stasd://h", "SCHEME is one of dogstatsd, graphite, influx"),
        ("127.0.0.1:8125", "is no address of metrics"),
        ("statsd://h:99999", "Port out of range"),
        ("statsd://", "names no host; write statsd://HOST:8125"),
        ("otlp://:4317", "names no host; write otlp://HOST:4317"),
        (
            "statsd://h?rate=0.1",
            "has an unknown option 'rate'; there are interval, prefix",
        ),
        ("statsd://h?labels=none", "labels is path or tags, not 'none'"),
        ("statsd://h?packet=1", "packet is a number from 64 to 65000, not '1'"),
        (
            "statsd://h?interval=soon",
            "interval is a number from 0.05 to 3600, not 'soon'",
        ),
        ("statsd://h?interval=nan", "interval is a number"),
        ("statsd://h?interval", "is no address of metrics"),
        ("influx+http://h", "names no database; add ?db=NAME"),
        ("influx+http://me:secret@h?db=x", "set it in the environment"),
        ("otlp+http://h?tls=true", "has an unknown option 'tls'"),
    ],
)
def test_a_malformed_address_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^[^\n]+$") as caught:
        backend_of(parse(text))
    assert sentence in str(caught.value)
    assert "secret" not in str(caught.value)


def test_prometheus_is_read_and_not_pushed_to() -> None:
    assert backend_of(parse("prometheus")) is None


@pytest.mark.parametrize(
    "text",
    [
        "statsd://[::1]:8125?prefix=shop.{host}&labels=tags&packet=512&interval=1",
        "dogstatsd://localhost?tags=env:prod+team:pay&histogram=distribution",
        "graphite://graphite",
        "influx://influx:8089",
        "influx+https://influx/base?db=x",
        "otlp://collector:4317?tls=true",
        "otlp+https://collector/v1/metrics",
    ],
)
def test_making_a_backend_needs_nobody_there(text: str) -> None:
    """A program starts whether its receiver is there or not."""
    assert backend_of(parse(text)) is not None


def test_every_scheme_of_ours_is_an_entry_point() -> None:
    ours = {"dogstatsd", "graphite", "influx", "influx+http", "influx+https", "otlp"}
    ours |= {"otlp+http", "otlp+https", "prometheus", "statsd"}
    assert ours <= set(schemes())


@pytest.mark.parametrize(
    ("text", "package", "extra"),
    [
        ("influx+http://h?db=x", "aiohttp", "influx"),
        ("otlp://h", "opentelemetry.sdk", "otel"),
    ],
)
def test_a_missing_package_names_its_extra(
    text: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == package else find(name),
    )
    with pytest.raises(FailedPrecondition, match=rf"pip install 'kitmsg\[{extra}\]'"):
        backend_of(parse(text))
