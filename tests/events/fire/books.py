"""A service with a backlog, which works at each event for as long as a file says.

``FIRE_SECONDS`` names the file, so that a test may change it; each event that is begun adds
a line to the file ``FIRE_BEGUN``.  ``FIRE_DRAIN`` is the drain's longest time, in seconds.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from kitmsg import Event, Service, subscribe

__all__ = ["Books", "Entered"]


class Entered(Event, subject="books.entered.{number}"):
    number: int
    text: str = ""


class Books(Service):
    """Counts what it begins."""

    name = "books"
    drain_timeout = float(os.environ.get("FIRE_DRAIN", "25"))

    def __init__(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.begun = os.open(os.environ["FIRE_BEGUN"], flags)
        self.seconds = Path(os.environ["FIRE_SECONDS"])

    @subscribe(Entered, since="first")
    async def enter(self, event: Entered) -> None:
        os.write(self.begun, b"%d\n" % event.number)
        seconds = float(self.seconds.read_text())
        if seconds:
            await asyncio.sleep(seconds)
