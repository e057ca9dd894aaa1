"""``kitmsg gateway http``: HTTP outside, the bus inside.

Its options are the fields of `gateways.http.GatewayOptions`; their help is that class's
documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import importlib
import inspect
import logging
import re
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from kitmsg import loops
from kitmsg.cli.output import UsageError
from kitmsg.cli.remote import add_bus_flags, connected, settings_of
from kitmsg.worker.settings import add_flags

if TYPE_CHECKING:
    from kitmsg.worker.settings import Settings

__all__ = ["add_arguments", "run"]

_OWN: Final = ("log_format", "log_level")
_LATER: Final = ("grpc", "thrift")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    http = kinds.add_parser(
        "http",
        help="serve HTTP",
        description="Serve every service found on the bus over HTTP.",
        allow_abbrev=False,
    )
    _add_options(http, _options_class())
    add_flags(http.add_argument_group("logs"), _OWN)
    add_bus_flags(http)
    for kind in _LATER:
        kinds.add_parser(kind, help="not there yet", allow_abbrev=False)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    from kitmsg.worker import logs

    if options.kind in _LATER:
        raise UsageError(f"there is no {options.kind} gateway yet; there is http")
    cls = _options_class()
    names = [field.name for field in dataclasses.fields(cls)]
    given = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    try:
        chosen = cls(**given)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    settings = settings_of(options)
    logs.set_up(log_format=settings.log_format, level=settings.log_level)
    return loops.run(_serve(chosen, settings))


def _options_class() -> Any:
    # By name: the toolkit does not depend on the edge.
    return importlib.import_module("gateways.http.options").GatewayOptions


def _add_options(parser: argparse.ArgumentParser, cls: Any) -> None:
    types, texts = get_type_hints(cls), _texts(cls)
    for field in dataclasses.fields(cls):
        flag = f"--{field.name.replace('_', '-')}"
        text = texts.get(field.name, "").replace("%", "%%")
        if types[field.name] is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=None, help=text)
            continue
        parser.add_argument(
            flag,
            type=types[field.name],
            default=None,
            metavar=field.name.rpartition("_")[2].upper(),
            help=f"{text} (default: {field.default})",
        )


def _texts(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of its attributes, by name."""
    doc = inspect.getdoc(cls) or ""
    _, _, listed = doc.partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n      +.+)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in found}


async def _serve(chosen: Any, settings: Settings) -> int:
    from kitmsg.worker.parent import on_signals

    # Stopping is a cancellation, so that it also ends the wait for a bus.
    gateway = asyncio.create_task(_until_cancelled(chosen, settings))
    on_signals(gateway.cancel, lambda: None)
    with contextlib.suppress(asyncio.CancelledError):
        await gateway
    return 0


async def _until_cancelled(chosen: Any, settings: Settings) -> None:
    from kitmsg.errors import FailedPrecondition

    async with connected(settings, wait=True) as kit:
        gateway = importlib.import_module("gateways.http")
        try:
            server = await gateway.serve(kit, chosen)
        except OSError as exc:
            taken = exc.errno == errno.EADDRINUSE
            why = "is taken" if taken else f"cannot be used: {exc.strerror}"
            raise FailedPrecondition(
                f"port {chosen.port} on {chosen.host} {why}; choose another --port"
            ) from exc
        logging.getLogger("gateways.http").info("ready at %s", server.url)
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop()
