"""``kitmsg consumers``: how far behind subscriptions, tells and schedules are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.cli.stored import open_stream

if TYPE_CHECKING:
    import argparse

    from kitmsg.jetstream import ConsumerInfo, Stream
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_HEADS: Final = ("STREAM", "CONSUMER", "LAG", "IN HAND", "AGAIN", "OLDEST", "FILTERS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("streams", nargs="*", default=[], metavar="STREAM")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """List them; returns the exit code."""
    found = on_bus(options, lambda kit: _consumers(kit, options.streams))
    if options.json:
        print(to_json(found))
    elif not found:
        print("no consumers; a service that subscribes makes one when it is run")
    else:
        print(table(_HEADS, [list(each.values()) for each in found]))
    return 0


async def _consumers(kit: Kit, names: list[str]) -> list[dict[str, Any]]:
    wanted = names or [info.config.name for info in await kit.jetstream.streams()]
    found: list[dict[str, Any]] = []
    for name in wanted:
        stream = await open_stream(kit, name)
        found += [await _facts(stream, info) for info in await stream.consumers()]
    return found


async def _facts(stream: Stream, info: ConsumerInfo) -> dict[str, Any]:
    return {
        "stream": info.stream,
        "consumer": info.config.name,
        "lag": info.pending,
        "in_hand": info.ack_pending,
        "again": info.redelivered,
        "oldest": await _oldest(stream, info),
        "filters": ", ".join(info.config.filters),
    }


async def _oldest(stream: Stream, info: ConsumerInfo) -> str:
    """Return the age of the oldest message that is not done, in seconds; "" for none."""
    from kitmsg.errors import NotFound

    if not info.pending and not info.ack_pending:
        return ""
    times: list[float] = []
    for pattern in info.config.filters or (">",):
        try:
            times.append((await stream.next(pattern, info.ack_floor + 1)).time)
        except NotFound:
            continue
    return f"{max(0.0, info.now - min(times)):.0f} s" if times else ""
