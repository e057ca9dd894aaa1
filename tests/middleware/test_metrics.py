"""Count and time calls for Prometheus."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from kitmsg.context import Context
from kitmsg.errors import NotFound
from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.middleware import metrics

if TYPE_CHECKING:
    from kitmsg.endpoints import Endpoint


async def echo(_ctx: Context, request: str) -> str:
    return request


def failing(error: BaseException) -> Endpoint[str, str]:
    async def fail(_ctx: Context, _request: str) -> str:
        raise error

    return fail


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry that nobody else uses."""
    return CollectorRegistry()


def count(
    registry: CollectorRegistry, code: str, endpoint: str = "a.b"
) -> float | None:
    return registry.get_sample_value(
        "kitmsg_server_requests_total",
        {"service": endpoint.partition(".")[0], "endpoint": endpoint, "code": code},
    )


async def test_counts_calls_by_how_they_ended(registry: CollectorRegistry) -> None:
    """Successes, errors, bugs and cancelled calls each have their code."""
    ctx = Context(endpoint="a.b")
    await metrics(registry)(echo)(ctx, "hi")
    await metrics(registry)(echo)(ctx, "hi")
    for error in (NotFound("x"), ValueError("bug"), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await metrics(registry)(failing(error))(ctx, "hi")
    codes = ("ok", "not_found", "internal", "cancelled")
    assert [count(registry, code) for code in codes] == [2, 1, 1, 1]


async def test_times_calls(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The histogram has the seconds from call to response, failures included."""
    ticks = iter(range(100))
    module = sys.modules["kitmsg.middleware.metrics"]
    monkeypatch.setattr(module, "perf_counter", lambda: next(ticks) * 0.25)
    ctx = Context(endpoint="a.b")
    await metrics(registry)(echo)(ctx, "hi")
    with pytest.raises(NotFound):
        await metrics(registry)(failing(NotFound("x")))(ctx, "hi")
    name = "kitmsg_server_duration_seconds"
    for code in ("ok", "not_found"):
        labels = {"service": "a", "endpoint": "a.b", "code": code}
        assert registry.get_sample_value(f"{name}_count", labels) == 1
        assert registry.get_sample_value(f"{name}_sum", labels) == 0.25
        bucket = registry.get_sample_value(f"{name}_bucket", {**labels, "le": "0.25"})
        assert bucket == 1


async def test_the_text_format_has_both_names(registry: CollectorRegistry) -> None:
    """What Prometheus reads carries the promised names and labels."""
    await metrics(registry)(echo)(Context(endpoint="a.b"), "hi")
    text = generate_latest(registry).decode()
    labels = '{code="ok",endpoint="a.b",service="a"}'
    assert f"kitmsg_server_requests_total{labels} 1.0" in text
    assert f"kitmsg_server_duration_seconds_count{labels} 1.0" in text


async def test_a_client_s_calls_are_another_family(registry: CollectorRegistry) -> None:
    """Both sides may count in one process, under names that say which."""
    await metrics(registry, side="client")(echo)(Context(endpoint="a.b"), "hi")
    await metrics(registry)(echo)(Context(endpoint="a.b"), "hi")
    text = generate_latest(registry).decode()
    labels = '{code="ok",endpoint="a.b",service="a"}'
    assert f"kitmsg_client_requests_total{labels} 1.0" in text
    assert f"kitmsg_server_requests_total{labels} 1.0" in text


async def test_labels_are_resolved_once(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lookup of a labelled child is not paid for on every call."""
    looked_up: list[tuple[str, ...]] = []
    labels = Counter.labels

    def spy(self: Counter, *values: str) -> Counter:
        looked_up.append(values)
        return labels(self, *values)

    monkeypatch.setattr(Counter, "labels", spy)
    call = metrics(registry)(echo)
    for _ in range(5):
        await call(Context(endpoint="a.b"), "hi")
    assert looked_up == [("a", "a.b", "ok")]
    assert count(registry, "ok") == 5


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prometheus-client the error says what to install, when it is used."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match=r"pip install 'kitmsg\[prometheus\]'"):
        metrics()


async def test_calls_of_clients_are_counted_in_a_provider() -> None:
    """By the same names; two clients of a kit share them."""
    provider = MemoryMetrics()
    call = metrics(provider, side="client")(echo)
    await call(Context(endpoint="a.b"), "hi")
    failed = metrics(provider, side="client")(failing(NotFound("gone")))
    with pytest.raises(NotFound):
        await failed(Context(endpoint="a.b"), "hi")
    labels = {"service": "a", "endpoint": "a.b"}
    for code in ("ok", "not_found"):
        for name in ("requests_total", "duration_seconds"):
            assert provider.value(f"kitmsg_client_{name}", **labels, code=code) == 1


def test_what_workers_count_is_not_counted_twice() -> None:
    with pytest.raises(ValueError, match="workers count the calls that they serve"):
        metrics(MemoryMetrics())
