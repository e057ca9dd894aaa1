"""Shared parts of the verbs on what is stored: times, event classes, tables of messages."""

from __future__ import annotations

import inspect
import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, usage
from kitmsg.cli.remote import settings_of
from kitmsg.message import printable

if TYPE_CHECKING:
    import argparse

    from kitmsg.events import Event
    from kitmsg.jetstream import Stream
    from kitmsg.service import Kit, Service

__all__ = [
    "add_targets",
    "events_of",
    "moment",
    "open_stream",
    "payload",
    "read_seconds",
    "read_since",
    "read_time",
    "services_of",
]

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST_TEXT: Final = 400


def add_targets(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names services, as `kitmsg run` takes it."""
    parser.set_defaults(rest="targets")
    parser.add_argument(
        "targets",
        nargs="*",
        default=[],
        metavar="TARGET",
        help="MODULE:CLASS or FILE.py, as kitmsg run takes it; by default the services of"
        " [tool.kitmsg] in pyproject.toml",
    )


def services_of(
    options: argparse.Namespace, *, example: str = "kitmsg streams plan shop.py"
) -> list[type[Service]]:
    """Return the classes of the services that a command names.

    Args:
        options: The command's.
        example: How its services are named.

    Raises:
        UsageError: There are none, or they cannot be loaded.
    """
    from kitmsg.service.inject import made_by
    from kitmsg.worker.load import load

    targets = tuple(options.targets) or settings_of(options).services
    if not targets:
        raise UsageError(f"no services: name some, as in {example}")
    with usage():
        found = [made_by(factory) for factory in load(targets)]
    return [cls for cls in found if cls is not None]


def events_of(services: list[type[Service]]) -> dict[str, type[Event]]:
    """Return the event classes of services and of their modules, by name."""
    from kitmsg.events import Event, facts_of

    classes: dict[Any, None] = {}
    for service in services:
        for subscription in service.__work__.subscriptions.values():
            classes.update(dict.fromkeys(subscription.options.events))
        classes.update(dict.fromkeys(service.publishes))
        for value in vars(sys.modules[service.__module__]).values():
            if inspect.isclass(value) and issubclass(value, Event):
                classes[value] = None
    facts = (facts_of(cls) for cls in classes if cls.__kit_event__ is not None)
    return {each.name: each.cls for each in facts}


async def open_stream(kit: Kit, name: str) -> Stream:
    """Return the stream that a command names.

    Raises:
        NotFound: There is none of that name.
    """
    from kitmsg.errors import NotFound

    try:
        return await kit.jetstream.stream(name)
    except NotFound as error:
        raise NotFound(f"there is no stream {name!r}; see kitmsg streams ls") from error


def read_seconds(text: str, flag: str) -> float:
    """Return the seconds of a time such as ``90``, ``30s``, ``10m``, ``2h`` or ``7d``.

    Raises:
        UsageError: It is none.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhd]?)", text)
    if found is None:
        raise UsageError(f"{flag} {text}: write a time such as 30s, 10m, 2h or 7d")
    return float(found[1]) * _UNITS[found[2]]


def read_since(text: str, now: float) -> datetime | int | None:
    """Return where a log is read from: a sequence, so long ago, or a time.

    Args:
        text: ``120`` or ``#120``, ``1h``, or a time in ISO 8601; "" for the beginning.
        now: Unix seconds.

    Raises:
        UsageError: It is none of them.
    """
    if not text:
        return None
    if sequence := re.fullmatch(r"#?(\d{1,18})", text, re.ASCII):
        return int(sequence[1])
    if re.fullmatch(r"\d.*[smhd]", text):
        ago = read_seconds(text, "--since")
        return datetime.fromtimestamp(max(0.0, now - ago), UTC)
    others = "a time ago such as 1h, a sequence such as 120, or "
    return read_time(text, "--since", others=others)


def read_time(text: str, flag: str, *, others: str = "") -> datetime:
    """Return a time in ISO 8601; it is in UTC if it names no zone.

    Args:
        text: The time.
        flag: Where it stands.
        others: What may stand there too, for the error.

    Raises:
        UsageError: It is none, or one that NATS cannot hold.
    """
    from kitmsg.jetstream.checks import LAST_TIME

    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text}: write {others}a time such as 2026-11-28T12:00:00Z"
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found.timestamp() > LAST_TIME:
        raise UsageError(f"{flag} {text}: NATS holds times up to 2262-04-11")
    return found


def moment(time: float) -> str:
    """Return a time as a table shows it, in UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S")


def payload(data: bytes) -> str:
    """Return a payload as one line of text."""
    import msgspec

    try:
        text = data.decode()
    except UnicodeDecodeError:
        try:
            text = msgspec.json.encode(msgspec.msgpack.decode(data)).decode()
        except msgspec.MsgspecError:
            text = f"{len(data)} bytes"
    line = printable(text)
    return line if len(line) <= _MOST_TEXT else f"{line[:_MOST_TEXT]}..."
