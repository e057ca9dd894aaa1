"""Count and time calls, in a `kitmsg.metrics.Provider` or for prometheus-client.

Without a provider it needs the extra ``prometheus``, when `metrics` is called.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import perf_counter  # uvloop's own clock ticks in whole milliseconds
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

from kitmsg.context import Context
from kitmsg.endpoints import Endpoint, Middleware, Req, Resp
from kitmsg.errors import Code, code_of
from kitmsg.metrics.provider import Provider
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
else:
    CollectorRegistry = Any  # of an extra, which need not be there to read the types

__all__ = ["counts_calls", "metrics"]

Add: TypeAlias = Callable[[float], None]
"""Adds to a series, or observes in it."""

_LABELS: Final = ("service", "endpoint", "code")


class _Recorder:
    """The two metrics of one registry or provider; series are looked up once for each."""

    def __init__(self, make: Callable[[str, str, str], tuple[Add, Add]]) -> None:
        self._make = make
        self._series: dict[tuple[str, str], tuple[Add, Add]] = {}

    def record(self, endpoint: str, code: str, seconds: float) -> None:
        """Count one call of `endpoint` that ended with `code` after `seconds`."""
        key = endpoint, code
        series = self._series.get(key)
        if series is None:
            service = endpoint.partition(".")[0]
            series = self._series[key] = self._make(service, endpoint, code)
        add, observe = series
        add(1)
        observe(seconds)


# A registry refuses a second metric of the same name; `metrics()` may be used twice.
_recorders: WeakKeyDictionary[CollectorRegistry, dict[str, _Recorder]] = (
    WeakKeyDictionary()
)


def metrics(
    registry: CollectorRegistry | Provider | None = None,
    *,
    side: Literal["server", "client"] = "server",
) -> Middleware:
    """Keep two metrics of every call.

    The counter ``kitmsg_server_requests_total`` and the histogram
    ``kitmsg_server_duration_seconds`` have the labels ``service``, ``endpoint`` (its
    dotted name) and ``code`` (``ok``, or the error's).  Labels never come from a request.

        kit.client(Orders, middleware=(metrics(kit.metrics, side="client"), retry(3)))

    Clients count each attempt by themselves, under the same names
    (`kitmsg.metrics.clients`); one that is given this around it counts calls instead, as
    they are seen from here: around a retry, once.

    Args:
        registry: Where to count: a `kitmsg.metrics.Provider`, as a kit's, or a registry of
            prometheus-client; None for that one's default.
        side: Around which side's calls it stands; the word in the names.

    Raises:
        ImportError: prometheus-client is not installed, and no provider is given.
        ValueError: A provider is to count a server's calls, which workers count anyway.
    """
    if isinstance(registry, Provider):
        recorder = _of_provider(registry, side)
    else:
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

    if side == "client":
        _counting.add(wrap)
    return wrap


def counts_calls(middleware: Iterable[Middleware]) -> bool:
    """Tell whether one of a client's middlewares counts its calls already."""
    return any(each is one for each in middleware for one in _counting)


_counting: WeakSet[Middleware] = WeakSet()


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
        requests = Counter(
            f"kitmsg_{side}_requests",
            "Calls, by how they ended.",
            _LABELS,
            registry=place,
        )
        durations = Histogram(
            f"kitmsg_{side}_duration_seconds",
            "Time from call to response.",
            _LABELS,
            registry=place,
            buckets=BOUNDS_SECONDS,
        )
        recorders[side] = _Recorder(
            lambda *key: (requests.labels(*key).inc, durations.labels(*key).observe)
        )
    return recorders[side]


def _of_provider(provider: Provider, side: str) -> _Recorder:
    """Return a recorder in `provider`, which gives equal names the same instruments."""
    if side == "server":
        raise ValueError(
            "workers count the calls that they serve: with a Provider, write"
            " metrics(kit.metrics, side='client') around a client"
        )
    counter = provider.counter(
        f"kitmsg_{side}_requests_total", "Calls, by how they ended.", labels=_LABELS
    )
    times = provider.histogram(
        f"kitmsg_{side}_duration_seconds", "Time from call to response.", labels=_LABELS
    )

    def make(service: str, endpoint: str, code: str) -> tuple[Add, Add]:
        labels = {"service": service, "endpoint": endpoint, "code": code}
        return counter.labels(**labels).add, times.labels(**labels).observe

    return _Recorder(make)
