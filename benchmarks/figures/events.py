"""Streams over HTTP: a slow reader of many bytes, and many readers of nothing."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psutil

from benchmarks.figures.figure import Figure
from benchmarks.figures.services import EVENT
from benchmarks.fleet import Load, Process, free_port, python_peer
from benchmarks.peers import Setting
from benchmarks.worker import Worker
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["idle_readers", "slow_reader"]

_SERVICES: Final = str(Path(__file__).with_name("services.py"))
_BYTES: Final = 1 << 30
_QUICK_BYTES: Final = 1 << 26
_CHUNK: Final = 1 << 16
_PAUSE_SECONDS: Final = 0.0005  # after each chunk: less than half of what could be sent
_MEMORY_BYTES: Final = 120e6
_READERS: Final = 5_000
_QUICK_READERS: Final = 200
_AT_ONCE: Final = 50  # that connect: the queue of a listening socket is short
_IDLE_BYTES: Final = 250e6
_SLOWER: Final = 1.5
_IN_FLIGHT: Final = 8
_CALLS: Final = 2_000
_QUICK_CALLS: Final = 200
_ROUNDS: Final = 5
_EVENTS: Final = "text/event-stream"
_LINES: Final = "application/x-ndjson"


def slow_reader(is_quick: bool) -> Iterator[Figure]:
    """Stream to a client that reads slower than could be sent, in both forms."""
    size = _QUICK_BYTES if is_quick else _BYTES
    for form in (_EVENTS, _LINES):
        with (
            EmbeddedServer(jetstream=False) as bus,
            Worker(bus.url, f"{_SERVICES}:Broadcast") as worker,
            _gateway(bus.url) as (gateway, port),
        ):
            received = _read(port, f"/flood/{size // len(EVENT)}", form)
            most = {
                "gateway": _most_resident(gateway.pid),
                "worker": _most_resident(worker.children[0]),
            }
        for who, memory in most.items():
            yield Figure(
                f"{received / 1e6:,.0f} MB of {form} to a slow reader: the {who}",
                f"under {_MEMORY_BYTES / 1e6:.0f} MB resident",
                f"{memory / 1e6:.1f} MB",
                memory,
                memory < _MEMORY_BYTES and received >= size,
            )


@contextlib.contextmanager
def _gateway(url: str) -> Iterator[tuple[Process, int]]:
    port = free_port()
    process = Process(python_peer("gateway", "serve", Setting(url, port=port)))
    try:
        yield process, port
    finally:
        process.stop()


def _request(port: int, path: str, form: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: {form}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def _read(port: int, path: str, form: str) -> int:
    """Read an answer to its end, slowly; returns its bytes."""
    count = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_request(port, path, form))
        while chunk := connection.recv(_CHUNK):
            count += len(chunk)
            time.sleep(_PAUSE_SECONDS)
    return count


def _most_resident(pid: int) -> float:
    """Return the most memory a process ever had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} does not say how much memory it had")


def idle_readers(is_quick: bool) -> Iterator[Figure]:
    """Hold many streams where nothing happens, and call through the same gateway."""
    number = _QUICK_READERS if is_quick else _READERS
    calls = _QUICK_CALLS if is_quick else _CALLS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with EmbeddedServer(jetstream=False) as bus:
        server = Process(python_peer("kit", "serve", Setting(bus.url)))
        with contextlib.ExitStack() as stack:
            stack.callback(server.stop)
            stack.enter_context(Worker(bus.url, f"{_SERVICES}:Broadcast"))
            gateway, port = stack.enter_context(_gateway(bus.url))
            setting = Setting(bus.url, variant="/calculator/sum", port=port)
            load = Load(python_peer("sockets", "load", setting))
            stack.callback(load.stop)
            yield from asyncio.run(_idle(gateway.pid, port, load, number, calls))


async def _idle(
    gateway: int, port: int, load: Load, number: int, calls: int
) -> list[Figure]:
    load.measure(_IN_FLIGHT, calls)
    alone = await _p99(load, calls)
    room = asyncio.Semaphore(_AT_ONCE)
    writers = await asyncio.gather(*(_open(port, room) for _ in range(number)))
    memory = psutil.Process(gateway).memory_info().rss
    beside = await _p99(load, calls)
    for writer in writers:
        writer.close()
    ratio = beside / alone
    return [
        Figure(
            f"{number:,} idle readers of server-sent events: the gateway",
            f"under {_IDLE_BYTES / 1e6:.0f} MB resident",
            f"{memory / 1e6:.1f} MB",
            memory,
            memory < _IDLE_BYTES,
        ),
        Figure(
            f"p99 of calls through that gateway, {_IN_FLIGHT} in flight",
            f"at most {_SLOWER:g} x what it is without them",
            f"{ratio:.2f} x ({alone * 1e6:,.0f} us, then {beside * 1e6:,.0f} us)",
            ratio,
            ratio <= _SLOWER,
        ),
    ]


async def _p99(load: Load, calls: int) -> float:
    """Return the median of several p99s, in seconds."""
    measured = [
        await asyncio.to_thread(load.measure, _IN_FLIGHT, calls) for _ in range(_ROUNDS)
    ]
    return median(m["p99"] for m in measured)


async def _open(port: int, room: asyncio.Semaphore) -> asyncio.StreamWriter:
    """Connect one reader; returns when its stream has begun."""
    async with room:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
        writer.write(_request(port, "/silence", _EVENTS))
        head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"no stream: {head!r}")
    return writer
