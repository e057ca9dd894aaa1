"""A worker process, seen from its parent: start, listen, ask, stop, kill."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final

import msgspec

from kitmsg.worker.control import MAX_LINE, Orders, read_line, write_line
from kitmsg.worker.lifeline import Lifeline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Child"]

_DUMP_SECONDS: Final = 0.3
_LAST_WORDS_SECONDS: Final = 1.0


class Child:
    """One worker process, from its start to its end.

    Attributes:
        orders: What it was started with.
        pid: Its process id.
        last_beat: When its event loop last said that it turns, on the loop's clock; None
            before the first time.
        connected: Whether it can reach the bus, as far as it said.
        draining: Whether it is on its way out.
        failure: Why it could not start; None when it could, or has not yet.
        drain_timeout: Longest time its drain may take, in seconds.
        has_ended: Whether it said that its work is over; only its process goes on.
        stuck: Services of it that take no calls, because all their threads hang.
    """

    def __init__(
        self,
        orders: Orders,
        process: asyncio.subprocess.Process,
        lifeline: Lifeline,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_modules: Callable[[list[str]], None] = lambda _: None,
    ) -> None:
        self.orders = orders
        self.pid = process.pid
        self.last_beat: float | None = None
        self.connected = False
        self.draining = False
        self.failure: dict[str, Any] | None = None
        self.drain_timeout = 0.0
        self.has_ended = False
        self.stuck: frozenset[str] = frozenset()
        self._lifeline = lifeline
        self._on_modules = on_modules
        self._process = process
        self._writer = writer
        self._ready = asyncio.Event()
        self._dump: list[str] = []
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listener = asyncio.create_task(self._listen(reader))

    @classmethod
    async def start(
        cls,
        orders: Orders,
        environ: Mapping[str, str] | None = None,
        on_modules: Callable[[list[str]], None] = lambda _: None,
    ) -> Child:
        """Start a worker; returns before it is ready.

        Args:
            orders: What it shall do.
            environ: Its environment; by default this process's.
            on_modules: Told of the folders of its modules, if its orders want that.
        """
        shared = orders.gateway.sockets if orders.gateway else ()
        ours, theirs = socket.socketpair()
        line, their_line = socket.socketpair(type=socket.SOCK_DGRAM)
        orders = msgspec.structs.replace(orders, lifeline=their_line.fileno())
        with theirs, their_line:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # the working folder may have a types.py or http.py
                "-m",
                "kitmsg.worker",
                str(theirs.fileno()),
                *orders.targets,
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(theirs.fileno(), orders.lifeline, *shared),
                env=environ,
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE)
        assert process.stdin is not None  # noqa: S101  # it is a pipe, see above
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(orders))
            await process.stdin.drain()
        process.stdin.close()
        return cls(orders, process, Lifeline(line), reader, writer, on_modules)

    @property
    def is_ready(self) -> bool:
        """Whether it serves calls."""
        return self._ready.is_set() and self.is_alive and not self.draining

    @property
    def was_ready(self) -> bool:
        """Whether it has ever served calls."""
        return self._ready.is_set()

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.returncode is None

    @property
    def state(self) -> str:
        """``starting``, ``ready``, ``disconnected``, ``draining`` or ``dead``."""
        if not self.is_alive:
            return "dead"
        if self.draining:
            return "draining"
        if not self._ready.is_set():
            return "starting"
        return "ready" if self.connected else "disconnected"

    async def wait(self) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        code = await self._process.wait()
        await self._hear_out()
        return code

    async def until_ready(self) -> bool:
        """Wait until it serves calls; False if it ends before."""
        ready = asyncio.ensure_future(self._ready.wait())
        end = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait((ready, end), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                await self._hear_out()
            return self._ready.is_set()
        finally:
            ready.cancel()
            end.cancel()

    async def report(self, timeout: float) -> dict[str, Any] | None:
        """Ask for its counters; None if it does not say in `timeout` seconds."""
        number = next(self._ids)
        future = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        write_line(self._writer, {"ask": "report", "id": number})
        try:
            return await asyncio.wait_for(future, timeout)
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._asked.pop(number, None)

    def stop(self) -> None:
        """Have it drain and end."""
        self.draining = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    def cut(self) -> bool:
        """Cut its connection to the bus, so that others get its calls; False without one.

        It connects again when it wakes.
        """
        is_cut = self._lifeline.cut()
        self.connected = self.connected and not is_cut
        return is_cut

    async def dump(self) -> str:
        """Return the stacks of its threads, as far as it can still write them."""
        self._dump.clear()
        self._signal(signal.SIGUSR1)
        await asyncio.sleep(_DUMP_SECONDS)
        return "".join(self._dump)

    async def _hear_out(self) -> None:
        """Read what a process that has ended said last."""
        # A process that it forked may hold the socket open.
        self._lifeline.close()
        await asyncio.wait((self._listener,), timeout=_LAST_WORDS_SECONDS)
        self._writer.close()

    def _signal(self, number: int) -> None:
        if self.is_alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (event := await read_line(reader)) is not None:
            if isinstance(event, str):
                self._dump.append(event)
            else:
                self._take(event)
        self._lifeline.close()
        self._writer.close()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the worker is gone"))

    def _take(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "beat":
                self.last_beat = asyncio.get_running_loop().time()
                self.connected = bool(event["connected"])
                self.draining = self.draining or bool(event["draining"])
                self.stuck = frozenset(event["stuck"])
            case "ended":
                self.has_ended = True
                self._lifeline.close()
            case "ready":
                self.connected = True
                self.drain_timeout = float(event["drain_timeout"])
                self._ready.set()
            case "modules":
                self._on_modules(event["folders"])
            case "failed":
                self.failure = event
            case "report":
                future = self._asked.get(event["id"])
                if future is not None and not future.done():
                    future.set_result(event)
            case _:
                pass  # a newer worker may say more
