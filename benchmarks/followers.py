"""Followers of one event over HTTP: what many get from one gateway, beside what one gets.

Events are published as fast as the stream takes them, while all who follow are connected;
the time is that until the last of them has the last event.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psutil

from benchmarks import table
from benchmarks.fleet import Process, cpu_seconds, free_port
from kitmsg import Event, Service
from kitmsg.bus.embedded import EmbeddedServer

if TYPE_CHECKING:
    import argparse

__all__ = ["measure", "report"]

_SIZES: Final = ((1, 20_000), (1000, 2000))
"""Followers, and events that each is given."""

_RATIO: Final = 20.0
_MEMORY: Final = 150e6
_TAIL: Final = 64
_READ_BYTES: Final = 1 << 18


class Tick(Event, subject="ticks.{symbol}"):
    """A price that changed."""

    symbol: str
    price: float
    number: int


class Ticks(Service):
    """Publishes prices."""

    publishes = (Tick,)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the deliveries a second, the memory and the CPU of a gateway, by followers."""
    rows: list[dict[str, Any]] = []
    with EmbeddedServer() as server:
        for _ in range(options.rounds):
            for followers, events in _SIZES:
                rows.append(asyncio.run(_round(server.url, followers, events)))
    return rows


async def _round(url: str, followers: int, events: int) -> dict[str, Any]:
    import kitmsg

    async with kitmsg.connect(url, makes_streams=True) as kit:
        await kit.serve(Ticks)
        first = await kit.publish(Tick("AAA", 1.0, 0))
        port = free_port()
        # In threads: the service here has to say what a tick is.
        gateway = await asyncio.to_thread(Process, _command("gateway", url, port))
        try:
            last = first + events
            crowd = await asyncio.to_thread(
                Process, _command("read", port, followers, last)
            )
        except BaseException:
            gateway.stop()
            raise
        try:
            cpu, began = cpu_seconds(gateway.pid), time.perf_counter()
            await kit.publish_many(Tick("AAA", 1.5, n) for n in range(events))
            published = time.perf_counter() - began
            await asyncio.to_thread(crowd.popen.wait, 120)
            seconds = time.perf_counter() - began
            return {
                "followers": followers,
                "rate": followers * events / seconds,
                "published": events / published,
                "bytes": _peak(gateway.pid),
                "cpu": (cpu_seconds(gateway.pid) - cpu) / (followers * events),
            }
        finally:
            crowd.stop()
            gateway.stop()


def _command(*words: Any) -> list[str]:
    return [sys.executable, "-m", __name__, *map(str, words)]


def _peak(pid: int) -> int:
    """Return the most memory that a process had, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)


def report(rows: list[dict[str, Any]]) -> str:
    """Return the table of what `measure` found, and what is wanted."""
    head = ("followers", "deliveries/s", "published/s", "peak MB", "CPU us each")
    lines = [
        (
            f"{row['followers']:,}",
            f"{row['rate']:,.0f}",
            f"{row['published']:,.0f}",
            f"{row['bytes'] / 1e6:,.0f}",
            f"{row['cpu'] * 1e6:,.2f}",
        )
        for row in rows
    ]
    one = [row["rate"] for row in rows if row["followers"] == 1]
    many = [row["rate"] for row in rows if row["followers"] > 1]
    ratios = sorted(m / o for m, o in zip(many, one, strict=True))
    most = max(row["bytes"] for row in rows)
    return (
        f"{table.draw(head, lines)}\n\n"
        f"many / one: {ratios[len(ratios) // 2]:.1f} x (wanted: {_RATIO:.0f} x);"
        f" memory: {most / 1e6:.0f} MB (wanted: under {_MEMORY / 1e6:.0f} MB)\n"
    )


async def _gateway(url: str, port: int) -> None:
    """Be the gateway, until the process is ended."""
    import kitmsg
    import kitmsg_gateways.http

    options = kitmsg_gateways.http.GatewayOptions(
        port=port, events=("ticks:read",), drain_timeout=0.1
    )
    async with kitmsg.connect(url) as kit:
        await kitmsg_gateways.http.serve(kit, options)
        print("ready", flush=True)
        await asyncio.Event().wait()


@dataclass
class _Reader:
    """One follower: its socket, and the end of what it has read."""

    socket: socket.socket
    tail: bytes = b""


def _read(port: int, count: int, last: int) -> None:
    """Be all the followers: each reads until it has the event `last`."""
    ready, found = selectors.DefaultSelector(), selectors.DefaultSelector()
    for _ in range(count):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(
            b"GET /events/ticks HTTP/1.1\r\nHost: localhost\r\n"
            b"Accept: text/event-stream\r\n\r\n"
        )
        ready.register(one, selectors.EVENT_READ, _Reader(one))
    _until(ready, b"retry: ", found)
    print("ready", flush=True)
    _until(found, b"\nid: %d\n" % last, None)


def _until(
    readers: selectors.BaseSelector, mark: bytes, then: selectors.BaseSelector | None
) -> None:
    """Read until each reader has met `mark`."""
    while readers.get_map():
        for key, _ in readers.select():
            reader: _Reader = key.data
            data = reader.socket.recv(_READ_BYTES)
            if not data:
                raise SystemExit("a follower was dropped")
            if mark in reader.tail + data:
                readers.unregister(reader.socket)
                if then is not None:
                    reader.tail = b""
                    then.register(reader.socket, selectors.EVENT_READ, reader)
                continue
            reader.tail = data[-_TAIL:]


if __name__ == "__main__":
    if sys.argv[1] == "gateway":
        import uvloop

        uvloop.run(_gateway(sys.argv[2], int(sys.argv[3])))
    else:
        _read(*map(int, sys.argv[2:5]))
