"""Counts and durations, by labels that callers cannot make up."""

from __future__ import annotations

import sys

from kitmsg.metrics.stats import BOUNDS_SECONDS
from kitmsg_gateways.edge.metrics import Metrics

CALLS = "kitmsg_gateway_requests_total"


def _calls(endpoint: str, code: str, service: str = "") -> bytes:
    labels = f'service="{service}",endpoint="{endpoint}",code="{code}"'
    return f'{CALLS}{{gateway="http",{labels}}}'.encode()


async def test_metrics_count_by_endpoint(memory_bus, start, foreign):
    """Not by path or method, which anybody can make up."""
    foreign("far", "far.do")
    call = await start(memory_bus)
    await call("POST", "/far/do")
    for n in range(3):
        await call("GET", f"/nothing/{n}")
    await call("PUT", "/far/do")
    response, text = await call("GET", "/metrics")
    assert response.content_type == "text/plain"
    assert _calls("other", "not_found", "other") + b" 3" in text
    assert _calls("other", "unimplemented", "other") + b" 1" in text
    assert _calls("far.do", "unavailable", "far") + b" 1" in text
    assert b'kitmsg_gateway_in_flight{gateway="http"} 1' in text
    assert b'kitmsg_gateway_endpoints{gateway="http"} 1' in text


async def test_metrics_need_nothing_installed(memory_bus, start, monkeypatch):
    """The text is our own."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    call = await start(memory_bus)
    response, _ = await call("GET", "/metrics")
    assert response.status == 200


def test_buckets_add_up():
    """Each bucket counts what is not longer than its bound; the last counts all."""
    metrics = Metrics("http")
    for seconds in (0.0, BOUNDS_SECONDS[0], 0.2, 99.0):
        metrics.observe("a.b", "ok", seconds)
    text = metrics.exposition()
    labels = 'gateway="http",service="a",endpoint="a.b",code="ok"'
    name = "kitmsg_gateway_duration_seconds"
    assert f'{name}_bucket{{{labels},le="0.001"}} 2' in text
    assert f'{name}_bucket{{{labels},le="0.25"}} 3' in text
    assert f'{name}_bucket{{{labels},le="+Inf"}} 4' in text
    assert f"{name}_count{{{labels}}} 4" in text
    assert f"{CALLS}{{{labels}}} 4" in text
    assert metrics.count("a.b", "ok") == 4


async def test_metrics_are_there_as_json(memory_bus, start, foreign):
    """As Go's expvar shows them; not where there is no page of metrics."""
    foreign("far", "far.do")
    call = await start(memory_bus)
    await call("POST", "/far/do")
    response, found = await call("GET", "/debug/vars")
    assert response.content_type == "application/json"
    key = "gateway=http,service=far,endpoint=far.do,code=unavailable"
    assert found[CALLS][key] == 1
    assert found["kitmsg_gateway_duration_seconds"][key]["count"] == 1
    closed = await start(memory_bus, metrics_page=False)
    response, _ = await closed("GET", "/debug/vars")
    assert response.status == 404
