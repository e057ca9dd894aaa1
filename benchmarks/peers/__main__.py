"""Runs one side of a peer in this process; see `benchmarks.peers`.

A server prints ``ready`` and stays until SIGTERM.  A load generator prints ``ready``, then
reads lines of ``IN_FLIGHT CALLS`` and answers each with a line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.peers import Setting

if TYPE_CHECKING:
    from types import ModuleType

    from benchmarks.peers import Call

__all__ = ["main"]

_SUM: Final = 3


def main(argv: list[str]) -> None:
    """Run what `argv` says: module, side, URL, codec, variant, port."""
    name, side, url, codec, variant, port = argv
    setting = Setting(url, codec, variant, int(port))
    module = importlib.import_module(f"benchmarks.peers.{name}")
    work = _serve(module, setting) if side == "serve" else _load(module, setting)
    with asyncio.Runner(loop_factory=_loop_factory(variant)) as runner:
        runner.run(work)


def _loop_factory(variant: str) -> type[asyncio.AbstractEventLoop] | None:
    if variant == "asyncio":
        return None
    import uvloop

    return uvloop.Loop


async def _serve(module: ModuleType, setting: Setting) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    served = await module.serve(setting)
    print("ready", flush=True)
    await ended.wait()
    if hasattr(served, "stop"):
        await served.stop()


async def _load(module: ModuleType, setting: Setting) -> None:
    call: Call = await module.connect(setting)
    result = await call()
    if result != _SUM:
        raise ValueError(f"asked for 1 + 2, got {result!r}")
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        in_flight, calls = map(int, line.split())
        measured = await repeat(call, in_flight, calls)
        print(msgspec.json.encode(measured).decode(), flush=True)


async def repeat(call: Call, in_flight: int, calls: int) -> dict[str, float]:
    """Call `calls` times, `in_flight` at once.

    Returns:
        The calls made; their rate per second; p50 and p99 in seconds; this process's CPU
        per call, in seconds.
    """
    times: list[float] = []

    async def one_after_the_other() -> None:
        for _ in range(calls // in_flight):
            start = perf_counter()
            await call()
            times.append(perf_counter() - start)

    cpu, begin = process_time(), perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(in_flight)))
    seconds = perf_counter() - begin
    cpu = process_time() - cpu
    times.sort()
    return {
        "calls": len(times),
        "rate": len(times) / seconds,
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "cpu": cpu / len(times),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
