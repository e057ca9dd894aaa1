"""Families become text that Prometheus reads."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kitmsg.metrics.calls import MOST_SERIES, Calls
from kitmsg.metrics.families import Family, Registry, counter
from kitmsg.metrics.prometheus import merge, negotiate, render


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
    for name in ("shop.price", "other", "/docs"):
        calls.observe(name, "ok", 0.0)
    family = next(iter(calls.collect()))
    labels = [(s[0]["service"], s[0]["endpoint"]) for s in family.samples]
    assert labels == [("", "/docs"), ("other", "other"), ("shop", "shop.price")]


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


def test_names_of_strangers_are_bounded() -> None:
    """What comes after the most series is counted together, and nothing is lost."""
    calls = Calls("gateway")
    for number in range(MOST_SERIES + 7):
        calls.observe(f"s{number}.e", "ok", 0.0)
    assert calls.count("other", "ok") == 7
    assert calls.count("s0.e", "ok") == 1


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4"),
        ("text/plain", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;q=0, text/plain", "text/plain; version=0.0.4"),
        # Prometheus 2.42's own.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text; version=1.0.0",
        ),
    ],
)
def test_a_reader_gets_the_format_that_it_asks_for(accept: str, kind: str) -> None:
    found, page = negotiate(accept, Calls("server").collect())
    assert found.startswith(kind)
    assert page.endswith("# EOF\n") == ("openmetrics" in kind)
