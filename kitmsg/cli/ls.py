"""``kitmsg ls``: the services on the bus."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus

if TYPE_CHECKING:
    import argparse

    from kitmsg.discovery.subject import ServiceInfo

__all__ = ["add_arguments", "few", "run", "warn_of_conflicts"]

_LEAST: Final = 24  # columns for what is shortened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """List, one line per service, cut to the terminal; returns the exit code."""
    from kitmsg.discovery.subject import find_services

    found = on_bus(options, lambda kit: find_services(kit.bus))
    names = sorted({info.name for info in found})
    rows = []
    for name in names:
        group = [info for info in found if info.name == name]
        rows.append(
            {
                "name": name,
                "instances": len(group),
                "versions": sorted({info.version for info in group}),
                "endpoints": sorted({e.name for info in group for e in info.endpoints}),
                "description": group[-1].description,
            }
        )
    if options.json:
        print(to_json(rows))
    elif not rows:
        print("no services on this bus; start one with kitmsg run or kitmsg dev")
    else:
        print(_table(rows))
    warn_of_conflicts(found)
    return 0


def warn_of_conflicts(found: list[ServiceInfo]) -> None:
    """Say on stderr where classes or services say different things under one name."""
    from kitmsg.discovery.conflicts import conflicts
    from kitmsg.discovery.events import event_conflicts

    for sentence in (*conflicts(found).values(), *event_conflicts(found)):
        print(f"warning: {sentence}", file=sys.stderr)


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["name"],
            row["instances"],
            ", ".join(row["versions"]),
            row["endpoints"],
            row["description"],
        ]
        for row in rows
    ]
    heads = ("NAME", "INSTANCES", "VERSION", "ENDPOINTS", "DESCRIPTION")
    widths = [
        max(len(h), *(len(str(c[i])) for c in cells)) for i, h in enumerate(heads)
    ]
    left = shutil.get_terminal_size().columns - sum(widths[:3]) - 2 * (len(heads) - 1)
    most = max(_LEAST, left - min(widths[4], max(_LEAST, left // 2)))
    for cell in cells:
        cell[3] = few(cell[3], most)
    rest = max(_LEAST, left - max(len(heads[3]), *(len(cell[3]) for cell in cells)))
    for cell in cells:
        cell[4] = textwrap.shorten(cell[4], rest, placeholder="...")
    return table(heads, cells)


def few(names: list[str], width: int) -> str:
    """Return as many names as fit into `width` columns, and how many more there are.

    One stands there however long it is.
    """
    for count in range(len(names), 1, -1):
        more = f" and {len(names) - count} more" if count < len(names) else ""
        text = ", ".join(names[:count]) + more
        if len(text) <= width:
            return text
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return "".join(names[:1]) + more
