"""Workers' counters in the text format that Prometheus reads.

One line per endpoint and worker; adding up is Prometheus's job.  Source:
prometheus.io, "Exposition formats".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.metrics.stats import BOUNDS_NS, BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["CONTENT_TYPE", "merge", "render"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_COUNTERS: Final = {
    "requests": "Turns that ran, failed ones included.",
    "errors": "Asks that were answered with an error, refused ones too.",
    "expired": "Asks dropped unread because their deadline had passed.",
    "cancelled": "Turns ended because the caller gave up or time was up.",
    "shed": "Asks refused because the mailbox was full.",
    "invalid": "Asks refused because headers or body did not fit.",
}
_GAUGES: Final = {
    "running": "Turns that run now.",
    "waiting": "Turns that wait in the mailbox.",
    "held": "Turns whose call is over but whose thread still runs.",
}
_QUARANTINED: Final = "Asks refused because they had restarted the service repeatedly."
_NS: Final = 1e9


def _cuts() -> tuple[tuple[float, int], ...]:
    """Return, for each bound, how many of the fine buckets lie wholly below it."""
    fine = [bound / _NS for bound in BOUNDS_NS]
    return tuple(
        (bound, sum(1 for upper in fine if upper <= bound)) for bound in BOUNDS_SECONDS
    )


_CUTS: Final = _cuts()


def render(reports: Iterable[tuple[int, int, dict[str, Any]]]) -> str:
    """Return the page.

    Args:
        reports: Number of the worker, its restarts, and its report (`kitmsg.worker.
            process`), for each worker.
    """
    known = list(reports)
    families = [
        *_endpoint_families(known),
        *_service_families(known),
        *_worker_families(known),
    ]
    lines: list[str] = []
    for name, kind, text, samples in families:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", *samples]
    lines += merge((worker, report.get("metrics", "")) for worker, _, report in known)
    return "\n".join(lines) + "\n"


def merge(pages: Iterable[tuple[int, str]]) -> list[str]:
    """Return the lines of several pages as one page, each sample with its worker.

    Args:
        pages: Number of the worker, and its page.
    """
    families: dict[str, list[str]] = {}
    for worker, page in pages:
        family: list[str] = []
        for line in page.splitlines():
            if line.startswith("# HELP "):
                family = families.setdefault(line.split(" ")[2], [])
            if not line.startswith("#"):
                family.append(_labelled(line, worker))
            elif line not in family:
                family.append(line)
    return [line for family in families.values() for line in family]


def _labelled(sample: str, worker: int) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{worker="{worker}"}} {value}'


def _endpoint_families(known: list[Any]) -> Iterator[tuple[str, str, str, list[str]]]:
    points = [
        (_labels(service=s["service"], endpoint=name, worker=worker), stats)
        for worker, _, report in known
        for s in report["services"]
        for name, stats in s["endpoints"].items()
    ]
    for field, text in _COUNTERS.items():
        name = f"kitmsg_{field}_total"
        yield (
            name,
            "counter",
            text,
            [f"{name}{{{lab}}} {stats[field]}" for lab, stats in points],
        )
    name = "kitmsg_duration_seconds"
    samples = [line for lab, stats in points for line in _histogram(name, lab, stats)]
    yield name, "histogram", "Duration of turns.", samples


def _histogram(name: str, labels: str, stats: dict[str, Any]) -> Iterator[str]:
    buckets = stats["buckets"]
    for bound, count in _CUTS:
        yield f'{name}_bucket{{{labels},le="{bound:g}"}} {sum(buckets[:count])}'
    total = sum(buckets)
    yield f'{name}_bucket{{{labels},le="+Inf"}} {total}'
    yield f"{name}_sum{{{labels}}} {stats['processing_ns'] / _NS:.9f}"
    yield f"{name}_count{{{labels}}} {total}"


def _service_families(known: list[Any]) -> Iterator[tuple[str, str, str, list[str]]]:
    rows = [
        (f"kitmsg_mailbox_{field}", field, "gauge", text)
        for field, text in _GAUGES.items()
    ]
    rows.append(("kitmsg_quarantined_total", "quarantined", "counter", _QUARANTINED))
    for name, field, kind, text in rows:
        samples = [
            f"{name}{{{_labels(service=s['service'], worker=worker)}}} {s[field]}"
            for worker, _, report in known
            for s in report["services"]
        ]
        yield name, kind, text, samples


def _worker_families(known: list[Any]) -> Iterator[tuple[str, str, str, list[str]]]:
    rows: list[tuple[str, str, str, Any]] = [
        (
            "kitmsg_bus_connected",
            "gauge",
            "Whether the worker reaches the bus.",
            lambda report, _: int(report["bus"]["connected"]),
        ),
        (
            "kitmsg_bus_reconnects_total",
            "counter",
            "Connections to the bus that were lost and made again.",
            lambda report, _: report["bus"]["reconnects"],
        ),
        (
            "kitmsg_worker_memory_bytes",
            "gauge",
            "Resident memory.",
            lambda report, _: int(report["process"]["memory_bytes"]),
        ),
        (
            "kitmsg_worker_cpu_seconds_total",
            "counter",
            "CPU time spent.",
            lambda report, _: report["process"]["cpu_seconds"],
        ),
        (
            "kitmsg_worker_restarts_total",
            "counter",
            "Times the worker was started again after it died.",
            lambda _, restarts: restarts,
        ),
    ]
    for name, kind, text, read in rows:
        yield (
            name,
            kind,
            text,
            [
                f"{name}{{{_labels(worker=worker)}}} {read(report, restarts)}"
                for worker, restarts, report in known
            ],
        )


def _labels(**labels: object) -> str:
    return ",".join(f'{name}="{_escape(str(text))}"' for name, text in labels.items())


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
