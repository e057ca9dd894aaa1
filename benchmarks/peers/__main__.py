"""Runs one side of a peer in this process; see `benchmarks.peers`.

A server prints ``ready`` and stays until SIGTERM.  A load generator prints ``ready``, then
reads lines of ``IN_FLIGHT CALLS`` and answers each with a line of JSON; one that begins with
``prepare`` is answered when all is ready for what the next line asks.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.peers import Setting
from benchmarks.peers.trial import Calls
from kitmsg.loops import settle

if TYPE_CHECKING:
    from types import ModuleType

    from benchmarks.peers import Call
    from benchmarks.peers.trial import Trial

__all__ = ["main"]

_SUM: Final = 3


def main(argv: list[str]) -> None:
    """Run what `argv` says: module, side, URL, codec, variant, port."""
    name, side, url, codec, variant, port = argv
    setting = Setting(url, codec, variant, int(port))
    module = importlib.import_module(f"benchmarks.peers.{name}")
    work = _serve(module, setting) if side == "serve" else _load(module, setting)
    settle()  # as kitmsg's own processes do; all peers alike
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
    made: Call | Trial = await module.connect(setting)
    trial = await _checked(made) if callable(made) else made
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        *what, in_flight, calls = line.split()
        if what:
            await trial.prepare(int(in_flight), int(calls))
            print("prepared", flush=True)
        else:
            measured = await trial.measure(int(in_flight), int(calls))
            print(msgspec.json.encode(measured).decode(), flush=True)


async def _checked(call: Call) -> Trial:
    """Return a trial of a call, which must give the right sum."""
    result = await call()
    if result != _SUM:
        raise ValueError(f"asked for 1 + 2, got {result!r}")
    return Calls(call)


if __name__ == "__main__":
    main(sys.argv[1:])
