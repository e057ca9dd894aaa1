"""Families as Prometheus reads them: its text format, and OpenMetrics with exemplars.

Every page that a process of ours shows is written here.  Sources: prometheus.io, "Exposition
formats"; the OpenMetrics 1.0.0 specification.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kitmsg.metrics.address import Address
    from kitmsg.metrics.families import Distribution, Exemplar, Family

__all__ = [
    "CONTENT_TYPE",
    "OPENMETRICS",
    "merge",
    "negotiate",
    "open_backend",
    "render",
    "render_openmetrics",
]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_TOTAL: Final = "_total"


def open_backend(address: Address, /) -> None:
    """Return that it is read, at ``/metrics``, and so not pushed to."""


def negotiate(accept: str, families: Iterable[Family]) -> tuple[str, str]:
    """Return the content type and the page that an ``Accept`` header asks for.

    OpenMetrics for a reader that names it and does not weigh it 0; Prometheus does.
    """
    for part in accept.lower().split(","):
        kind, *parameters = (word.strip() for word in part.split(";"))
        if kind == "application/openmetrics-text":
            weights = [p.removeprefix("q=") for p in parameters if p.startswith("q=")]
            if not weights or weights[0].strip("0.") != "":
                return OPENMETRICS, render_openmetrics(families)
    return CONTENT_TYPE, render(families)


def render(families: Iterable[Family], **labels: str) -> str:
    """Return a page in Prometheus' text format.

    Args:
        families: Shown in this order.
        labels: More labels, of every sample.
    """
    more = _pairs(labels)
    lines: list[str] = []
    for family in families:
        name = family.name
        text = family.text.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {family.kind}")
        for own, value in family.samples:
            lines.append(f"{name}{_braced(_pairs(own), more)} {_number(value)}")
        for each in family.distributions:
            lines += (line for line, _ in _histogram(name, each, more))
    return "\n".join(lines) + "\n" if lines else ""


def render_openmetrics(families: Iterable[Family], **labels: str) -> str:
    """Return a page in OpenMetrics: as `render`, with exemplars."""
    more = _pairs(labels)
    lines: list[str] = []
    for family in families:
        name = family.name.removesuffix(_TOTAL)
        suffix = _TOTAL if family.kind == "counter" else ""
        lines.append(f"# TYPE {name} {family.kind}")
        lines.append(f"# HELP {name} {_escape(family.text)}")
        for own, value in family.samples:
            lines.append(f"{name}{suffix}{_braced(_pairs(own), more)} {_number(value)}")
        for each in family.distributions:
            lines += (
                f"{line}{_exemplar(each.exemplars.get(bucket))}"
                for line, bucket in _histogram(name, each, more)
            )
    return "\n".join((*lines, "# EOF\n"))


def merge(pages: Iterable[tuple[int, str]]) -> list[str]:
    """Return the lines of several pages as one page, each sample with its worker.

    Args:
        pages: Number of the worker, and its page in Prometheus' text format.
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


def _histogram(name: str, each: Distribution, more: str) -> Iterator[tuple[str, int]]:
    """Yield the lines of a series, and the number of the bucket that a line is."""
    own = _pairs(each.labels)
    counts = each.cumulative()
    between = "," if own or more else ""
    both = f"{own}{',' if own and more else ''}{more}{between}"
    for bucket, bound in enumerate((*each.bounds, float("inf"))):
        yield f'{name}_bucket{{{both}le="{_bound(bound)}"}} {counts[bucket]}', bucket
    braced = _braced(own, more)
    yield f"{name}_sum{braced} {_number(each.total)}", -1
    yield f"{name}_count{braced} {counts[-1]}", -1


def _exemplar(found: Exemplar | None) -> str:
    if found is None:
        return ""
    ids = f'trace_id="{found.trace_id}",span_id="{found.span_id}"'
    return f" # {{{ids}}} {_number(found.value)} {found.at:.3f}"


def _bound(bound: float) -> str:
    return "+Inf" if bound == float("inf") else f"{bound:g}"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return "-Inf" if value == float("-inf") else f"{value + 0}"


def _labelled(sample: str, worker: int) -> str:
    name, brace, rest = sample.partition("{")
    if brace:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = sample.partition(" ")
    return f'{name}{{worker="{worker}"}} {value}'


def _braced(own: str, more: str) -> str:
    if own and more:
        return f"{{{own},{more}}}"
    return f"{{{own}{more}}}" if own or more else ""


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join([f'{name}="{_escape(text)}"' for name, text in labels.items()])


def _escape(text: str) -> str:
    if "\\" in text or "\n" in text or '"' in text:
        return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return text
