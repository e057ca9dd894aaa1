"""Families become text that Prometheus reads."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from kitmsg.metrics.calls import Calls
from kitmsg.metrics.families import Family, Registry, counter
from kitmsg.metrics.prometheus import merge, render


def test_prometheus_reads_what_is_written() -> None:
    """Its own parser, with labels that hold all that has to be escaped."""
    calls = Calls("upstream", kind='a"b\\c\nd')
    calls.observe("users.get", "ok", 0.3)
    calls.observe("users.get", "not_found", 20.0)
    calls.in_flight = 2
    page = render(calls.collect(), process="7")
    found = {family.name: family for family in text_string_to_metric_families(page)}
    assert set(found) == {
        "kitmsg_upstream_requests",
        "kitmsg_upstream_duration_seconds",
        "kitmsg_upstream_in_flight",
    }
    for family in found.values():
        for sample in family.samples:
            assert sample.labels["kind"] == 'a"b\\c\nd'
            assert sample.labels["process"] == "7"
    values = [sample.value for sample in found["kitmsg_upstream_requests"].samples]
    assert values == [1, 1]
    buckets = found["kitmsg_upstream_duration_seconds"].samples
    late = [s for s in buckets if s.labels.get("code") == "not_found"]
    assert [s.value for s in late if s.labels.get("le") in ("10", "+Inf")] == [0, 1]


def test_an_endpoint_is_labelled_with_its_service() -> None:
    """What is no endpoint has none."""
    calls = Calls("server")
    for name in ("shop.price", "(none)", "/docs"):
        calls.observe(name, "ok", 0.0)
    family = next(iter(calls.collect()))
    labels = [(s[0]["service"], s[0]["endpoint"]) for s in family.samples]
    assert labels == [("", "(none)"), ("", "/docs"), ("shop", "shop.price")]


def test_collectors_of_one_family_are_shown_as_one() -> None:
    """Its help stands once."""

    def one(value: int) -> list[Family]:
        family = counter("kitmsg_x_total", "X.")
        family.add(value, of=str(value))
        return [family]

    registry = Registry()
    registry.register(lambda: one(1))
    registry.register(lambda: one(2))
    page = render(registry.collect())
    assert page.count("# HELP") == 1
    assert page.endswith('kitmsg_x_total{of="1"} 1\nkitmsg_x_total{of="2"} 2\n')


def test_pages_of_several_workers_become_one() -> None:
    """Each family is described once, each sample has its worker."""
    page = (
        '# HELP a A.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b counter\nb{c="d"} 2\n'
    )
    assert merge([(1, page), (2, page)]) == [
        "# HELP a A.",
        "# TYPE a gauge",
        'a{worker="1"} 1',
        'a{worker="2"} 1',
        "# HELP b B.",
        "# TYPE b counter",
        'b{worker="1",c="d"} 2',
        'b{worker="2",c="d"} 2',
    ]
