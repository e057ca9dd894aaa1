"""One contract, every backend: what its receiver has is what was counted."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.testing.metrics import CHECKS, Check
from tests.metrics.receivers.carbon import Carbon, GraphiteReceiver
from tests.metrics.receivers.collector import Collector, OtlpReceiver
from tests.metrics.receivers.exporter import DogStatsDReceiver, StatsDExporter
from tests.metrics.receivers.here import (
    JsonReceiver,
    MemoryReceiver,
    MultiReceiver,
    PageReceiver,
)
from tests.metrics.receivers.influx import InfluxDB, InfluxReceiver
from tests.metrics.receivers.started import started
from tests.metrics.receivers.statsd import StatsD, StatsDReceiver

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVERS: dict[str, Callable[[], Any]] = {
    "memory": MemoryReceiver,
    "multi": MultiReceiver,
    "json": JsonReceiver,
    "prometheus": PageReceiver,
    "openmetrics": lambda: PageReceiver("application/openmetrics-text"),
    "statsd": lambda: StatsDReceiver(started(StatsD)),
    "dogstatsd": lambda: DogStatsDReceiver(started(StatsDExporter)),
    "graphite": lambda: GraphiteReceiver(started(Carbon)),
    "influx-http": lambda: InfluxReceiver(started(InfluxDB)),
    "influx-udp": lambda: InfluxReceiver(started(InfluxDB), by_udp=True),
    "otlp-grpc": lambda: OtlpReceiver(started(Collector)),
    "otlp-http": lambda: OtlpReceiver(started(Collector), by_http=True),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_backend_keeps_the_contract(name: str, check: Check) -> None:
    """Each check of `kitmsg.testing.metrics`, with the real receiver."""
    receiver = RECEIVERS[name]()
    async with contextlib.aclosing(_Closing(receiver)):
        await check(receiver)


class _Closing:
    """Gives a receiver the name that `contextlib.aclosing` calls."""

    def __init__(self, receiver: Any) -> None:
        self.aclose = receiver.close
