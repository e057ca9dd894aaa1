"""Counters of services and connections as metric families: a series per endpoint and worker.

Adding up the workers is the backend's job.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.metrics.calls import labels_of
from kitmsg.metrics.families import (
    Distribution,
    Exemplar,
    Family,
    counter,
    gauge,
    histogram,
    joined,
    labelled,
)
from kitmsg.metrics.stats import BOUNDS_NS, BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kitmsg.metrics.families import Bucket

__all__ = ["families"]

_COUNTERS: Final = {
    "expired": "Asks dropped unread because their deadline had passed.",
    "cancelled": "Turns ended because the caller gave up or time was up.",
    "shed": "Asks refused because the mailbox was full.",
    "invalid": "Asks refused because headers or body did not fit.",
    "unvouched": "Asks whose principal did not hold, so that they were nobody's.",
}
_SERVICES: Final = {
    "running": gauge("kitmsg_server_in_flight", "Turns that run now."),
    "waiting": gauge("kitmsg_server_waiting", "Turns that wait in the mailbox."),
    "held": gauge(
        "kitmsg_server_held", "Turns whose call is over but whose thread still runs."
    ),
    "quarantined": counter(
        "kitmsg_server_quarantined_total",
        "Asks refused because they had restarted the service repeatedly.",
    ),
}
_NS: Final = 1e9
_CUTS: Final = (
    0,
    *(bisect_right(BOUNDS_NS, bound * _NS) for bound in BOUNDS_SECONDS),
    len(BOUNDS_NS),
)
"""Where the fine buckets are cut: each part lies wholly below its bound."""


def families(
    reports: Iterable[tuple[int, int, dict[str, Any]]], more: Iterable[Family] = ()
) -> list[Family]:
    """Return the families of workers.

    Args:
        reports: Number of the worker, its restarts, and its report (`kitmsg.service.
            report`), for each worker.
        more: Families beside them.
    """
    known = list(reports)
    own = list(_workers(known))
    for part in _once_each(known) or [[]]:
        own += [*_endpoints(part), *_mailboxes(part)]
    for worker, _, report in known:
        told = msgspec.convert(
            report.get("families", []), type=list[Family], str_keys=True
        )
        own += labelled(told, worker=str(worker))
    return joined([*own, *more])


def _once_each(known: list[Any]) -> list[list[Any]]:
    """Return the reports in parts that have each service of a worker once.

    It may serve several instances of one, whose series are added up then.
    """
    parts: list[list[Any]] = []
    for worker, restarts, report in known:
        met: Counter[str] = Counter()
        for service in report["services"]:
            depth = met[service["service"]]
            met[service["service"]] += 1
            if depth == len(parts):
                parts.append([])
            parts[depth].append((worker, restarts, {"services": [service]}))
    return parts


def _endpoints(known: list[Any]) -> Iterator[Family]:
    points = [
        ({**labels_of(name), "service": s["service"], "worker": str(worker)}, stats)
        for worker, _, report in known
        for s in report["services"]
        for name, stats in s["endpoints"].items()
    ]
    yield _requests(points)
    for field, text in _COUNTERS.items():
        family = counter(f"kitmsg_server_{field}_total", text)
        for labels, stats in points:
            family.add(stats[field], **labels)
        yield family
    errors = counter(
        "kitmsg_server_errors_total",
        "Asks that were answered with an error, refused ones too.",
    )
    for labels, stats in points:
        for code, count in sorted(stats["codes"].items()):
            errors.add(count, **labels, code=code)
    yield errors
    yield _durations(points)


def _requests(points: list[tuple[dict[str, str], dict[str, Any]]]) -> Family:
    """Return the requests by code: turns, and requests that never became one."""
    family = counter(
        "kitmsg_server_requests_total",
        "Turns that ran and requests that were refused before, by code.",
    )
    for labels, stats in points:
        codes = Counter(stats.get("refused", {}))
        for code, outcome in stats.get("outcomes", {}).items():
            codes[code] += sum(outcome["buckets"])
        family.add(stats["requests"] - codes.total(), **labels, code="ok")
        for code, count in sorted(codes.items()):
            family.add(count, **labels, code=code)
    return family


def _durations(points: list[tuple[dict[str, str], dict[str, Any]]]) -> Family:
    """Return the durations of turns, by code; those that failed are taken from all."""
    family = histogram("kitmsg_server_duration_seconds", "Duration of turns.")
    shown = family.distributions
    for labels, stats in points:
        buckets, ns = list(stats["buckets"]), stats["processing_ns"]
        outcomes = sorted(stats.get("outcomes", {}).items())
        for _, outcome in outcomes:
            failed = outcome["buckets"]
            buckets = [a - b for a, b in zip(buckets, failed, strict=True)]
            ns -= outcome["processing_ns"]
        well = {**stats, "buckets": buckets, "processing_ns": ns}
        for code, outcome in (("ok", well), *outcomes):
            shown.append(_distribution({**labels, "code": code}, outcome))
    return family


def _distribution(labels: dict[str, str], outcome: dict[str, Any]) -> Distribution:
    buckets, seconds = outcome["buckets"], outcome["processing_ns"] / _NS
    parts = [sum(buckets[a:b]) for a, b in pairwise(_CUTS)]
    return Distribution(
        labels, BOUNDS_SECONDS, parts, seconds, _fine(buckets), _exemplars(outcome)
    )


def _exemplars(stats: dict[str, Any]) -> dict[int, Exemplar]:
    told = stats.get("exemplars", {}).items()
    return {int(bucket): msgspec.convert(each, type=Exemplar) for bucket, each in told}


def _fine(counts: Iterable[int]) -> list[Bucket]:
    """Return the fine buckets of an endpoint, in seconds, without empty ones."""
    edges = pairwise((0, *BOUNDS_NS))
    return [
        (low / _NS, high / _NS, count)
        for (low, high), count in zip(edges, counts, strict=True)
        if count
    ]


def _mailboxes(known: list[Any]) -> Iterator[Family]:
    for field, empty in _SERVICES.items():
        family = replace(empty, samples=[])
        for worker, _, report in known:
            for s in report["services"]:
                family.add(s[field], service=s["service"], worker=str(worker))
        yield family


def _workers(known: list[Any]) -> Iterator[Family]:
    rows: list[tuple[Family, Callable[[dict[str, Any], int], float]]] = [
        (
            replace(
                gauge("kitmsg_bus_connected", "Whether the worker reaches the bus."),
                joins="min",
            ),
            lambda report, _: int(report["bus"]["connected"]),
        ),
        (
            counter(
                "kitmsg_bus_reconnects_total",
                "Connections to the bus that were lost and made again.",
            ),
            lambda report, _: report["bus"]["reconnects"],
        ),
        (
            counter(
                "kitmsg_bus_refused_total",
                "Answers that peers wanted on subjects that are no inboxes.",
            ),
            lambda report, _: report["bus"].get("refused", 0),
        ),
        (
            counter(
                "kitmsg_bus_late_replies_total",
                "Replies that came when nobody waited for them any more.",
            ),
            lambda report, _: report["bus"].get("late_replies", 0),
        ),
        (
            counter(
                "kitmsg_bus_dropped_total",
                "Commands that were not written when the connection broke.",
            ),
            lambda report, _: report["bus"].get("dropped", 0),
        ),
        (
            replace(
                gauge("kitmsg_worker_memory_bytes", "Resident memory."), joins="max"
            ),
            lambda report, _: int(report["process"]["memory_bytes"]),
        ),
        (
            replace(
                counter("kitmsg_worker_cpu_seconds_total", "CPU time spent."),
                joins="max",
            ),
            lambda report, _: report["process"]["cpu_seconds"],
        ),
        (
            counter(
                "kitmsg_worker_restarts_total",
                "Times the worker was started again after it died.",
            ),
            lambda _, restarts: restarts,
        ),
    ]
    for family, read in rows:
        for worker, restarts, report in known:
            family.add(read(report, restarts), worker=str(worker))
        yield family
