"""``kitmsg streams``: the streams that services declare, as a plan, and as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, paint, table, to_json
from kitmsg.cli.remote import add_bus_flags, on_bus
from kitmsg.cli.stored import add_targets, moment, open_stream, services_of

if TYPE_CHECKING:
    import argparse

    from kitmsg.events.declared import Change
    from kitmsg.jetstream import StreamInfo
    from kitmsg.service import Kit

__all__ = ["add_arguments", "run"]

_EPILOG: Final = """\
  kitmsg streams plan shop.py         what would change, like a migration
  kitmsg streams plan --check shop.py exits with 1 if anything would, for CI
  kitmsg streams apply shop.py        make the streams and consumers that services declare
  kitmsg streams ls                   all streams
  kitmsg streams show orders          one, with its consumers

A change that may drop messages needs --allow.  Subjects that a stream has beside those that
are declared here stay: other services declare them.
"""
_MARKS: Final = {
    "create": ("+", "32"),
    "update": ("~", "33"),
    "destroy": ("!", "31"),
    "impossible": ("x", "31"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("what", choices=("plan", "apply", "ls", "show"))
    add_targets(parser)
    parser.add_argument(
        "--allow", action="store_true", help="make changes that may drop messages too"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="plan exits with 1 if anything would change",
    )
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Plan, apply, list or show; returns the exit code."""
    if options.what == "ls":
        return _list(options)
    if options.what == "show":
        return _show(options)
    from kitmsg.service.stored import declared_by

    services = services_of(options)
    is_applied = options.what == "apply"

    async def work(kit: Kit) -> list[Change]:
        from kitmsg.events.declared import apply, plan

        changes = await plan(kit.jetstream, declared_by(*services))
        if is_applied:
            await apply(kit.jetstream, changes, allow=options.allow)
        return changes

    changes = on_bus(options, work)
    if options.json:
        print(to_json([_plain(change) for change in changes]))
    else:
        print(_told(changes, is_applied=is_applied))
    return 1 if changes and options.check and not is_applied else 0


def _plain(change: Change) -> dict[str, Any]:
    return {
        "stream": change.stream,
        "consumer": change.consumer,
        "kind": change.kind,
        "changes": list(change.lines),
    }


def _told(changes: list[Change], *, is_applied: bool) -> str:
    if not changes:
        return "all streams and consumers are as they are declared"
    lines: list[str] = []
    for change in changes:
        mark, colour = _MARKS[change.kind]
        what = f"consumer {change.consumer} of" if change.consumer else "stream"
        lines.append(paint(f"{mark} {what} {change.stream}", colour))
        lines += [f"    {line}" for line in change.lines]
    kinds = {change.kind for change in changes}
    if is_applied:
        lines.append(f"{len(changes)} made")
    elif "impossible" in kinds:
        lines.append("x cannot be changed: declare another name, or move it by hand")
    elif "destroy" in kinds:
        lines.append("! may drop messages: kitmsg streams apply --allow makes it")
    else:
        lines.append("kitmsg streams apply makes it so")
    return "\n".join(lines)


def _list(options: argparse.Namespace) -> int:
    infos = on_bus(options, lambda kit: kit.jetstream.streams())
    if options.json:
        print(to_json(infos))
    elif not infos:
        print("no streams on this server; kitmsg streams apply makes those of services")
    else:
        heads = ("STREAM", "MESSAGES", "BYTES", "CONSUMERS", "LAST", "SUBJECTS")
        print(table(heads, [_row(info) for info in infos]))
    return 0


def _row(info: StreamInfo) -> tuple[Any, ...]:
    return (
        info.config.name,
        info.messages,
        info.bytes,
        info.consumers,
        moment(info.last_time) if info.last_time else "",
        ", ".join(info.config.subjects),
    )


def _show(options: argparse.Namespace) -> int:
    if len(options.targets) != 1:
        raise UsageError("name one stream, as in kitmsg streams show orders")
    [name] = options.targets

    async def work(kit: Kit) -> dict[str, Any]:
        stream = await open_stream(kit, name)
        return {"stream": await stream.info(), "consumers": await stream.consumers()}

    found = on_bus(options, work)
    if options.json:
        print(to_json(found))
        return 0
    info = found["stream"]
    facts = {
        "stream": info.config.name,
        "subjects": ", ".join(info.config.subjects),
        "messages": f"{info.messages}, from {info.first} to {info.last}",
        "bytes": info.bytes,
        "retention": info.config.retention,
        "storage": info.config.storage,
        "replicas": info.config.replicas,
        "max age": f"{info.config.max_age:g} s" if info.config.max_age else "none",
        "max bytes": info.config.max_bytes or "none",
        "leader": info.leader or "this server",
    }
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key:{width}}  {value}")
    rows = [
        (c.config.name, c.pending, c.ack_pending, c.redelivered)
        for c in found["consumers"]
    ]
    if rows:
        print()
        print(table(("CONSUMER", "LAG", "IN HAND", "AGAIN"), rows))
    return 0
