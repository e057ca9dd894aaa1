"""``kitmsg ping``: the instances on the bus, and their round-trip times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kitmsg.cli.info import near
from kitmsg.cli.output import table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.wire import SRV

if TYPE_CHECKING:
    import argparse

    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument(
        "name", nargs="?", default="", metavar="NAME", help="one service"
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Ping each instance, one line each; returns 3 when one does not answer."""

    async def work(kit: Kit) -> list[dict[str, Any]]:
        return await _ping(kit, options.name)

    rows = on_bus(options, work)
    if options.json:
        print(to_json(rows))
    elif rows:
        cells = [(r["name"], r["id"], r["version"], _shown(r["rtt_ms"])) for r in rows]
        print(table(("NAME", "INSTANCE", "VERSION", "RTT"), cells))
    else:
        print("no services on this bus")
    return 3 if any(row["rtt_ms"] is None for row in rows) else 0


async def _ping(kit: Kit, name: str) -> list[dict[str, Any]]:
    from kitmsg.discovery.subject import find_services, ping_services
    from kitmsg.errors import NotFound

    found = await ping_services(kit.bus, name)
    if name and not found:
        names = [info.name for info in await find_services(kit.bus)]
        raise NotFound(f"no service {name!r} on this bus{near(name, names)}")
    return [
        {
            "name": each.name,
            "id": each.id,
            "version": each.version,
            "rtt_ms": await _rtt(kit, f"{SRV}.PING.{each.name}.{each.id}"),
        }
        for each in found
    ]


async def _rtt(kit: Kit, subject: str) -> float | None:
    """Return a round trip's milliseconds; None without an answer."""
    from kitmsg.errors import KitError

    started = time.perf_counter()
    try:
        await kit.bus.request(subject, b"", _SECONDS)
    except KitError:
        return None
    return round((time.perf_counter() - started) * 1000, 3)


def _shown(rtt: float | None) -> str:
    return "no answer" if rtt is None else f"{rtt:.2f} ms"
