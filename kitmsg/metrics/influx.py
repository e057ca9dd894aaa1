"""Metrics for InfluxDB, in its line protocol.

``influx://host:8089`` by UDP; ``influx+http://host:8086?db=shop`` (or ``+https``) by HTTP,
which also reaches version 2 and 3 by their ``/write``; a token is read from the variable
``INFLUX_TOKEN``, user and password from ``INFLUX_USER`` and ``INFLUX_PASSWORD``.

The fields: ``value`` of counters, as they stand, and of gauges; ``count``, ``sum`` and the
quantiles ``p50 p90 p95 p99`` since the last flush of histograms.  Labels are tags, and so is
``host``.  Source: docs.influxdata.com, "Line protocol reference".
"""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from kitmsg.errors import InvalidArgument
from kitmsg.metrics.graphite import QUANTILES, VALUES
from kitmsg.metrics.lines import LineBackend, datagram
from kitmsg.metrics.senders import UdpSender
from kitmsg.metrics.spread import quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import aiohttp

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.window import Point

__all__ = ["HttpSender", "open_backend"]

_UDP_PORT: Final = 8089
_HTTP_PORT: Final = 8086
_BATCH_BYTES: Final = 262_144
_SECONDS: Final = 5.0
_OK: Final = 300
_MAX_REASON: Final = 200
_SPECIAL: Final = re.compile(r"([,= ])")
_UNSAFE: Final = re.compile(
    r"[\\\n\r]"
)  # a backslash at the end would join what follows


def open_backend(address: Address, /) -> LineBackend:
    """Return the backend of an address."""
    host_tag = address.options.get("host", socket.gethostname())

    def encode(point: Point) -> Iterator[str]:
        fields = ",".join(f"{name}={value!r}" for name, value in _fields(point))
        tags = _tags((("host", host_tag), *point.labels))
        yield f"{point.name}{tags} {fields} {time.time_ns()}"

    _, plus, scheme = address.scheme.partition("+")
    if not plus:
        host, port = address.expect("packet", "host", port=_UDP_PORT)
        sender = UdpSender(host, port)
        return LineBackend(encode, sender, max_bytes=datagram(address), values=VALUES)
    host, port = address.expect("db", "host", port=_HTTP_PORT)
    db = address.options.get("db")
    if not db:
        raise InvalidArgument(f"{address.text!r} names no database; add ?db=NAME")
    where = f"[{host}]" if ":" in host else host
    url = f"{scheme}://{where}:{port}{address.path.rstrip('/')}/write"
    return LineBackend(
        encode, HttpSender(url, db), max_bytes=_BATCH_BYTES, values=VALUES
    )


class HttpSender:
    """Posts lines; needs the extra ``influx``.

    Args:
        url: Of the page that takes them.
        db: Name of the database.

    Raises:
        ImportError: aiohttp is not installed.
    """

    def __init__(self, url: str, db: str) -> None:
        if importlib.util.find_spec("aiohttp") is None:
            raise ImportError("pip install 'kitmsg[influx]'")
        self._url = url
        self._query = {"db": db, "precision": "ns"}
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make a session."""
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_SECONDS), **_login(aiohttp)
            )

    async def send(self, batch: bytes) -> None:
        """Post lines; returns when the server has them."""
        import aiohttp

        if self._session is None:
            raise ConnectionError("not connected")
        try:
            async with self._session.post(
                self._url, params=self._query, data=batch
            ) as answer:
                if answer.status >= _OK:
                    text = (await answer.text())[:_MAX_REASON].strip()
                    raise OSError(f"HTTP {answer.status}: {text}")
        except aiohttp.ClientError as exc:
            raise ConnectionError(str(exc)) from exc
        except TimeoutError as exc:
            raise TimeoutError(f"no answer in {_SECONDS:g} s") from exc

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _login(aiohttp: Any) -> dict[str, Any]:
    """Return the arguments of a session that make it known to the server."""
    if token := os.environ.get("INFLUX_TOKEN"):
        return {"headers": {"Authorization": f"Token {token}"}}
    if user := os.environ.get("INFLUX_USER"):
        password = os.environ.get("INFLUX_PASSWORD", "")
        return {"auth": aiohttp.BasicAuth(user, password)}
    return {}


def _fields(point: Point) -> Iterator[tuple[str, float]]:
    if point.kind != "histogram":
        yield "value", float(point.value)
        return
    yield "count", float(point.observations)
    yield "sum", float(point.value)
    if point.values:
        for name, q in QUANTILES.items():
            yield name, quantile(point.values, q)


def _tags(labels: Iterable[tuple[str, str]]) -> str:
    """Return tags, each with its comma; an empty value is no tag."""
    return "".join(f",{name}={_escaped(value)}" for name, value in labels if value)


def _escaped(value: str) -> str:
    return _SPECIAL.sub(r"\\\1", _UNSAFE.sub("_", value))
