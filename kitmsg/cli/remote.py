"""Shared parts of the verbs that talk to a bus: connecting, waiting aloud, schemas."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from kitmsg.cli.output import UsageError, usage
from kitmsg.message import all_printable
from kitmsg.wire import SRV, schemas_subject
from kitmsg.worker.settings import NATS_NAMES, Settings, add_flags, load_settings

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Callable, Coroutine

    from kitmsg.bus import Bus
    from kitmsg.discovery.subject import EndpointInfo
    from kitmsg.service import Kit

__all__ = [
    "add_bus_flags",
    "connected",
    "fetch_schemas",
    "find_endpoint",
    "on_bus",
    "settings_of",
]

R = TypeVar("R")


def add_bus_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the bus is."""
    add_flags(parser.add_argument_group("bus"), NATS_NAMES)


def settings_of(options: argparse.Namespace) -> Settings:
    """Return the settings that a command was given.

    Raises:
        UsageError: One does not fit.
    """
    with usage():
        return load_settings(vars(options))


def on_bus(
    options: argparse.Namespace, work: Callable[[Kit], Coroutine[Any, Any, R]]
) -> R:
    """Connect, run `work`, disconnect; returns what it returns.

    Raises:
        KitError: The bus is out of reach or refuses, or what `work` raises.
    """

    async def run() -> R:
        async with connected(settings_of(options)) as kit:
            return await work(kit)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def connected(settings: Settings, *, wait: bool = False) -> AsyncIterator[Kit]:
    """Connect for as long as the block lasts, saying so when it takes long.

    Args:
        settings: Where and as whom.
        wait: Whether to wait for a bus that is not there yet.

    Raises:
        UsageError: An address or a file of the settings cannot be used.
        KitError: The bus is out of reach or refuses.
    """
    from kitmsg.discovery.pool import connect_bus
    from kitmsg.errors import InvalidArgument
    from kitmsg.service import Kit

    asyncio.get_running_loop().set_exception_handler(_quiet)
    waiting = asyncio.get_running_loop().call_later(1.0, _say_waiting, settings)
    try:
        bus = await connect_bus(**settings.connection("kitmsg cli"), wait=wait)
    except InvalidArgument as exc:
        raise UsageError(str(exc)) from exc
    finally:
        waiting.cancel()
    try:
        yield Kit(bus)
    finally:
        await bus.close()


async def fetch_schemas(
    bus: Bus, service: str, *, timeout: float = 1.0
) -> dict[str, dict[str, Any]]:
    """Return the JSON Schemas of a service's endpoints by name; none if it tells none.

    Those that are not what their hash says, or too large to be read, are left out.
    """
    import msgspec

    from kitmsg.errors import KitError
    from kitmsg.schema.live import why_unread

    try:
        reply = await bus.request(schemas_subject(service), b"", timeout)
        found = msgspec.json.decode(reply.data, type=dict[str, dict[str, Any]])
    except (KitError, msgspec.DecodeError):
        return {}
    hashes = {name: str(schema.get("hash")) for name, schema in found.items()}
    return {
        name: all_printable(schema)
        for name, schema in found.items()
        if not why_unread(schema, hashes[name])
    }


async def find_endpoint(
    bus: Bus, name: str, *, timeout: float = 1.0
) -> EndpointInfo | None:
    """Return what some instance says of ``service.endpoint``; None if none says it.

    Raises:
        UsageError: It says a subject that nobody is called at.
    """
    import msgspec

    from kitmsg.discovery.claims import why_never
    from kitmsg.discovery.subject import read_info
    from kitmsg.errors import KitError

    service, _, wanted = name.partition(".")
    try:
        reply = await bus.request(f"{SRV}.INFO.{service}", b"", timeout)
        info = read_info(reply.data)
    except (KitError, msgspec.DecodeError):
        return None
    found = next((each for each in info.endpoints if each.name == wanted), None)
    if found is not None and (problem := why_never(found.subject)):
        raise UsageError(f"{name} cannot be called: {problem}")
    return found


def _say_waiting(settings: Settings) -> None:
    from kitmsg.bus.options import mask_url

    if sys.stderr.isatty():
        print(f"connecting to {mask_url(settings.nats_url)} ...", file=sys.stderr)


def _quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep what asyncio has to say about a lost connection off the terminal."""
