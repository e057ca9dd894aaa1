"""``kitmsg tell``: a call that is stored until it is done, now or later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.call import parse_pairs
from kitmsg.cli.output import UsageError, to_json
from kitmsg.cli.remote import add_bus_flags, fetch_schemas, find_endpoint, on_bus
from kitmsg.cli.samples import chosen
from kitmsg.cli.stored import read_seconds, read_time

if TYPE_CHECKING:
    import argparse

    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_EPILOG: Final = """\
  kitmsg tell mailer.send to=ann@example.com text=hi
  kitmsg tell mailer.send to=ann@example.com text=hi --after 10m --id welcome-7
  kitmsg schedules rm mailer welcome-7          cancels it

A value is read as the endpoint's schema wants it, where an instance tells that.  What would
only be a dead letter is not stored: a field does not fit, or nobody takes such calls.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.set_defaults(rest="pairs")
    parser.add_argument("name", metavar="SERVICE.ENDPOINT")
    parser.add_argument("pairs", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "-d", "--data", metavar="TEXT", help="the request as a JSON object"
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--after", default="", metavar="TIME", help="30s, 10m, 2h or 7d")
    when.add_argument(
        "--at", default="", metavar="TIME", help="as 2026-11-28T12:00:00Z"
    )
    parser.add_argument(
        "--id", default="", metavar="ID", help="to know and cancel it by"
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Tell, and print where it is stored; returns the exit code."""
    service, _, endpoint = options.name.partition(".")
    if not endpoint:
        raise UsageError("write SERVICE.ENDPOINT, as in kitmsg tell mailer.send to=ann")
    after = read_seconds(options.after, "--after") if options.after else 0.0
    at = read_time(options.at, "--at") if options.at else None
    parse_pairs(options.pairs, {})  # mistakes come before the connection
    try:
        fields: dict[str, Any] = json.loads(options.data) if options.data else {}
    except ValueError as exc:
        raise UsageError(f"--data is not JSON: {exc}") from exc
    if not isinstance(fields, dict):
        raise UsageError("--data must be a JSON object")

    async def work(kit: Kit) -> int:
        from kitmsg.codec import JSON
        from kitmsg.events.publish import PUBLISH_SECONDS
        from kitmsg.events.tells import Teller

        schema = await _schema(kit, options.name)
        given = fields | parse_pairs(options.pairs, schema)
        _check_fields(options.name, given, schema)
        try:
            teller = Teller(
                kit.jetstream,
                service,
                after=after,
                at=at,
                id_=options.id,
                timeout=PUBLISH_SECONDS,
            )
        except ValueError as exc:
            raise UsageError(f"--after {options.after}: {exc}") from exc
        data = json.dumps(given, ensure_ascii=False).encode()
        return await teller.tell(endpoint, data, JSON.content_type)

    sequence = on_bus(options, work)
    if options.json:
        print(to_json({"stream": f"tell-{service}", "sequence": sequence}))
    else:
        print(f"tell-{service} #{sequence}")
    return 0


async def _schema(kit: Kit, name: str) -> dict[str, Any]:
    """Return the schema of an endpoint's request; {} while no instance is there.

    Raises:
        FailedPrecondition: The endpoint is there, and cannot be told.
        NotFound: Nobody takes such calls from the stream.
    """
    from kitmsg.errors import FailedPrecondition
    from kitmsg.wire import Meta

    endpoint = await find_endpoint(kit.bus, name)
    if endpoint is None:
        await _check_taken(kit, name)
        return {}
    if (endpoint.metadata or {}).get(Meta.DURABLE) != "true":
        raise FailedPrecondition(
            f"{name} cannot be told; its service has to write @endpoint(durable=True)"
        )
    schemas = await fetch_schemas(kit.bus, name.partition(".")[0])
    found: dict[str, Any] = schemas.get(name.partition(".")[2], {}).get("request", {})
    return found


async def _check_taken(kit: Kit, name: str) -> None:
    """Return if a consumer takes such calls, or no stream is there to ask.

    Raises:
        NotFound: None does.
    """
    from kitmsg.errors import KitError, NotFound
    from kitmsg.events.declared import tell_stream
    from kitmsg.events.tells import tell_subject

    service = name.partition(".")[0]
    try:
        stream = await kit.jetstream.stream(tell_stream(service).name)
        consumers = await stream.consumers()
    except KitError:
        return  # publishing says it
    subjects = {each for info in consumers for each in info.config.filters}
    if tell_subject(name) not in subjects:
        prefix = tell_subject("")
        known = ", ".join(sorted(each.removeprefix(prefix) for each in subjects))
        raise NotFound(f"nobody can be told {name!r}; there is {known or 'nothing'}")


def _check_fields(name: str, given: dict[str, Any], schema: dict[str, Any]) -> None:
    """Refuse what an instance would; without a schema, nothing.

    Raises:
        InvalidArgument: A field is missing, unknown, or does not fit; it is named.
    """
    from kitmsg.errors import InvalidArgument
    from kitmsg.schema.instances import validator

    required = chosen(schema, schema).get("required", ())
    missing = [field for field in required if field not in given]
    if missing:
        raise InvalidArgument(
            f"{name}: missing {', '.join(missing)}; write {missing[0]}=VALUE",
            field=str(missing[0]),
        )
    try:
        validator(schema)(given)
    except InvalidArgument as error:
        raise InvalidArgument(f"{name}: {error}", field=error.field) from error
    except ValueError:
        return  # what it says of itself is no schema
