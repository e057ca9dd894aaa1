"""A process that announces an instance until it is killed: ADDRESS HOST:PORT."""

from __future__ import annotations

import asyncio
import sys

from kitmsg.discovery.instance import Instance
from kitmsg.discovery.registrar import registrar


async def main(address: str, instance: str) -> None:
    """Announce, and say so."""
    kept = registrar(address, Instance(address=instance))
    await kept.start()
    await kept.announced()
    print("announced", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
