"""Backends that are read: what their pages say, parsed by the readers of others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from kitmsg.metrics import prometheus, variables
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.multi import Multi
from kitmsg.testing.metrics import Observed
from tests.metrics.receivers.buckets import quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kitmsg.metrics.provider import Provider

__all__ = ["JsonReceiver", "MemoryReceiver", "MultiReceiver", "PageReceiver"]


class MemoryReceiver:
    """The provider itself."""

    def __init__(self) -> None:
        self.memory = MemoryMetrics(fine=True)
        self.metrics: Provider = self.memory

    async def flush(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return self.memory.value(name, **labels)

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return self.memory.value(name, **labels)

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        for family in self.memory.collect():
            for each in family.distributions:
                if (family.name, each.labels) == (name, labels):
                    shares = (0.5, 0.9, 0.99)
                    quantiles = {
                        q: quantile(each.bounds, each.counts, q) for q in shares
                    }
                    return Observed(each.count, each.total, quantiles)
        raise AssertionError(f"there is no {name}")


class MultiReceiver(MemoryReceiver):
    """The second of two providers, each with everything."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Multi(MemoryMetrics(), self.memory)


class JsonReceiver(MemoryReceiver):
    """``/debug/vars``."""

    def _value(self, name: str, labels: dict[str, str]) -> Any:
        page = json.loads(variables.render(self.memory.collect()))
        found = page.get(name, {})
        if not labels:
            return found
        return found.get(",".join(f"{key}={value}" for key, value in labels.items()), 0)

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return float(self._value(name, labels))

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return float(self._value(name, labels))

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        found = self._value(name, labels)
        quantiles = {0.5: found["p50"], 0.9: found["p90"], 0.99: found["p99"]}
        return Observed(found["count"], found["sum"], quantiles)


class PageReceiver(MemoryReceiver):
    """``/metrics``, in Prometheus' text format or OpenMetrics."""

    def __init__(self, accept: str = "") -> None:
        super().__init__()
        self._accept = accept
        self._parse: Callable[[str], Iterable[Any]] = (
            openmetrics_families if accept else text_string_to_metric_families
        )

    def _samples(self, name: str, labels: dict[str, str]) -> dict[str, float]:
        kind, page = prometheus.negotiate(self._accept, self.memory.collect())
        assert kind.startswith(self._accept or "text/plain")
        found = {}
        for family in self._parse(page):
            for sample in family.samples:
                own = dict(sample.labels)
                bound = own.pop("le", "")
                if own == labels and sample.name.startswith(name):
                    found[f"{sample.name}{bound}"] = sample.value
        return found

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        return self._samples(name, labels).get(name, 0.0)

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        return self._samples(name, labels)[name]

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        found = self._samples(name, labels)
        bucket = f"{name}_bucket"
        rising = [
            (key, value) for key, value in found.items() if key.startswith(bucket)
        ]
        bounds = [float(key.removeprefix(bucket)) for key, _ in rising]
        counts = [int(value) for _, value in rising]
        each = [b - a for a, b in zip([0, *counts], counts, strict=False)]
        quantiles = {q: quantile(bounds[:-1], each, q) for q in (0.5, 0.9, 0.99)}
        return Observed(found[f"{name}_count"], found[f"{name}_sum"], quantiles)
