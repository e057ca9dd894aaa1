"""``kitmsg ls``: the services on the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitmsg.cli.output import table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """List, one line per service; returns the exit code."""
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
    return 0


def _table(rows: list[dict[str, object]]) -> str:
    cells = [
        [", ".join(v) if isinstance(v, list) else v for v in row.values()]
        for row in rows
    ]
    return table(("NAME", "INSTANCES", "VERSION", "ENDPOINTS", "DESCRIPTION"), cells)
