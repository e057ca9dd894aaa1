"""Metrics for a Datadog agent: ``dogstatsd://host:8125?prefix=shop&tags=env:prod+team:pay``.

As StatsD's, with labels as tags, and histograms by ``histogram=histogram``, the agent's own,
or ``histogram=distribution``.  Source: docs.datadoghq.com, "DogStatsD Datagram Format".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from kitmsg.metrics.lines import LineBackend, datagram, prefix
from kitmsg.metrics.senders import UdpSender
from kitmsg.metrics.statsd import PORT, lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.window import Point

__all__ = ["open_backend"]

_UNSAFE: Final = re.compile(r"[\s,|#@]")


def open_backend(address: Address, /) -> LineBackend:
    """Return the backend of an address."""
    host, port = address.expect("prefix", "tags", "packet", "histogram", port=PORT)
    before = prefix(address)
    kind = address.choice("histogram", "histogram", "distribution")
    letter = "d" if kind == "distribution" else "h"
    given = address.options.get("tags", "").replace(",", " ").split()  # "+" is a space

    def encode(point: Point) -> Iterator[str]:
        return lines(
            point, before + point.name, letter, tags=_tags(given, point.labels)
        )

    return LineBackend(encode, UdpSender(host, port), max_bytes=datagram(address))


def _tags(given: list[str], labels: Iterable[tuple[str, str]]) -> str:
    own = [f"{name}:{_UNSAFE.sub('_', value)}" for name, value in labels if value]
    tags = ",".join((*given, *own))
    return f"|#{tags}" if tags else ""
