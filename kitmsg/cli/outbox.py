"""``kitmsg outbox``: relays the events of a database's outbox, and makes its tables."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any, Final

from kitmsg.cli.output import UsageError, usage
from kitmsg.cli.remote import add_bus_flags, connected, settings_of
from kitmsg.errors import InvalidArgument
from kitmsg.worker.settings import add_flags

if TYPE_CHECKING:
    import argparse

    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["add_arguments", "run"]

_EPILOG: Final = """\
  kitmsg outbox tables URL    make the tables that are missing
  kitmsg outbox relay URL     publish what is committed, until stopped; of several one works

URL is SQLAlchemy's: postgresql+asyncpg://app@db/orders, postgresql+psycopg://...,
sqlite+aiosqlite:///orders.db; $KITMSG_OUTBOX where it is left out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    parser.epilog = _EPILOG
    parser.add_argument("what", choices=("relay", "tables"))
    parser.add_argument("url", nargs="?", default="", metavar="URL")
    add_bus_flags(parser)
    add_flags(parser.add_argument_group("metrics of the relay"), ("metrics",))


def run(options: argparse.Namespace) -> int:
    """Relay, or make the tables; returns the exit code."""
    import logging
    import os

    url = options.url or os.environ.get("KITMSG_OUTBOX", "")
    if not url:
        raise UsageError("name the database, as in kitmsg outbox relay URL")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    work = _tables(url) if options.what == "tables" else _relay(url, options)
    asyncio.run(work)
    return 0


def _engine(url: str) -> AsyncEngine:
    from kitmsg.outbox.tables import engine_of

    try:
        return engine_of(url)
    except InvalidArgument as error:
        raise UsageError(str(error)) from error


async def _tables(url: str) -> None:
    from kitmsg.outbox import make_tables

    engine = _engine(url)
    await make_tables(engine)
    await engine.dispose()
    print("the outbox's tables are there")


async def _relay(url: str, options: argparse.Namespace) -> None:
    from kitmsg.metrics.memory import MemoryMetrics
    from kitmsg.outbox import Relay
    from kitmsg.worker.pushing import PushLoops, check_metrics, is_pushed

    settings = settings_of(options)
    with usage():
        check_metrics(settings)
    engine = _engine(url)
    metrics = MemoryMetrics(fine=is_pushed(settings))
    loops = PushLoops(settings, metrics.collect, process="outbox")
    try:
        async with connected(settings, wait=True) as kit:
            metrics.register(kit.collect)
            work: asyncio.Future[Any] = asyncio.ensure_future(
                Relay(engine, kit.jetstream, metrics=metrics).run()
            )
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, work.cancel)
            await asyncio.wait((work,))
            if not work.cancelled():
                work.result()
    finally:
        await loops.close()
    await engine.dispose()
