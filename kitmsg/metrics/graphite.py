"""Metrics for Graphite: ``graphite://host:2003?prefix=shop.{host}&labels=tags&interval=10``.

Lines of text by TCP: a counter as it stands (``nonNegativeDerivative`` shows its rate), a
gauge as it is, a histogram as ``.count``, ``.sum`` and the quantiles ``.p50 .p90 .p95 .p99``
of the observations since the last flush.  Two processes must not write one name, so the
prefix is the host's name unless another is given.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from kitmsg.metrics.lines import LineBackend, number, path_name, prefix, tag_name
from kitmsg.metrics.senders import TcpSender
from kitmsg.metrics.spread import quantile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.window import Point

__all__ = ["QUANTILES", "VALUES", "open_backend"]

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
"""Quantiles of a histogram, for receivers that compute none."""

VALUES: Final = 1_000
"""Values that those quantiles are taken from: none of them is sent."""

_PORT: Final = 2003
_BATCH_BYTES: Final = 32_768


def open_backend(address: Address, /) -> LineBackend:
    """Return the backend of an address."""
    host, port = address.expect("prefix", "labels", port=_PORT)
    before = prefix(address, "{host}")
    named = (
        tag_name if address.choice("labels", "path", "tags") == "tags" else path_name
    )

    def encode(point: Point) -> Iterator[str]:
        now = int(time.time())
        for field, value in _fields(point):
            name = named(f"{point.name}{field}", point.labels)
            yield f"{before}{name} {number(value)} {now}"

    return LineBackend(
        encode, TcpSender(host, port), max_bytes=_BATCH_BYTES, values=VALUES
    )


def _fields(point: Point) -> Iterator[tuple[str, float]]:
    if point.kind != "histogram":
        yield "", point.value
        return
    yield ".count", point.observations
    yield ".sum", point.value
    if point.values:
        for name, q in QUANTILES.items():
            yield f".{name}", quantile(point.values, q)
