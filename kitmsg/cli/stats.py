"""``kitmsg stats``: counters of each endpoint, over all instances or live."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.info import near
from kitmsg.cli.output import table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus

if TYPE_CHECKING:
    import argparse

    from kitmsg.discovery.subject import EndpointReport, ServiceReport
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run", "shown", "summarize"]

_EVERY_SECONDS: Final = 1.0
_CLEAR: Final = "\033[H\033[J"  # cursor home, and nothing below it
_HEADS: Final = (
    "ENDPOINT",
    "INSTANCES",
    "REQUESTS",
    "ERRORS",
    "SHED",
    "AVG",
    "P50",
    "P99",
    "IN FLIGHT",
    "LAST ERROR",
)
_LONGEST: Final = 48


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="one service"
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    parser.add_argument("--watch", action="store_true", help="again every second")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Show the counters, once or until Ctrl-C; returns the exit code."""

    async def work(kit: Kit) -> None:
        import asyncio

        while True:
            rows = summarize(await _find(kit, options.name))
            text = shown(rows)
            if options.json:
                text = to_json(rows, is_compact=options.watch)
            elif options.watch and sys.stdout.isatty():
                text = f"{_CLEAR}{text}"
            print(text, flush=True)
            if not options.watch:
                return
            await asyncio.sleep(_EVERY_SECONDS)

    on_bus(options, work)
    return 0


def summarize(reports: list[ServiceReport]) -> list[dict[str, Any]]:
    """Return one row per endpoint, its instances added up; times in nanoseconds.

    Quantiles are the worst instance's, since they cannot be added.  What a service in
    another language does not say is None.
    """
    rows: dict[str, dict[str, Any]] = {}
    for report in reports:
        for endpoint in report.endpoints:
            name = f"{report.name}.{endpoint.name}"
            rows[name] = _add(rows.get(name) or _empty(name), endpoint)
    for row in rows.values():
        row["average_ns"] = row.pop("_total") // max(1, row["requests"])
        data = row.pop("_seen")
        row["in_flight"] = row["in_flight"] if data else None
    return [rows[name] for name in sorted(rows)]


def _empty(name: str) -> dict[str, Any]:
    counts = ("instances", "stuck", "requests", "errors", "shed", "in_flight", "_total")
    return {
        "endpoint": name,
        **dict.fromkeys(counts, 0),
        "p50_ns": None,
        "p99_ns": None,
        "last_error": "",
        "_seen": False,
    }


def _add(row: dict[str, Any], endpoint: EndpointReport) -> dict[str, Any]:
    data = endpoint.data
    row["instances"] += 1
    row["stuck"] += data.get("is_stuck") is True
    row["requests"] += endpoint.num_requests
    row["errors"] += endpoint.num_errors
    row["_total"] += endpoint.processing_time
    row["last_error"] = endpoint.last_error or row["last_error"]
    row["shed"] += _number(data.get("shed"))
    row["in_flight"] += _number(data.get("running")) + _number(data.get("waiting"))
    row["_seen"] = row["_seen"] or "running" in data
    latency = data.get("latency_ns")
    if isinstance(latency, dict):
        for q in ("p50", "p99"):
            row[f"{q}_ns"] = max(row[f"{q}_ns"] or 0, _number(latency.get(q)))
    return row


async def _find(kit: Kit, name: str) -> list[ServiceReport]:
    from kitmsg.discovery.subject import find_services, find_stats
    from kitmsg.errors import NotFound

    reports = await find_stats(kit.bus, name)
    if name and not reports:
        names = [info.name for info in await find_services(kit.bus)]
        raise NotFound(f"no service {name!r} on this bus{near(name, names)}")
    return reports


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of rows."""
    cells = [
        (
            row["endpoint"],
            _instances(row),
            row["requests"],
            row["errors"],
            row["shed"],
            _time(row["average_ns"] if row["requests"] else None),
            _time(row["p50_ns"]),
            _time(row["p99_ns"]),
            "-" if row["in_flight"] is None else row["in_flight"],
            row["last_error"][:_LONGEST],
        )
        for row in rows
    ]
    return table(_HEADS, cells) or "no services on this bus"


def _instances(row: dict[str, Any]) -> str:
    stuck = row["stuck"]
    return f"{row['instances']} ({stuck} stuck)" if stuck else str(row["instances"])


def _time(nanoseconds: int | None) -> str:
    """Return a duration in a unit that fits."""
    if not nanoseconds:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.1f} {unit}"
    return f"{nanoseconds / 1e3:.0f} us"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
