"""``kitmsg schedules``: what waits for its time, and what is done again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.cli.stored import moment, payload
from kitmsg.message import printable

if TYPE_CHECKING:
    import argparse

    from kitmsg.jetstream import JetStream, Stream
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_EPILOG: Final = """\
  kitmsg schedules ls                      tells for later, and schedules with their last run
  kitmsg schedules ls mailer
  kitmsg schedules rm mailer welcome-7     cancel a tell
"""
_HEADS: Final = ("SERVICE", "WHAT", "ID", "DUE", "LAST", "PAYLOAD")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("what", choices=("ls", "rm"))
    parser.add_argument("service", nargs="?", default="", metavar="SERVICE")
    parser.add_argument("ids", nargs="*", default=[], metavar="ID")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """List them or cancel one; returns the exit code."""
    if options.what == "rm":
        if not options.service or not options.ids:
            raise UsageError("write kitmsg schedules rm SERVICE ID")
        return on_bus(options, lambda kit: _remove(kit, options))
    found = on_bus(options, lambda kit: _schedules(kit.jetstream, options.service))
    if options.json:
        print(to_json(found))
    elif not found:
        print("nothing waits for its time")
    else:
        print(table(_HEADS, [list(each.values()) for each in found]))
    return 0


async def _remove(kit: Kit, options: argparse.Namespace) -> int:
    from kitmsg.errors import NotFound
    from kitmsg.events.tells import cancel_tell

    for id_ in options.ids:
        if not await cancel_tell(kit.jetstream, options.service, id_):
            raise NotFound(f"nothing of {options.service} waits under the id {id_!r}")
        print(f"{id_} is cancelled")
    return 0


async def _schedules(jetstream: JetStream, service: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for info in await jetstream.streams():
        kind, _, owner = info.config.name.partition("-")
        if service and owner != service:
            continue
        if kind == "tell":
            found += await _tells(await jetstream.stream(info.config.name), owner)
        elif kind == "tick":
            found += await _ticks(await jetstream.stream(info.config.name), owner)
    return found


async def _tells(stream: Stream, service: str) -> list[dict[str, Any]]:
    from kitmsg.wire import Js

    found = []
    async for stored in stream.read(f"later.{service}.*"):
        rule = stored.headers.get(Js.SCHEDULE, "")
        target = stored.headers.get(Js.SCHEDULE_TARGET, "")
        found.append(
            {
                "service": service,
                "what": target.rpartition(".")[2],
                "id": printable(stored.subject.rpartition(".")[2]),
                "due": rule.removeprefix("@at "),
                "last": "",
                "payload": payload(stored.data),
            }
        )
    return found


async def _ticks(stream: Stream, service: str) -> list[dict[str, Any]]:
    import msgspec

    from kitmsg.events.ticks import Tick

    found = []
    for stored in await stream.last_of([f"tick.{service}.*"]):
        due = msgspec.json.decode(stored.data, type=Tick).due
        found.append(
            {
                "service": service,
                "what": stored.subject.rpartition(".")[2],
                "id": "",
                "due": "",
                "last": moment(due),
                "payload": "",
            }
        )
    return found
