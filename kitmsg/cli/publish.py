"""``kitmsg publish``: one event, of a class of your services."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.call import parse_pairs
from kitmsg.cli.output import UsageError, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.cli.stored import events_of, services_of

if TYPE_CHECKING:
    import argparse

    from kitmsg.events import Event
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_EPILOG: Final = """\
  kitmsg publish orders.placed order_id=A1 total=9.50 --target shop.py
  kitmsg publish orders.placed --data '{"order_id": "A1", "total": "9.50"}'

NAME is the literal words of the event's subject.  Its class is looked for in the services of
--target, by default those of [tool.kitmsg] in pyproject.toml.  A value is read as the class
wants it.  Prints the event's sequence in its stream.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.set_defaults(rest="pairs")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("pairs", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--target",
        dest="targets",
        action="append",
        default=[],
        metavar="TARGET",
        help="a module or file with services; may be repeated",
    )
    parser.add_argument(
        "-d", "--data", metavar="TEXT", help="the event as a JSON object"
    )
    parser.add_argument(
        "--id", default="", metavar="ID", help="by which the stream knows it again"
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Publish, and print the sequence; returns the exit code."""
    from kitmsg.events import facts_of

    events = events_of(services_of(options, example="--target shop.py"))
    cls = events.get(options.name)
    if cls is None:
        known = ", ".join(sorted(events)) or "none"
        raise UsageError(
            f"there is no event {options.name!r} in these services; they have {known}"
        )
    try:
        fields: dict[str, Any] = json.loads(options.data) if options.data else {}
    except ValueError as exc:
        raise UsageError(f"--data is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise UsageError("--data must be a JSON object")
    event = _made(options, cls, fields)

    async def work(kit: Kit) -> int:
        return await kit.publish(event, id=options.id)

    sequence = on_bus(options, work)
    stream = facts_of(cls).stream.name
    if options.json:
        print(to_json({"stream": stream, "sequence": sequence}))
    else:
        print(f"{stream} #{sequence}")
    return 0


def _made(options: argparse.Namespace, cls: type[Event], fields: Any) -> Event:
    """Return the event that was written.

    A reader ignores a field that it does not know; here it is a name that is misspelt.

    Raises:
        InvalidArgument: A field does not fit, is missing or unknown; it is named.
    """
    import msgspec

    from kitmsg.codec.faults import as_step, refusal, translate, unknown_field
    from kitmsg.errors import InvalidArgument

    given = fields | parse_pairs(options.pairs, msgspec.json.schema(cls))
    known = cls.__struct_encode_fields__
    try:
        for name in given:
            if name not in known:
                raise refusal(as_step(name), unknown_field(known))
        try:
            return msgspec.convert(given, cls, strict=False)
        except msgspec.ValidationError as exc:
            raise translate(exc, "JSON") from exc
    except InvalidArgument as error:
        raise InvalidArgument(f"{options.name}: {error}", field=error.field) from error
