"""Metrics for StatsD: ``statsd://host:8125?prefix=shop&labels=tags&packet=1432&interval=10``.

Counters are sent as what was added, gauges as they are, histograms as timings in
milliseconds where their name ends in ``_seconds``, else in their unit.  StatsD knows no
labels: they stand in the name, as ``name.label.value``, or as Graphite's tags with
``labels=tags``.  Source: "Metric Types" of github.com/statsd/statsd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kitmsg.metrics.lines import (
    LineBackend,
    datagram,
    number,
    path_name,
    prefix,
    tag_name,
)
from kitmsg.metrics.senders import UdpSender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.window import Point

__all__ = ["PORT", "lines", "open_backend", "timing"]

PORT: Final = 8125
_SECONDS: Final = "_seconds"


def open_backend(address: Address, /) -> LineBackend:
    """Return the backend of an address."""
    host, port = address.expect("prefix", "labels", "packet", port=PORT)
    before = prefix(address)
    named = (
        tag_name if address.choice("labels", "path", "tags") == "tags" else path_name
    )

    def encode(point: Point) -> Iterator[str]:
        name, unit = timing(point.name, point.kind)
        return lines(point, before + named(name, point.labels), "ms", unit)

    return LineBackend(encode, UdpSender(host, port), max_bytes=datagram(address))


def timing(name: str, kind: str) -> tuple[str, float]:
    """Return the name of a series, and by how much its observations are multiplied."""
    if kind == "histogram" and name.endswith(_SECONDS):
        return f"{name.removesuffix(_SECONDS)}_ms", 1e3
    return name, 1.0


def lines(
    point: Point, name: str, histogram: str, unit: float = 1.0, tags: str = ""
) -> Iterator[str]:
    """Yield the lines of a point.

    Args:
        point: What is sent.
        name: As the receiver calls it.
        histogram: The type of its observations.
        unit: Factor of its observations.
        tags: Behind each line.
    """
    if point.kind == "gauge":
        if point.value < 0:  # a sign in front would mean "less than before"
            yield f"{name}:0|g{tags}"
        yield f"{name}:{number(point.value)}|g{tags}"
    elif point.kind == "counter" and point.increase:
        yield f"{name}:{number(point.increase)}|c{tags}"
    for value, weight in point.values:
        rate = f"|@{_fixed(1 / weight)}" if weight > 1 else ""
        yield f"{name}:{number(value * unit)}|{histogram}{rate}{tags}"


def _fixed(rate: float) -> str:
    """Return a rate without an exponent, which StatsD would not read."""
    return f"{rate:.40f}".rstrip("0")
