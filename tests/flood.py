"""A process that claims to be thousands of services: ``python -m tests.flood URL COUNT``.

It announces and denies them within 1.5 s, then says so by a line; it answers INFO for all
of them until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kitmsg.bus.nats import NatsBus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.message import Message

ROOT = Path(__file__).parents[1]
PIPE = asyncio.subprocess.PIPE


@contextlib.asynccontextmanager
async def flood(url: str, count: int) -> AsyncIterator[None]:
    """Flood a bus from a process of its own; the block begins when all was said once."""
    words = (sys.executable, "-m", "tests.flood", url, str(count))
    process = await asyncio.create_subprocess_exec(
        *words, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        await process.wait()


def fake(n: int) -> bytes:
    """Return the INFO of an instance that is not there."""
    return msgspec.json.encode(
        {
            "name": f"fake-{n}",
            "id": f"f{n}",
            "version": "1.0.0",
            "endpoints": [
                {
                    "name": f"e{e}",
                    "subject": f"fake-{n}.e{e}",
                    "metadata": {"kit.http": f"GET /fake-{n}/{{x}}/{e}"},
                }
                for e in range(2)
            ],
        }
    )


async def main(url: str, count: int) -> None:
    bus = await NatsBus.connect(url, max_pending=1 << 30)
    bodies = [fake(n) for n in range(count)]

    def answer(message: Message) -> None:
        for body in bodies:
            bus.publish(message.reply, body)

    bus.subscribe("$SRV.INFO", answer)
    await bus.flush()
    for at in range(0, count, 100):
        for n in range(at, min(count, at + 100)):
            bus.publish(f"_kit.up.fake-{n}", bodies[n])
            bus.publish(f"_kit.down.fake-{n}", f"f{n}".encode())
        await asyncio.sleep(1.5 * 100 / count)
    print("said", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
