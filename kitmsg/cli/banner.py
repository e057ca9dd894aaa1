"""The short table that ``kitmsg dev`` shows: where things are, what to try."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kitmsg.cli.output import paint
from kitmsg.cli.remote import fetch_schemas
from kitmsg.cli.samples import Sample, make_sample
from kitmsg.discovery.subject import find_services
from kitmsg.wire import Meta

if TYPE_CHECKING:
    from kitmsg.service import Kit

__all__ = ["banner"]

_DEFAULT: Final = "nats://127.0.0.1:4222"


async def banner(
    kit: Kit,
    *,
    urls: dict[str, str],
    nats: str,
    is_embedded: bool,
    folders: list[str],
) -> str:
    """Return the table.

    Args:
        kit: Connected, to ask what is served.
        urls: Addresses of the gateways by title: ``HTTP``, ``gRPC``, ``Thrift``.
        nats: Address of the bus.
        is_embedded: Whether the bus is our own.
        folders: What is watched for changes.
    """
    from kitmsg.bus.options import mask_url

    rows = []
    url = urls.get("HTTP", "")
    if url:
        rows.append(("HTTP", url))
        rows.append(("docs", f"{url}/docs"))
        rows.append(("OpenAPI", f"{url}/openapi.json"))
        rows.append(("health", f"{url}/readyz"))
    rows += [(title, address) for title, address in urls.items() if address != url]
    own = "  (started here, JetStream on)" if is_embedded else ""
    rows.append(("NATS", mask_url(nats) + own))
    if folders:
        rows.append(("reload", ", ".join(f"{f}/" for f in folders)))
    lines = ["", *(f"  {paint(name.ljust(8), '1')} {text}" for name, text in rows), ""]
    for sample in await _samples(kit, url):
        lines.append(f"  {paint(sample.name, '1;36')}")
        lines += [f"    {sample.curl}"] if url else []
        lines.append(f"    {_typed(sample.call)}")
    if is_embedded and nats != _DEFAULT:
        lines += ["", f"  in another terminal first: export NATS_URL={nats}"]
    return "\n".join([*lines, "", "  Ctrl-C ends it.", ""])


def _typed(command: str) -> str:
    """Return a ``kitmsg ...`` line as it works here: with a path when there has to be."""
    program = Path(sys.argv[0])
    if shutil.which("kitmsg") or program.name != "kitmsg" or not program.exists():
        return command
    path = program.absolute()
    near = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(os.fspath(near)) + command.removeprefix("kitmsg")


async def _samples(kit: Kit, url: str) -> list[Sample]:
    services = {info.name: info for info in await find_services(kit.bus)}
    names = list(services)
    schemas = await asyncio.gather(*(fetch_schemas(kit.bus, name) for name in names))
    known = dict(zip(names, schemas, strict=True))
    return [
        make_sample(
            f"{service.name}.{endpoint.name}",
            known[service.name].get(endpoint.name, {}),
            (endpoint.metadata or {}).get(Meta.HTTP, ""),
            url,
        )
        for service in services.values()
        for endpoint in service.endpoints
    ]
