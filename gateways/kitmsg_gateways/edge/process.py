"""One gateway in this process: from a call, from a command, until a signal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import kitmsg
from kitmsg import logs, loops
from kitmsg.cli.fields import add_fields, chosen
from kitmsg.cli.output import UsageError
from kitmsg.errors import KitError
from kitmsg.worker.plugins import until_ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from kitmsg.service import Kit
    from kitmsg_gateways.edge.lifecycle import Gateway

__all__ = ["main", "run"]


S = TypeVar("S", bound="Gateway[Any, Any]")


async def run(
    serve: Callable[[Kit], Awaitable[S]],
    servers: str | None,
    on_ready: Callable[[S], None] | None,
) -> None:
    """Connect to the bus and serve it until SIGTERM or SIGINT, then stop gracefully.

    SIGHUP reads files again.

    Args:
        serve: Starts the gateway.
        servers: NATS URL; by default ``NATS_URL``, else the local bus.
        on_ready: Called once, when calls are accepted.

    Raises:
        KitError: The bus cannot be reached, or the gateway not be started.
        OSError: The address cannot be had.
    """
    with _signals() as ended:
        async with kitmsg.connect(servers) as kit:
            server = await serve(kit)
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGHUP, server.reload)
            try:
                if on_ready is not None:
                    on_ready(server)
                over = [ended.wait(), until_ended(server)]
                tasks = [asyncio.ensure_future(each) for each in over]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
            finally:
                await server.stop()
                loop.remove_signal_handler(signal.SIGHUP)


def main(kind: str) -> None:
    """Run ``python -m kitmsg_gateways.KIND``: one gateway until a signal ends it.

    Args:
        kind: Name of the gateway's package.

    Raises:
        SystemExit: With 1, after a sentence: it could not start.
    """
    package: Any = importlib.import_module(f"kitmsg_gateways.{kind}")
    parser = argparse.ArgumentParser(
        prog=f"python -m kitmsg_gateways.{kind}",
        description="Serve every service on the bus.",
    )
    add_fields(parser, package.GatewayOptions)
    parser.add_argument(
        "--servers", help="NATS URL; default: NATS_URL, else the local bus"
    )
    said = parser.parse_args()
    logs.set_up()
    try:
        options = chosen(package.GatewayOptions, said)
        loops.run(package.run(options, servers=said.servers, on_ready=_say))
    except (KitError, UsageError, OSError) as exc:
        print(f"gateway: {exc}", file=sys.stderr)  # noqa: T201  # a command's own word
        sys.exit(1)


def _say(server: Gateway[Any, Any]) -> None:
    print(server.url, flush=True)  # noqa: T201  # a command's own word


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Give an event that a signal to end sets."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, ended.set)
    try:
        yield ended
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
