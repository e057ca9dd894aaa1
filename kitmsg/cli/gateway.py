"""``kitmsg gateway KIND``: HTTP, gRPC or Thrift outside, the bus inside.

A kind is a package ``gateways.KIND``.  Its options are the fields of its `GatewayOptions`,
their help is that class's documentation, and its `serve` starts it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import importlib
import importlib.util
import inspect
import logging
import os
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints

from kitmsg import loops
from kitmsg.cli.output import UsageError
from kitmsg.cli.remote import add_bus_flags, connected, settings_of
from kitmsg.worker.settings import add_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.worker.settings import Settings

__all__ = ["KINDS", "add_arguments", "options_class", "run"]

KINDS: Final = {"http": "HTTP", "grpc": "gRPC", "thrift": "Thrift"}
"""The gateways there are, and how people write them."""

_OWN: Final = ("log_format", "log_level", "health")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind, title in KINDS.items():
        if importlib.util.find_spec(f"gateways.{kind}") is None:
            continue  # an installation may leave a gateway out
        one = kinds.add_parser(
            kind,
            help=f"serve {title}",
            description=f"Serve every service found on the bus over {title}.",
            allow_abbrev=False,
        )
        _add_options(one, options_class(kind))
        add_flags(one.add_argument_group("logs and health"), _OWN)
        add_bus_flags(one)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    from kitmsg.worker import logs

    cls = options_class(options.kind)
    names = [field.name for field in dataclasses.fields(cls)]
    given = {n: getattr(options, n) for n in names if getattr(options, n) is not None}
    given = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
    try:
        chosen = cls(**given)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    settings = settings_of(options)
    logs.set_up(log_format=settings.log_format, level=settings.log_level)
    workers = getattr(chosen, "workers", 1)
    if workers > 1 or settings.health:
        from kitmsg.worker.gateway import run_gateways

        return run_gateways(options.kind, chosen, replace(settings, workers=workers))
    return loops.run(_serve(options.kind, chosen, settings))


def options_class(kind: str) -> Any:
    """Return the options of a kind of gateway; nothing heavy is imported."""
    # By name: the toolkit does not depend on the edge.
    return importlib.import_module(f"gateways.{kind}.options").GatewayOptions


def _add_options(parser: argparse.ArgumentParser, cls: Any) -> None:
    types, texts = get_type_hints(cls), _texts(cls)
    for field in dataclasses.fields(cls):
        flag = f"--{field.name.replace('_', '-')}"
        text = texts.get(field.name, "").replace("%", "%%")
        type_ = types[field.name]
        if type_ is bool:
            action = argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=None, help=text)
            continue
        is_many = get_origin(type_) is tuple
        default = "" if field.default in ("", ()) else f" (default: {field.default})"
        parser.add_argument(
            flag,
            type=get_args(type_)[0] if is_many else type_,
            action="append" if is_many else "store",
            default=None,
            metavar=field.name.rpartition("_")[2].upper(),
            help=f"{text}{'; may be repeated' if is_many else ''}{default}",
        )


def _texts(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of its attributes, by name."""
    doc = inspect.getdoc(cls) or ""
    _, _, listed = doc.partition("Attributes:\n")
    found = re.findall(r"^    (\w+): (.+(?:\n      +.+)*)", listed, re.MULTILINE)
    return {name: " ".join(text.split()).rstrip(".") for name, text in found}


async def _serve(kind: str, chosen: Any, settings: Settings) -> int:
    from kitmsg.worker.parent import on_signals

    # Stopping is a cancellation, so that it also ends the wait for a bus.
    gateway = asyncio.create_task(_until_cancelled(kind, chosen, settings))
    on_signals(gateway.cancel, lambda: None)
    with contextlib.suppress(asyncio.CancelledError):
        await gateway
    return 0


async def _until_cancelled(kind: str, chosen: Any, settings: Settings) -> None:
    from kitmsg.worker.gateway import address_error

    async with connected(settings, wait=True) as kit:
        gateway = importlib.import_module(f"gateways.{kind}")
        try:
            server = await gateway.serve(kit, chosen)
        except OSError as exc:
            raise address_error(chosen, exc) from exc
        logging.getLogger(f"gateways.{kind}").info("ready at %s", server.url)
        if hasattr(server, "reload"):
            _on_hup(server.reload)
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop()


def _on_hup(reload: Callable[[], object]) -> None:
    """Call `reload` at each SIGHUP; end when it came because the terminal is gone."""
    from kitmsg.worker.parent import is_hung_up

    def heard() -> None:
        if is_hung_up():
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heard)
