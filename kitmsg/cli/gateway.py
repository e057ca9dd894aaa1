"""``kitmsg gateway KIND``: HTTP, gRPC or Thrift outside, the bus inside.

A kind is a package ``kitmsg_gateways.KIND``.  Its options are the fields of its
`GatewayOptions`, their help is that class's documentation, and its `serve` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kitmsg import loops
from kitmsg.cli.fields import add_fields, chosen
from kitmsg.cli.output import usage
from kitmsg.cli.remote import add_bus_flags, connected, settings_of
from kitmsg.worker.settings import add_flags

if TYPE_CHECKING:
    import argparse
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
        if importlib.util.find_spec(f"kitmsg_gateways.{kind}") is None:
            continue  # an installation may leave a gateway out
        one = kinds.add_parser(
            kind,
            help=f"serve {title}",
            description=f"Serve every service found on the bus over {title}.",
            allow_abbrev=False,
        )
        add_fields(one, options_class(kind))
        add_flags(one.add_argument_group("logs and health"), _OWN)
        add_bus_flags(one)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    from kitmsg.worker import logs

    given = chosen(options_class(options.kind), options)
    settings = settings_of(options)
    logs.set_up(log_format=settings.log_format, level=settings.log_level)
    check = getattr(
        importlib.import_module(f"kitmsg_gateways.{options.kind}"), "check", None
    )
    if check is not None:
        with usage():
            check(given)  # before the wait for a bus, and once for all workers
    workers = getattr(given, "workers", 1)
    if workers > 1 or settings.health:
        from kitmsg.worker.gateway import run_gateways

        return run_gateways(options.kind, given, replace(settings, workers=workers))
    return loops.run(_serve(options.kind, given, settings))


def options_class(kind: str) -> Any:
    """Return the options of a kind of gateway; nothing heavy is imported."""
    # By name: the toolkit does not depend on the edge.
    return importlib.import_module(f"kitmsg_gateways.{kind}.options").GatewayOptions


async def _serve(kind: str, options: Any, settings: Settings) -> int:
    from kitmsg.worker.parent import on_signals

    # Stopping is a cancellation, so that it also ends the wait for a bus.
    gateway = asyncio.create_task(_until_cancelled(kind, options, settings))
    on_signals(gateway.cancel, lambda: None)
    with contextlib.suppress(asyncio.CancelledError):
        await gateway
    return 0


async def _until_cancelled(kind: str, options: Any, settings: Settings) -> None:
    from kitmsg.worker.gateway import address_error

    async with connected(settings, wait=True) as kit:
        gateway = importlib.import_module(f"kitmsg_gateways.{kind}")
        try:
            server = await gateway.serve(kit, options)
        except OSError as exc:
            raise address_error(options, exc) from exc
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
