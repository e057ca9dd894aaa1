"""Count and time calls for Prometheus.

Needs the extra ``prometheus``, when `metrics` is called and not before.
"""

from __future__ import annotations

import asyncio
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakKeyDictionary

from kitmsg.context import Context
from kitmsg.endpoints import Endpoint, Middleware, Req, Resp
from kitmsg.errors import Code, code_of
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
else:
    CollectorRegistry = Any  # of an extra, which need not be there to read the types

__all__ = ["metrics"]

_LABELS: Final = ("service", "endpoint", "code")


class _Recorder:
    """The two metrics of one registry; children are looked up once for each label."""

    def __init__(self, requests: Counter, duration: Histogram) -> None:
        self._requests = requests
        self._duration = duration
        self._counters: dict[tuple[str, str], Counter] = {}
        self._timers: dict[tuple[str, str], Histogram] = {}

    def record(self, endpoint: str, code: str, seconds: float) -> None:
        """Count one call of `endpoint` that ended with `code` after `seconds`."""
        key = endpoint, code
        counter = self._counters.get(key)
        if counter is None:
            labels = (endpoint.partition(".")[0], endpoint, code)
            counter = self._counters[key] = self._requests.labels(*labels)
            self._timers[key] = self._duration.labels(*labels)
        counter.inc()
        self._timers[key].observe(seconds)


# A registry refuses a second metric of the same name; `metrics()` may be used twice.
_recorders: WeakKeyDictionary[CollectorRegistry, dict[str, _Recorder]] = (
    WeakKeyDictionary()
)


def metrics(
    registry: CollectorRegistry | None = None,
    *,
    side: Literal["server", "client"] = "server",
) -> Middleware:
    """Keep two metrics of every call.

    The counter ``kitmsg_server_requests_total`` and the histogram
    ``kitmsg_server_duration_seconds`` have the labels ``service``, ``endpoint`` (its
    dotted name) and ``code`` (``ok``, or the error's).  Labels never come from a request.

    Args:
        registry: Where to register them; None for prometheus-client's default.
        side: Around which side's calls it stands; the word in the names.

    Raises:
        ImportError: prometheus-client is not installed.
    """
    recorder = _recorder(registry, side)

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


def _recorder(registry: CollectorRegistry | None, side: str) -> _Recorder:
    """Return the recorder of a side in `registry`, made when it is first asked for."""
    try:
        from prometheus_client import REGISTRY, Counter, Histogram
    except ImportError as exc:
        raise ImportError(
            "metrics() needs prometheus-client: pip install 'kitmsg[prometheus]'"
        ) from exc
    place = REGISTRY if registry is None else registry
    recorders = _recorders.setdefault(place, {})
    if side not in recorders:
        recorders[side] = _Recorder(
            Counter(
                f"kitmsg_{side}_requests",
                "Calls, by how they ended.",
                _LABELS,
                registry=place,
            ),
            Histogram(
                f"kitmsg_{side}_duration_seconds",
                "Time from call to response.",
                _LABELS,
                registry=place,
                buckets=BOUNDS_SECONDS,
            ),
        )
    return recorders[side]
