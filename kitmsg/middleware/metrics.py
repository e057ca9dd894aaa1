"""Count and time calls for Prometheus.

Needs the extra ``prometheus``, when `metrics` is called and not before.
"""

from __future__ import annotations

import asyncio
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from kitmsg.errors import Code, code_of

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram

    from kitmsg.context import Context
    from kitmsg.endpoints import Endpoint, Middleware, Req, Resp

__all__ = ["metrics"]

# From a call in memory to the default deadline and beyond, in seconds.
_BOUNDS: Final = (
    *(0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class _Recorder:
    """The two metrics of one registry; children are looked up once for each label."""

    def __init__(self, requests: Counter, duration: Histogram) -> None:
        self._requests = requests
        self._duration = duration
        self._counters: dict[tuple[str, str], Counter] = {}
        self._timers: dict[str, Histogram] = {}

    def record(self, endpoint: str, code: str, seconds: float) -> None:
        """Count one call of `endpoint` that ended with `code` after `seconds`."""
        counter = self._counters.get((endpoint, code))
        if counter is None:
            counter = self._requests.labels(endpoint, code)
            self._counters[endpoint, code] = counter
        counter.inc()
        timer = self._timers.get(endpoint)
        if timer is None:
            timer = self._timers[endpoint] = self._duration.labels(endpoint)
        timer.observe(seconds)


# A registry refuses a second metric of the same name; `metrics()` may be used twice.
_recorders: WeakKeyDictionary[CollectorRegistry, _Recorder] = WeakKeyDictionary()


def metrics(registry: CollectorRegistry | None = None) -> Middleware:
    """Keep two metrics of every call.

    The counter ``kitmsg_endpoint_requests_total`` has the labels ``endpoint`` and
    ``code`` (``ok``, or the error's); the histogram
    ``kitmsg_endpoint_duration_seconds`` has ``endpoint``.  Labels never come from a
    request.

    Args:
        registry: Where to register them; None for prometheus-client's default.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    recorder = _recorder(registry)

    def wrap(call: Endpoint[Req, Resp], /) -> Endpoint[Req, Resp]:
        async def measured(ctx: Context, request: Req) -> Resp:
            started = perf_counter()
            code = "ok"
            try:
                return await call(ctx, request)
            except asyncio.CancelledError:
                code = Code.CANCELLED.value
                raise
            except Exception as error:
                code = code_of(error).value
                raise
            finally:
                recorder.record(ctx.endpoint, code, perf_counter() - started)

        return measured

    return wrap


def _recorder(registry: CollectorRegistry | None) -> _Recorder:
    """Return the recorder of `registry`, made when it is first asked for."""
    try:
        from prometheus_client import REGISTRY, Counter, Histogram
    except ImportError as exc:
        raise ImportError(
            "metrics() needs prometheus-client: pip install 'kitmsg[prometheus]'"
        ) from exc
    place = REGISTRY if registry is None else registry
    if place not in _recorders:
        _recorders[place] = _Recorder(
            Counter(
                "kitmsg_endpoint_requests",
                "Calls, by how they ended.",
                ("endpoint", "code"),
                registry=place,
            ),
            Histogram(
                "kitmsg_endpoint_duration_seconds",
                "Time from call to response.",
                ("endpoint",),
                registry=place,
                buckets=_BOUNDS,
            ),
        )
    return _recorders[place]
