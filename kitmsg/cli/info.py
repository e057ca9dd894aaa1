"""``kitmsg info``: one service: instances, endpoints, routes, signatures."""

from __future__ import annotations

import shutil
import textwrap
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.ls import warn_of_conflicts
from kitmsg.cli.output import paint, table, to_json
from kitmsg.cli.remote import add_bus_flags, fetch_schemas, on_bus
from kitmsg.cli.samples import chosen
from kitmsg.wire import Meta

if TYPE_CHECKING:
    import argparse

    from kitmsg.discovery.subject import ServiceInfo
    from kitmsg.service import Kit

__all__ = ["add_arguments", "near", "run", "signature"]

_WORK: Final = {
    Meta.PUBLISHES: "publishes ",
    Meta.SUBSCRIBES: "subscribes",
    Meta.SCHEDULES: "schedules ",
}
_LEAST: Final = 24  # columns for lines that are wrapped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.add_argument("name", metavar="NAME", help="name of the service")
    parser.add_argument("--json", action="store_true", help="JSON, for programs")
    add_bus_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Show the service; returns the exit code."""

    async def work(kit: Kit) -> tuple[list[ServiceInfo], dict[str, Any]]:
        found = await find(kit, options.name)
        return found, await fetch_schemas(kit.bus, options.name)

    found, schemas = on_bus(options, work)
    if options.json:
        print(to_json({"instances": found, "schemas": schemas}))
    else:
        print(_shown(found, schemas))
    warn_of_conflicts(found)
    return 0


async def find(kit: Kit, name: str) -> list[ServiceInfo]:
    """Return the instances of a service.

    Raises:
        NotFound: There is none; the message names one that is near.
    """
    from kitmsg.discovery.subject import find_services
    from kitmsg.errors import NotFound

    found = await find_services(kit.bus, name)
    if not found:
        everybody = await find_services(kit.bus)
        raise NotFound(
            f"no service {name!r} on this bus{near(name, [s.name for s in everybody])}"
        )
    return found


def near(name: str, names: list[str]) -> str:
    """Return the rest of a sentence: what may have been meant, or what there is."""
    import difflib

    known = sorted(set(names))
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if match:
        return f"; did you mean {match[0]!r}?"
    return (
        f"; there are: {', '.join(known[:8])}" if known else "; there are no services"
    )


def signature(schema: dict[str, Any]) -> str:
    """Return ``(a: integer, b: string = ...) -> integer`` for an endpoint's schemas."""
    if not schema:
        return ""
    request = schema.get("request", {})
    body = chosen(request, request)
    needed = body.get("required", ())
    parts = [
        f"{name}: {_type(field)}" + ("" if name in needed else " = ...")
        for name, field in body.get("properties", {}).items()
    ]
    items = schema.get("items")
    if items:
        parts.append(f"stream of {_type(items)}")
    response = schema.get("response", {})
    result = _type(response)
    if schema.get("stream") in ("out", "both"):
        result = f"stream of {result}"
    return f"({', '.join(parts)}) -> {result}"


def _type(schema: dict[str, Any]) -> str:
    choices = (*schema.get("anyOf", ()), *schema.get("oneOf", ()))
    if choices:
        return " | ".join(_type(choice) for choice in choices)
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = schema.get("type", "any")
    if kind == "string":
        is_bytes = schema.get("contentEncoding") == "base64"
        return "bytes" if is_bytes else str(schema.get("format", kind))
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"[{_type(schema['items'])}]"
    return str(kind)


def _shown(found: list[ServiceInfo], schemas: dict[str, Any]) -> str:
    last = found[-1]
    lines = [f"{paint(last.name, '1;36')} {last.version}  {last.description}".rstrip()]
    lines += [
        "",
        table(("INSTANCE", "VERSION"), [(i.id, i.version) for i in found]),
        "",
    ]
    for key, word in _WORK.items():
        names = (last.metadata or {}).get(key, "")
        if names:
            lines.append(f"{word} {', '.join(names.split(','))}")
    if lines[-1]:
        lines.append("")
    rows: list[tuple[str, ...]] = []
    for endpoint in last.endpoints:
        facts = endpoint.metadata or {}
        rows.append(
            (
                endpoint.name,
                endpoint.subject,
                facts.get(Meta.HTTP, ""),
                signature(schemas.get(endpoint.name, {})),
                facts.get("description", ""),
            )
        )
    heads = ("ENDPOINT", "SUBJECT", "HTTP", "SIGNATURE", "DESCRIPTION")
    shown = table(heads, rows)
    columns = shutil.get_terminal_size().columns
    if max(len(line) for line in table(heads, rows).splitlines() or [""]) > columns:
        shown = "\n".join(_block(row, columns) for row in rows)
    return "\n".join([*lines, shown]).rstrip()


def _block(row: tuple[str, ...], columns: int) -> str:
    """Return what a row of the table says as lines of at most `columns`, where words fit."""
    name, *facts = row
    lines = [paint(name, "1")]
    for fact in filter(None, facts):
        lines += textwrap.wrap(
            fact,
            max(_LEAST, columns),
            initial_indent="  ",
            subsequent_indent="      ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)
