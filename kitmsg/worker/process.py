"""A worker process, seen from inside: orders, signals, heartbeats, reports.

The parent decides when it ends, by SIGTERM; it also ends, drained, when the parent is gone.
Ctrl-C in a terminal reaches every process there, so it is ignored here: the parent
hears it.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import importlib
import io
import logging
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

import msgspec

from kitmsg import logs, loops
from kitmsg.errors import (
    InvalidArgument,
    KitError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from kitmsg.logs.structured import follow_structlog
from kitmsg.service.report import report
from kitmsg.worker.control import (
    BEAT_SECONDS,
    EXIT_CONFIG,
    EXIT_DENIED,
    EXIT_FAILED,
    MAX_LINE,
    Orders,
    read_line,
    write_line,
)
from kitmsg.worker.ending import end_without
from kitmsg.worker.gateway import GatewayRuntime
from kitmsg.worker.lifeline import Lender
from kitmsg.worker.load import load
from kitmsg.worker.modules import edited_folders
from kitmsg.worker.runtime import Runtime
from kitmsg.worker.upstream import UpstreamRuntime

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["main"]

_log = logging.getLogger("kitmsg.worker")

_FATAL = (InvalidArgument, NotFound, TypeError)


def main(argv: list[str]) -> int:
    """Run the worker that a parent started; returns the exit code.

    Args:
        argv: The descriptor of the socket to the parent; the rest is for ``ps``.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        # Not SIG_IGN, which the programs that a service starts would inherit.
        signal.signal(number, lambda *_: None)
    channel = socket.socket(fileno=int(argv[0]))
    channel.set_inheritable(False)
    orders = msgspec.json.decode(sys.stdin.buffer.read(), type=Orders)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # prints keep their place in logs
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, file=channel.fileno(), all_threads=True)
    settings = orders.settings
    logs.set_up(**settings.logging(), fields={"worker": orders.index})
    importlib.import_module("kitmsg.bus.nats")  # slow, so before the heart beats
    try:
        make = _maker(orders)
        follow_structlog()  # the services' modules are loaded now
    except KitError as exc:
        _tell(channel, failure(exc))
        return EXIT_CONFIG
    finally:
        if orders.tells_modules:
            _tell(channel, _modules())
    lifeline = socket.socket(fileno=orders.lifeline)
    return loops.run(_serve(channel, lifeline, make, orders))


def _maker(orders: Orders) -> Callable[[], Runtime]:
    """Return what makes the runtime, once an event loop runs."""
    if orders.gateway is not None and orders.gateway.upstream:
        return functools.partial(UpstreamRuntime, orders)
    if orders.gateway is not None:
        return functools.partial(GatewayRuntime, orders)
    return functools.partial(
        Runtime,
        load(orders.targets),
        orders.settings,
        hears_pings=orders.index == 1,
        place=(orders.index, orders.restarts),
    )


def _exit_code(error: BaseException) -> int:
    if isinstance(error, (Unauthenticated, PermissionDenied)):
        return EXIT_DENIED
    return EXIT_CONFIG if isinstance(error, _FATAL) else EXIT_FAILED


def _modules() -> dict[str, Any]:
    return {"event": "modules", "folders": edited_folders()}


def failure(error: BaseException) -> dict[str, Any]:
    """Return the event that says why a worker could not start."""
    is_ours = isinstance(error, KitError)
    stack = getattr(error, "stack", "")
    return {
        "event": "failed",
        "why": str(error) if is_ours else f"{type(error).__name__}: {error}",
        "stack": stack if is_ours else "".join(traceback.format_exception(error)),
    }


async def _serve(
    channel: socket.socket,
    lifeline: socket.socket,
    make: Callable[[], Runtime],
    orders: Orders,
) -> int:
    runtime = make()
    worker = _Worker(channel, lifeline, runtime, tells_modules=orders.tells_modules)
    code = await worker.run()
    await end_without(runtime.executors, code)
    return code


class _Worker:
    """The event loop's side of one worker process."""

    def __init__(
        self,
        channel: socket.socket,
        lifeline: socket.socket,
        runtime: Runtime,
        *,
        tells_modules: bool = False,
    ) -> None:
        self._channel = channel
        self._lifeline = lifeline
        self._lender: Lender | None = None  # from the moment that calls are served
        self._tells_modules = tells_modules
        self._runtime = runtime

    async def run(self) -> int:
        reader, writer = await asyncio.open_unix_connection(
            sock=self._channel, limit=MAX_LINE
        )
        runtime = self._runtime
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, runtime.stop)
        tasks = [
            asyncio.create_task(self._beat(writer)),
            asyncio.create_task(self._listen(reader, writer)),
        ]
        try:
            is_well = await runtime.serve(lambda: self._is_ready(writer))
        except Exception as exc:  # noqa: BLE001  # told to the parent, whatever it is
            write_line(writer, failure(exc))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            return _exit_code(exc)
        finally:
            for task in tasks:
                task.cancel()
            write_line(writer, {"event": "ended"})
            writer.close()
        return 0 if is_well else EXIT_FAILED

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        """Show the parent that this event loop turns."""
        runtime = self._runtime
        known = 0
        while True:
            if self._tells_modules and len(sys.modules) != known:
                known = len(sys.modules)
                write_line(writer, _modules())
            write_line(
                writer,
                {
                    "event": "beat",
                    "connected": runtime.is_connected,
                    "draining": runtime.is_draining,
                    "stuck": runtime.stuck,
                },
            )
            if self._lender is not None:
                self._lender.refresh()
            await asyncio.sleep(BEAT_SECONDS)

    async def _listen(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the parent; drain when it is gone."""
        while (order := await read_line(reader)) is not None:
            if isinstance(order, dict) and order.get("ask") == "report":
                write_line(writer, self._report(order.get("id")))
        if not self._runtime.is_draining:
            _log.warning("the parent process is gone; this worker drains and ends")
            self._runtime.stop()

    def _report(self, number: Any) -> dict[str, Any]:
        runtime = self._runtime
        return {
            "event": "report",
            "id": number,
            **report(runtime.kit, runtime.hosts),
            "families": list(runtime.collect()),
            "metrics": runtime.exposition(),
        }

    def _is_ready(self, writer: asyncio.StreamWriter) -> None:
        runtime = self._runtime
        if runtime.kit is not None and runtime.hosts:
            self._lender = Lender(self._lifeline, runtime.kit.bus)
        write_line(
            writer,
            {
                "event": "ready",
                "services": [host.service.name for host in runtime.hosts],
                "drain_timeout": runtime.max_drain,
            },
        )


def _tell(channel: socket.socket, event: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        channel.sendall(msgspec.json.encode(event) + b"\n")
