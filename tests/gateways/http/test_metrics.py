"""Counts and durations, by labels that callers cannot make up."""

from __future__ import annotations

import sys

from kitmsg.metrics.stats import BOUNDS_SECONDS
from kitmsg_gateways.http.metrics import Metrics


async def test_metrics_count_by_template(memory_bus, start, foreign):
    """Not by path, which anybody can make up."""
    foreign("far", "far.do")
    call = await start(memory_bus)
    await call("POST", "/far/do")
    for n in range(3):
        await call("GET", f"/nothing/{n}")
    response, text = await call("GET", "/metrics")
    assert response.content_type == "text/plain"
    count = "kitmsg_http_request_duration_seconds_count"
    assert f'{count}{{method="GET",route="(none)",status="404"}} 3.0'.encode() in text
    assert f'{count}{{method="POST",route="/far/do",status="503"}} 1.0'.encode() in text
    assert b"kitmsg_http_in_flight 1.0" in text
    assert b"kitmsg_http_endpoints 1.0" in text


async def test_without_prometheus_metrics_say_what_to_install(
    memory_bus, start, monkeypatch
):
    """Not a traceback."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    call = await start(memory_bus)
    response, body = await call("GET", "/metrics")
    assert response.status == 501
    assert "pip install 'kitmsg[prometheus]'" in body["detail"]


def test_buckets_add_up():
    """Each bucket counts what is not longer than its bound; the last counts all."""
    metrics = Metrics(lambda: 0, lambda: 0)
    for seconds in (0.0, BOUNDS_SECONDS[0], 0.2, 99.0):
        metrics.observe("/x", "GET", 200, seconds)
    text = metrics.exposition().decode()
    labels = 'method="GET",route="/x",status="200"'
    name = "kitmsg_http_request_duration_seconds"
    assert f'{name}_bucket{{le="0.001",{labels}}} 2.0' in text
    assert f'{name}_bucket{{le="0.25",{labels}}} 3.0' in text
    assert f'{name}_bucket{{le="+Inf",{labels}}} 4.0' in text
    assert f"{name}_count{{{labels}}} 4.0" in text
    assert metrics.count("/x", "GET", 200) == 4


def test_odd_methods_count_together():
    """So a caller cannot grow the table."""
    metrics = Metrics(lambda: 0, lambda: 0)
    for method in ("PROPFIND", "BREW"):
        metrics.observe("/x", method, 405, 0.0)
    assert metrics.count("/x", "other", 405) == 2
