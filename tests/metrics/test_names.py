"""Names that a page cannot hold are refused where they are declared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from kitmsg.metrics.memory import MemoryMetrics
from kitmsg.metrics.prometheus import render_openmetrics

Declare = Callable[[MemoryMetrics], object]


@pytest.mark.parametrize(
    ("declare", "sentence"),
    [
        (lambda m: m.counter(""), "is no name"),
        (lambda m: m.counter("9a"), "is no name"),
        (lambda m: m.counter("a", labels=("b-c",)), "'b-c' is no name"),
        (lambda m: m.counter("a", labels=("__b",)), "label '__b': it is the format's"),
        (lambda m: m.histogram("a", labels=("le",)), "label 'le': it is the format's"),
        (lambda m: m.counter("a", labels=("b", "b")), "a label twice: b, b"),
        (lambda m: m.histogram("a", bounds=(2, 1)), "must rise and be finite"),
        (
            lambda m: m.histogram("a", bounds=(1, float("inf"))),
            "must rise and be finite",
        ),
        (lambda m: m.histogram("a", bounds=(float("nan"),)), "must rise and be finite"),
    ],
)
def test_what_cannot_be_shown_cannot_be_declared(
    declare: Declare, sentence: str
) -> None:
    """With one sentence; a reader would throw the whole page away."""
    with pytest.raises(ValueError, match=sentence):
        declare(MemoryMetrics())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda m: m.counter("a"), lambda m: m.gauge("a")),
        (lambda m: m.histogram("a"), lambda m: m.counter("a")),
        (lambda m: m.histogram("a"), lambda m: m.gauge("a_count")),
        (lambda m: m.gauge("a_sum"), lambda m: m.histogram("a")),
    ],
)
def test_two_metrics_share_no_name_of_a_sample(one: Declare, other: Declare) -> None:
    """The first stays, and its page can be read."""
    metrics = MemoryMetrics()
    one(metrics)
    with pytest.raises(ValueError, match="on a page; choose another"):
        other(metrics)
    one(metrics)
    page = render_openmetrics(metrics.collect())
    found = text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
    assert len(list(found)) == 1
