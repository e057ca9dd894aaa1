"""``kitmsg log-level``: levels of running processes, for a while."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.info import near
from kitmsg.cli.output import UsageError, fail, table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus

if TYPE_CHECKING:
    import argparse

    from kitmsg.logs.levels import LevelOrder, LevelReport
    from kitmsg.service import Kit

__all__ = ["add_arguments", "read_time", "run"]

_EPILOG: Final = """\
NAME is a service or an upstream, or gateway.http (grpc, thrift, mcp) for the gateways of a
kind.  Every process of that name obeys and answers.  Without a level it says the levels only.

A level goes back by itself when its time is over; "reset" puts it back now.  With --logger it
is that logger's and those below it, as in --logger kitmsg.bus; else it holds for all that have
none of their own.  A process that is started meanwhile has its normal level.
"""
_LEVELS: Final = ("debug", "info", "warning", "error", "critical", "reset")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600}
_HEADS: Final = (
    "NAME",
    "INSTANCE",
    "PROCESS",
    "LOGGER",
    "LEVEL",
    "NORMALLY",
    "BACK IN",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("name", metavar="NAME", help="of the processes")
    parser.add_argument(
        "level", nargs="?", default="", choices=("", *_LEVELS), metavar="LEVEL",
        help=f"{', '.join(_LEVELS)}; without one, say the levels",
    )  # fmt: skip
    parser.add_argument(
        "--for",
        dest="seconds",
        default="10m",
        metavar="TIME",
        help="how long, as 30s, 10m or 2h; 24h at the most (default: 10m)",
    )
    parser.add_argument("--logger", default="", metavar="LOGGER", help="one logger")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Give the order and show the answers; returns 5 when an instance refuses it."""
    from kitmsg.logs.levels import LevelOrder

    order = LevelOrder(
        level=options.level, logger=options.logger, seconds=read_time(options.seconds)
    )
    reports = on_bus(options, lambda kit: _ask(kit, options.name, order))
    if options.json:
        print(to_json(reports))
    else:
        print(table(_HEADS, [row for each in reports for row in _rows(each)]))
    refused = sorted({report.error for report in reports if report.error})
    for sentence in refused:
        fail(sentence)
    return 5 if refused else 0


def read_time(text: str) -> float:
    """Return the seconds of a time such as ``90``, ``30s``, ``10m`` or ``2h``.

    Raises:
        UsageError: It is none, or longer than a level may be set for.
    """
    from kitmsg.logs.levels import MAX_SECONDS

    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smh]?)", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= MAX_SECONDS:
        raise UsageError(
            f"--for {text}: write a time up to 24h, such as 30s, 10m or 2h"
        )
    return seconds


async def _ask(kit: Kit, name: str, order: LevelOrder) -> list[LevelReport]:
    from kitmsg.discovery.subject import find_services
    from kitmsg.errors import NotFound
    from kitmsg.message import check_subject
    from kitmsg.worker.levels import ask_levels

    check_subject(name)
    reports = await ask_levels(kit.bus, name, order)
    if not reports:
        names = [info.name for info in await find_services(kit.bus)]
        hint = "" if name in names else near(name, names)
        raise NotFound(f"no process of {name!r} on this bus takes log levels{hint}")
    return reports


def _rows(report: LevelReport) -> list[tuple[Any, ...]]:
    """Return a row for the process, and for each logger that has another level for now."""
    start = (report.name, report.id, report.place)
    rows: list[tuple[Any, ...]] = []
    if not any(change.logger == "" for change in report.changes):
        rows.append((*start, "(all)", report.level, report.level, ""))
    for change in report.changes:
        normally = change.normally or "(inherited)"
        left = f"{change.seconds:.0f} s"
        rows.append((*start, change.logger or "(all)", change.level, normally, left))
    return rows
