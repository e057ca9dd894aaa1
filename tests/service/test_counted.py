"""Counters become lines that Prometheus reads."""

from __future__ import annotations

import msgspec

from kitmsg.metrics.prometheus import render
from kitmsg.metrics.stats import BOUNDS_NS, EndpointStats
from kitmsg.service.counted import families


def report(**stats: object) -> dict[str, object]:
    """Return a worker's report with one endpoint."""
    zero = dict.fromkeys(
        ("requests", "errors", "expired", "cancelled", "shed", "invalid", "unvouched"),
        0,
    )
    endpoint = {
        **zero,
        "processing_ns": 0,
        "codes": {},
        "buckets": [0] * len(BOUNDS_NS),
        **stats,
    }
    service = {
        "service": "a",
        "running": 1,
        "waiting": 2,
        "held": 1,
        "quarantined": 3,
        "endpoints": {"a.b": endpoint},
    }
    return {
        "services": [service],
        "bus": {"connected": True, "reconnects": 4, "refused": 3},
        "process": {"memory_bytes": 5.0, "cpu_seconds": 0.5},
    }


def test_counters_carry_labels() -> None:
    """A counter names its service, endpoint and worker."""
    text = render(families([(7, 0, report(requests=3))]))
    assert (
        'kitmsg_server_requests_total{service="a",endpoint="a.b",worker="7",code="ok"}'
        " 3\n" in text
    )
    assert 'kitmsg_server_waiting{service="a",worker="7"} 2\n' in text
    assert 'kitmsg_server_held{service="a",worker="7"} 1\n' in text
    assert 'kitmsg_server_quarantined_total{service="a",worker="7"} 3\n' in text
    assert 'kitmsg_bus_reconnects_total{worker="7"} 4\n' in text
    assert 'kitmsg_bus_refused_total{worker="7"} 3\n' in text


def test_a_histogram_adds_up() -> None:
    """Each bucket holds the smaller ones too, and the last one everything."""
    buckets = [0] * len(BOUNDS_NS)
    buckets[0] = 2  # about a microsecond
    buckets[-1] = 1  # more than a minute
    text = render(
        families([(1, 0, report(buckets=buckets, processing_ns=2_000_000_000))])
    )
    labels = 'service="a",endpoint="a.b",worker="1",code="ok"'
    assert f'kitmsg_server_duration_seconds_bucket{{{labels},le="0.0001"}} 2\n' in text
    assert f'kitmsg_server_duration_seconds_bucket{{{labels},le="10"}} 2\n' in text
    assert f'kitmsg_server_duration_seconds_bucket{{{labels},le="+Inf"}} 3\n' in text
    assert f"kitmsg_server_duration_seconds_count{{{labels}}} 3\n" in text
    assert f"kitmsg_server_duration_seconds_sum{{{labels}}} 2.0\n" in text


def test_requests_and_durations_are_told_apart_by_code() -> None:
    """What failed is in its code's series alone; what was never a turn has no duration."""
    stats = EndpointStats()
    for _ in range(3):
        stats.observe(2_000_000)
    stats.broke("not_found", 2_000_000)
    stats.refuse("invalid_argument")
    told = msgspec.to_builtins(stats.snapshot())
    text = render(families([(1, 0, report(**told))]))
    labels = 'service="a",endpoint="a.b",worker="1"'
    name = "kitmsg_server_requests_total"
    assert f'{name}{{{labels},code="ok"}} 2\n' in text
    assert f'{name}{{{labels},code="not_found"}} 1\n' in text
    assert f'{name}{{{labels},code="invalid_argument"}} 1\n' in text
    name = "kitmsg_server_duration_seconds"
    assert f'{name}_count{{{labels},code="ok"}} 2\n' in text
    assert f'{name}_count{{{labels},code="not_found"}} 1\n' in text
    assert f'{name}_sum{{{labels},code="ok"}} 0.004\n' in text
    assert f'{name}_count{{{labels},code="invalid_argument"}}' not in text


def test_a_family_is_described_once() -> None:
    """Two workers share one HELP and one TYPE line per family."""
    text = render(families([(1, 0, report()), (2, 3, report())]))
    assert text.count("# TYPE kitmsg_server_requests_total counter") == 1
    assert 'kitmsg_worker_restarts_total{worker="2"} 3\n' in text
