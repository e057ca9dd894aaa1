"""kitmsg.loops: what kitmsg's own processes run on."""

import asyncio
import subprocess
import sys

import pytest

from kitmsg import loops

PROGRAM = """
import asyncio, gc
from kitmsg import loops

async def main():
    loop = type(asyncio.get_running_loop()).__module__
    print(loop.partition(".")[0], gc.get_freeze_count() > 10_000, gc.get_threshold()[0])

loops.run(main())
"""


def test_runs_on_uvloop_with_a_collector_that_keeps_off() -> None:
    """What was loaded is frozen, and cycles are looked for less often."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["uvloop", "True", "5000"]


def test_new_loop_does_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, asyncio's own is made."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = loops.new_loop()
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()
