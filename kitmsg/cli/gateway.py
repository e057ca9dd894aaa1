"""``kitmsg gateway KIND``: HTTP, gRPC, Thrift or MCP outside, the bus inside.

The kinds are plugins, see `kitmsg.worker.plugins`: the fields of a gateway's
`GatewayOptions` are the flags, and its `serve` starts it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from kitmsg import loops
from kitmsg.cli.fields import add_fields, chosen
from kitmsg.cli.output import UsageError, usage
from kitmsg.cli.remote import add_bus_flags, connected, settings_of
from kitmsg.worker.plugins import GATEWAYS, check_options, title, until_ended
from kitmsg.worker.settings import LOG_NAMES, add_flags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from kitmsg.worker.plugins import Gateway, Kinds
    from kitmsg.worker.settings import Settings

__all__ = ["add_arguments", "add_kinds", "run"]

_OWN: Final = (
    *(*LOG_NAMES, "health", "metrics", "register", "advertise"),
    *("traces", "trace_errors"),
)


def add_kinds(
    parser: argparse.ArgumentParser,
    kinds: Kinds[Any],
    fill: Callable[[argparse.ArgumentParser, Any, str], None],
    *,
    text: str,
) -> None:
    """Add a parser for each kind of a plugin; the plugin is imported when it is chosen.

    Args:
        parser: Of the verb.
        kinds: The plugins.
        fill: Adds the arguments of a kind to its parser, given the plugin and its name.
        text: Help of each kind, with "{}" for its name.
    """

    def filled(name: str, one: argparse.ArgumentParser) -> None:
        with usage():
            fill(one, kinds.load(name), name)

    parsers = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    names = kinds.names()
    if not names:
        raise UsageError(
            f"no {kinds.noun} is installed: pip install kitmsg, or -e . in its repository"
        )
    for name in names:
        parsers.add_parser(
            name,
            help=text.format(name),
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
            fill=functools.partial(filled, name),
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    add_kinds(parser, GATEWAYS, _fill, text="serve every service over {}")


def _fill(one: argparse.ArgumentParser, gateway: Gateway, name: str) -> None:
    shown = title(gateway, name)
    one.description = f"Serve every service found on the bus over {shown}."
    add_fields(one, gateway.GatewayOptions)
    group = "logs, health, metrics, traces, discovery"
    add_flags(one.add_argument_group(group), _OWN)
    add_bus_flags(one)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal; returns the exit code."""
    from kitmsg import logs
    from kitmsg.worker.announce import check_announcing
    from kitmsg.worker.pushing import check_metrics

    gateway = GATEWAYS.load(options.kind)
    given = chosen(gateway.GatewayOptions, options)
    options.access_log = None  # a gateway's has formats, a worker's is a switch
    settings = settings_of(options)
    if hasattr(given, "signing_key"):  # its variable and its table are those of workers
        key, audience = settings.signing_key, settings.audience
        given = replace(given, signing_key=key, audience=audience)
    logs.set_up(**settings.logging())
    with usage():
        check_options(gateway, given)  # before the wait for a bus, once for all workers
        check_announcing(settings)
        check_metrics(settings)
    workers = getattr(given, "workers", 1)
    if workers > 1 or settings.health:
        from kitmsg.worker.gateway import run_gateways

        return run_gateways(options.kind, given, replace(settings, workers=workers))
    return loops.run(_serve(options.kind, gateway, given, settings))


async def _serve(kind: str, gateway: Gateway, options: Any, settings: Settings) -> int:
    from kitmsg.worker.parent import on_signals

    # Stopping is a cancellation, so that it also ends the wait for a bus.
    serving = asyncio.create_task(_until_cancelled(kind, gateway, options, settings))
    on_signals(serving.cancel, lambda: None)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return 0


async def _until_cancelled(
    kind: str, gateway: Gateway, options: Any, settings: Settings
) -> None:
    from kitmsg.worker.announce import announcer, place_of
    from kitmsg.worker.gateway import address_error
    from kitmsg.worker.pushing import PushLoops, counted
    from kitmsg.worker.traces import flush_traces, set_up_traces

    set_up_traces(settings, f"kitmsg-gateway-{kind}")
    async with connected(settings, wait=True) as kit:
        try:
            server = await gateway.serve(kit, options)
        except OSError as exc:
            raise address_error(options, exc) from exc
        if hasattr(server, "reload"):
            _on_hup(server.reload)
        registrar = announcer(settings, place_of(server.url))
        loops_ = PushLoops(settings, counted(server, kit), process=kind)
        try:
            if registrar is not None:
                await registrar.start()
            await until_ended(server)
        finally:
            if registrar is not None:
                await registrar.stop()  # first, so that callers have gone by then
            await server.stop()
            await loops_.close()
            await flush_traces()


def _on_hup(reload: Callable[[], object]) -> None:
    """Call `reload` at each SIGHUP; end when it came because the terminal is gone."""
    from kitmsg.worker.parent import is_hung_up

    def heard() -> None:
        if is_hung_up():
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, heard)
