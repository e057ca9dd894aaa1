"""A client in a process of its own, which asks one thing after the other.

``python -m benchmarks.figures.sequence URL NUMBER PID`` prints its own memory and that of
process PID, as `ask` returns it.
"""

from __future__ import annotations

import gc
import os
import sys

import msgspec
import psutil

import kitmsg
from benchmarks.figures.offered import run
from benchmarks.peers.kit import Calculator

__all__ = ["ask"]


async def ask(url: str, number: int, *pids: int) -> list[tuple[int, int]]:
    """Ask `number` times, one after the other.

    Returns:
        Resident bytes of each process, at a tenth of the way and at its end.
    """
    async with kitmsg.connect(url) as kit:
        calculator = kit.client(Calculator)
        for n in range(number // 10):
            await calculator.sum(n, 1)
        gc.collect()
        early = [psutil.Process(pid).memory_info().rss for pid in pids]
        for n in range(number - number // 10):
            await calculator.sum(n, 1)
        gc.collect()
        late = [psutil.Process(pid).memory_info().rss for pid in pids]
    return list(zip(early, late, strict=True))


def main(argv: list[str]) -> None:
    """Do as `argv` says and print what came of it."""
    url, number, pid = argv
    sizes = run(ask(url, int(number), os.getpid(), int(pid)))
    print(msgspec.json.encode(sizes).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
