"""``kitmsg events``: the log of an event, read and followed, and checked against classes."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, to_json
from kitmsg.cli.progress import Progress
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.cli.stored import (
    add_targets,
    events_of,
    moment,
    open_stream,
    payload,
    read_since,
    services_of,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncGenerator

    from kitmsg.jetstream import Delivery, Stored, Stream
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_MOST_NAMES: Final = 10
_EPILOG: Final = """\
  kitmsg events orders.placed                      all that are stored
  kitmsg events orders.placed --since 1h --follow  of the last hour, and those that come
  kitmsg events orders.placed --since 120 --json
  kitmsg events check --against orders shop.py     do the last 1000 fit today's classes?

NAME is the literal words of the subject; no class is needed.  check reads the last --last
events of a stream with the classes of the services that are named, and says which do not fit.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("name", metavar="NAME", help="of an event; or check")
    add_targets(parser)
    parser.add_argument(
        "--since", default="", metavar="TIME", help="1h, a time, or a sequence"
    )
    parser.add_argument(
        "--follow", action="store_true", help="go on with those that come"
    )
    parser.add_argument("--against", default="", metavar="STREAM", help="for check")
    parser.add_argument("--last", type=int, default=1000, metavar="N", help="for check")
    parser.add_argument("--json", action="store_true", help="JSON lines, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Print the log, or check it; returns the exit code."""
    if options.name == "check":
        return _check(options)
    if options.targets:
        raise UsageError(
            f"{options.targets[0]!r} is not understood: kitmsg events NAME reads all of one"
            " event, kitmsg events check takes services"
        )
    return on_bus(options, lambda kit: _print(kit, options))


async def _print(kit: Kit, options: argparse.Namespace) -> int:
    from kitmsg.errors import NotFound
    from kitmsg.wire import CE_TYPE

    name = options.name
    streams = await kit.jetstream.streams(f"event.{name.partition('.')[0]}.>")
    if not streams:
        raise NotFound(f"no stream stores events named {name!r}; see kitmsg streams ls")
    stream = await kit.jetstream.stream(streams[0].config.name)
    since = read_since(options.since, kit.jetstream.now())
    last = (await stream.info()).last
    names: set[str] = set()
    with Progress(0 if options.follow else last, shares=True) as progress:
        async for message in _messages(stream, since, last, follow=options.follow):
            said = message.headers.get(CE_TYPE, "")
            is_one = said == name or (not said and _is_named(message.subject, name))
            names.add(name if is_one else said)
            if is_one:
                print(_line(message, is_json=options.json), flush=options.follow)
            progress.at(message.sequence)
    if name not in names:
        print(_absent(name, streams[0].config.name, names), file=sys.stderr)
    return 0


def _absent(name: str, stream: str, names: set[str]) -> str:
    """Return the sentence for an event of which nothing was read."""
    others = ", ".join(sorted(filter(None, names))[:_MOST_NAMES])
    rest = f"only {others}" if others else "nothing"
    return f"kitmsg: no {name!r} there: what was read of the stream {stream} has {rest}"


def _is_named(subject: str, name: str) -> bool:
    return subject.startswith(f"event.{name}.") or subject == f"event.{name}"


async def _messages(
    stream: Stream, since: Any, known: int, *, follow: bool
) -> AsyncGenerator[Stored | Delivery, None]:
    """Yield what is stored, and then what comes: all behind the message `known`, at least."""
    from kitmsg.jetstream import ConsumerConfig

    begins: dict[str, Any] = {}
    if since is not None:
        begins = (
            {"sequence": since}
            if isinstance(since, int)
            else {"since": since.timestamp()}
        )
    last = max(known, since - 1) if isinstance(since, int) else known
    async for stored in stream.read("event.>", **begins):
        last = max(last, stored.sequence)
        yield stored
    if not follow:
        return
    config = ConsumerConfig(
        durable=False,
        ack="none",
        deliver="by_start_sequence",
        start_sequence=last + 1,
    )
    consumer = await stream.create_consumer(config)
    async with consumer.messages() as messages:
        async for delivery in messages:
            yield delivery


def _line(message: Stored | Delivery, *, is_json: bool) -> str:
    from kitmsg.wire import CE_ID, CE_SOURCE, CE_TIME

    if not is_json:
        return f"#{message.sequence}  {moment(message.time)}  {payload(message.data)}"
    facts = {
        "sequence": message.sequence,
        "id": message.headers.get(CE_ID, ""),
        "source": message.headers.get(CE_SOURCE, ""),
        "time": message.headers.get(CE_TIME, ""),
        "data": _data(message.data),
    }
    return to_json(facts, is_compact=True)


def _data(data: bytes) -> Any:
    import msgspec

    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data


def _check(options: argparse.Namespace) -> int:
    if not options.against:
        raise UsageError(
            "name the stream: kitmsg events check --against orders shop.py"
        )
    if options.last < 1:
        raise UsageError("--last must be 1 or more")
    example = "kitmsg events check --against orders shop.py"
    classes = events_of(services_of(options, example=example))
    if not classes:
        raise UsageError("these services have no events")

    async def work(kit: Kit) -> tuple[int, list[dict[str, Any]]]:
        stream = await open_stream(kit, options.against)
        return await _misfits(stream, options, list(classes.values()))

    count, misfits = on_bus(options, work)
    if options.json:
        print(to_json({"read": count, "misfits": misfits}))
    else:
        for each in misfits:
            print(f"#{each['sequence']}  {each['error']}")
        print(f"{count} events read, {len(misfits)} do not fit")
    return 1 if misfits else 0


async def _misfits(
    stream: Stream, options: argparse.Namespace, classes: list[Any]
) -> tuple[int, list[dict[str, Any]]]:
    from kitmsg.errors import InvalidArgument
    from kitmsg.events.envelope import Reader
    from kitmsg.wire import CE_TYPE

    reader = Reader(*classes)
    last = (await stream.info()).last
    kept: deque[Stored] = deque(maxlen=options.last)
    async for stored in stream.read(sequence=max(1, last - options.last + 1)):
        kept.append(stored)
        await asyncio.sleep(0)
    found: list[dict[str, Any]] = []
    count = 0
    for stored in kept:
        if stored.headers.get(CE_TYPE, "") not in reader.facts:
            continue
        count += 1
        try:
            reader.read(stored.headers, stored.data)
        except InvalidArgument as error:
            found.append({"sequence": stored.sequence, "error": str(error)})
    return count, found
