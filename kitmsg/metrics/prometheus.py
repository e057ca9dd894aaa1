"""Families in the text format that Prometheus reads.

Every page that a process of ours shows is written here.  Source: prometheus.io,
"Exposition formats".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kitmsg.metrics.families import Family

__all__ = ["CONTENT_TYPE", "merge", "render"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def render(families: Iterable[Family], **labels: str) -> str:
    """Return a page.

    Args:
        families: Shown in this order.
        labels: More labels, of every sample.
    """
    lines: list[str] = []
    for family in families:
        name = family.name
        lines.append(f"# HELP {name} {family.text}")
        lines.append(f"# TYPE {name} {family.kind}")
        for suffix, own, value in family.samples:
            lines.append(f"{name}{suffix}{_braced({**own, **labels})} {value + 0}")
    return "\n".join(lines) + "\n" if lines else ""


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


def _braced(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = ",".join(f'{name}="{_escape(text)}"' for name, text in labels.items())
    return f"{{{pairs}}}"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
