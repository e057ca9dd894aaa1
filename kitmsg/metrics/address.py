"""Addresses of metrics: the one syntax for where they go, and what finds a backend.

===============================  =========================================================
address                          metrics are
===============================  =========================================================
``prometheus``                   read at ``/metrics``
``otlp://host:4317``             pushed to an OpenTelemetry collector by gRPC
``otlp+http://host:4318``        likewise by HTTP; ``otlp+https``
``statsd://host:8125``           pushed to StatsD by UDP
``dogstatsd://host:8125``        pushed to a Datadog agent by UDP, with tags
``graphite://host:2003``         pushed to carbon by TCP
``influx://host:8089``           pushed to InfluxDB by UDP, in its line protocol
``influx+http://host:8086?db=x`` likewise by HTTP; ``influx+https``
===============================  =========================================================

A scheme is a plugin: an entry point in ``kitmsg.metrics``, whose value is a module with
`BackendKind.open_backend`.  CloudWatch, PCP and others are reached through a collector.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl, urlsplit

from kitmsg.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from kitmsg.metrics.families import Family

__all__ = ["Address", "Backend", "BackendKind", "backend_of", "parse", "schemes"]

GROUP: Final = "kitmsg.metrics"

INTERVAL_SECONDS: Final = 10.0
_LEAST_SECONDS: Final = 0.05
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_COMMON: Final = ("interval",)


class Backend(Protocol):
    """Sends families to a receiver."""

    async def push(self, families: Iterable[Family], /) -> None:
        """Send what has changed.

        Raises:
            OSError: The receiver is not there, or does not take it.  What it did not take
                is sent the next time.
        """
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class BackendKind(Protocol):
    """The module of an entry point in ``kitmsg.metrics``."""

    def open_backend(self, address: Address, /) -> Backend | None:
        """Return the backend that an address means, without I/O; None for one that is read.

        Raises:
            InvalidArgument: The address cannot be used.
            ImportError: A package that it needs is not installed; it names the extra.
        """
        ...


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address.

    Attributes:
        text: As it was written.
        scheme: Before ``://``, or all of it.
        host: Name or IP address; "" for none.
        port: 0 for none.
        path: With its slash; "" for none.
        options: What stands behind ``?``.
    """

    text: str
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    options: Mapping[str, str] = ()  # type: ignore[assignment]  # replaced by `parse`

    def expect(self, *names: str, port: int) -> tuple[str, int]:
        """Return host and port; refuse options that are not in `names`.

        Args:
            names: Options of the scheme, beside those that all have.
            port: The usual one, where the address says none.

        Raises:
            InvalidArgument: There is no host, or an unknown option.
        """
        if not self.host:
            raise InvalidArgument(
                f"{self.text!r} names no host; write {self.scheme}://HOST:{port}"
            )
        known = (*_COMMON, *names)
        for name in self.options:
            if name not in known:
                raise InvalidArgument(
                    f"{self.text!r} has an unknown option {name!r}; there are"
                    f" {', '.join(known)}"
                )
        return self.host, self.port or port

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        """Return an option that is a number.

        Raises:
            InvalidArgument: It is none, or out of bounds.
        """
        text = self.options.get(name)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise InvalidArgument(
                f"{self.text!r}: {name} is a number from {least:g} to {most:g},"
                f" not {text!r}"
            )
        return value

    def choice(self, name: str, *choices: str) -> str:
        """Return an option that is one of `choices`; the first by default.

        Raises:
            InvalidArgument: It is none of them.
        """
        value = self.options.get(name, choices[0])
        if value not in choices:
            raise InvalidArgument(
                f"{self.text!r}: {name} is {' or '.join(choices)}, not {value!r}"
            )
        return value

    @property
    def interval(self) -> float:
        """Seconds between two flushes."""
        return self.number(
            "interval", INTERVAL_SECONDS, least=_LEAST_SECONDS, most=3600
        )

    @property
    def shown(self) -> str:
        """The address for logs: without options."""
        return self.text.partition("?")[0]


def schemes() -> list[str]:
    """Return the schemes that are installed, sorted."""
    return sorted(each.name for each in importlib.metadata.entry_points(group=GROUP))


def parse(text: str) -> Address:
    """Return the parts of an address.

    Raises:
        InvalidArgument: It is none; the sentence says how they are written.
    """
    scheme, found, _ = text.partition("://")
    if not _SCHEME.fullmatch(scheme) or scheme not in schemes():
        known = ", ".join(schemes())
        raise InvalidArgument(
            f"{text!r} is no address of metrics; write SCHEME://HOST:PORT, where SCHEME is"
            f" one of {known}"
        )
    try:
        parts = urlsplit(text if found else f"{scheme}://")
        host, port = parts.hostname or "", parts.port or 0
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)
            if parts.query
            else ()
        )
    except ValueError as exc:
        raise InvalidArgument(f"{text!r} is no address of metrics: {exc}") from None
    if parts.username or parts.password:
        raise InvalidArgument(
            f"the address of {scheme} metrics has a user or a password in it: a command"
            " line is shown to everybody; set it in the environment"
        )
    return Address(text, scheme, host, port, parts.path, options)


def backend_of(address: Address) -> Backend | None:
    """Return the backend of an address, without I/O; None for one that is read.

    Raises:
        InvalidArgument: The address cannot be used.
        FailedPrecondition: A package that it needs is missing, or cannot be loaded.
    """
    entries = importlib.metadata.entry_points(group=GROUP, name=address.scheme)
    entry = next(iter(entries))
    _ = address.interval  # refused early
    try:
        kind: BackendKind = entry.load()
        return kind.open_backend(address)
    except ImportError as exc:
        raise FailedPrecondition(
            f"metrics by {address.scheme} cannot be sent: {exc}"
        ) from exc
