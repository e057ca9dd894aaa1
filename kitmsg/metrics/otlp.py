"""Metrics for an OpenTelemetry collector, by the exporters of OpenTelemetry's SDK.

``otlp://host:4317`` speaks gRPC, ``otlp+http://host:4318`` HTTP (``+https``, and
``otlp://host:4317?tls=true``); headers and certificates come from ``OTEL_EXPORTER_OTLP_*``,
the resource from ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES``.  Sums are
cumulative, so a flush that is lost loses nothing.  CloudWatch, PCP and all that a collector
knows are reached this way.
"""

from __future__ import annotations

import asyncio
import importlib.util
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, cast

from kitmsg.tracing.quiet import quietly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.families import Distribution, Exemplar, Family

__all__ = ["OtlpBackend", "open_backend"]

_GRPC_PORT: Final = 4317
_HTTP_PORT: Final = 4318
_SECONDS: Final = 3  # with the exporter's own tries
_THREAD: Final = "kitmsg-otlp-metrics"


def open_backend(address: Address, /) -> OtlpBackend:
    """Return the backend of an address; needs the extra ``otel``."""
    _, plus, scheme = address.scheme.partition("+")
    if plus:
        host, port = address.expect(port=_HTTP_PORT)
    else:
        host, port = address.expect("tls", port=_GRPC_PORT)
    is_secure = scheme == "https" or address.choice("tls", "false", "true") == "true"
    where = f"[{host}]" if ":" in host else host
    url = f"{'https' if is_secure else 'http'}://{where}:{port}"
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        raise ImportError("pip install 'kitmsg[otel]'")
    if plus:
        return OtlpBackend(lambda: _by_http(f"{url}{address.path or '/v1/metrics'}"))
    return OtlpBackend(lambda: _by_grpc(url, is_secure=is_secure))


def _by_http(url: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (
        OTLPMetricExporter,
    )

    return OTLPMetricExporter(url, timeout=_SECONDS)


def _by_grpc(url: str, *, is_secure: bool) -> Any:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
        OTLPMetricExporter,
    )

    return OTLPMetricExporter(url, insecure=not is_secure, timeout=_SECONDS)


class OtlpBackend:
    """A `kitmsg.metrics.address.Backend` over a metrics exporter of OpenTelemetry.

    Args:
        make: Makes an exporter, such as an `OTLPMetricExporter`.  It imports, connects and
            blocks in a thread of its own.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._exporter: Any = (
            None  # made and used by `_thread` only, but for its shutdown
        )
        self._id = str(uuid.uuid4())
        self._started = time.time_ns()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=_THREAD)
        self._why = ""  # of the last push that failed

    async def push(self, families: Iterable[Family], /) -> None:
        """Send all families as they stand."""
        found = list(families)
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._thread, self._export, found):
            raise ConnectionError(self._why or "the collector does not take them")

    async def close(self) -> None:
        """Close the connection; an export that goes on is broken off."""
        if self._exporter is not None:
            await asyncio.to_thread(self._exporter.shutdown)
        self._thread.shutdown(wait=False)

    def _export(self, families: list[Family]) -> bool:
        """Send families; False when the collector did not take them."""
        from opentelemetry.sdk.metrics.export import MetricExportResult

        if self._exporter is None:
            self._exporter = self._make()
        with quietly() as said:
            result = self._exporter.export(self._data(families))
        self._why = said.last
        return bool(result is MetricExportResult.SUCCESS)

    def _data(self, families: Iterable[Family]) -> Any:
        """Return the message; its types are the SDK's."""
        from opentelemetry.sdk.metrics.export import (
            MetricsData,
            ResourceMetrics,
            ScopeMetrics,
        )
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        now = time.time_ns()
        metrics = [_metric(family, self._started, now) for family in families]
        scope = ScopeMetrics(InstrumentationScope("kitmsg"), metrics, "")
        # Of two processes with the same labels, as at a rolling restart, each has its own.
        resource = Resource({"service.instance.id": self._id}).merge(Resource.create())
        return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, started: int, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        Gauge,
        Histogram,
        Metric,
        NumberDataPoint,
        Sum,
    )

    cumulative = AggregationTemporality.CUMULATIVE
    unit = "s" if family.name.endswith(("_seconds", "_seconds_total")) else ""
    unit = "By" if family.name.endswith(("_bytes", "_bytes_total")) else unit
    numbers = [
        NumberDataPoint(labels, started, now, value) for labels, value in family.samples
    ]
    data: Any
    if family.kind == "counter":
        data = Sum(numbers, cumulative, is_monotonic=True)
    elif family.kind == "gauge":
        data = Gauge(numbers)
    else:
        points = [_distribution(each, started, now) for each in family.distributions]
        data = Histogram(points, cumulative)
    # A collector's Prometheus exporter appends `_total` and the unit itself, once.
    return Metric(family.name, family.text, unit, data)


def _distribution(each: Distribution, started: int, now: int) -> Any:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    return HistogramDataPoint(
        attributes=each.labels,
        start_time_unix_nano=started,
        time_unix_nano=now,
        count=each.count,
        sum=each.total,
        bucket_counts=each.counts,
        explicit_bounds=each.bounds,
        min=cast("Any", None),
        max=cast("Any", None),  # over what time it would be is not known
        exemplars=[_exemplar(found) for found in each.exemplars.values()],
    )


def _exemplar(found: Exemplar) -> Any:
    from opentelemetry.sdk.metrics import Exemplar as SdkExemplar

    return SdkExemplar(
        filtered_attributes={},
        value=found.value,
        time_unix_nano=int(found.at * 1e9),
        span_id=int(found.span_id, 16),
        trace_id=int(found.trace_id, 16),
    )
