"""kitmsg as its users write it.

The variant names the defaults to do without, joined by ``+``; ``bare`` is all of them;
``gokit`` answers as Go kit's transport on its subject; ``layers`` is one process with a
service for each default to do without.  A caller with ``breaker`` among them has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import kitmsg
from kitmsg import Service, endpoint
from kitmsg.codec import JSON, MSGPACK
from kitmsg.service.declare import DEFAULTS

if TYPE_CHECKING:
    from benchmarks.peers import Call, Setting
    from kitmsg import Kit

__all__ = ["LAYERS", "connect", "serve"]

LAYERS: Final = "layers"
"""The variant that serves the others."""


class Calculator(Service):
    """Adds numbers."""

    @endpoint
    async def sum(self, a: int, b: int) -> int:
        """Return the sum of two numbers."""
        return a + b


class GoCalculator(Service):
    """Adds numbers for callers that speak Go kit's wire."""

    @endpoint(wire="gokit", subject="kit.gosum")
    async def sum(self, a: int, b: int) -> int:
        """Return the sum of two numbers."""
        return a + b


async def serve(setting: Setting) -> Kit:
    """Serve sum."""
    kit = await kitmsg.connect(setting.url)
    if setting.variant == LAYERS:
        for variant in ("", *sorted(DEFAULTS), "bare"):
            await kit.serve(_class(setting._replace(variant=variant))())
        return kit
    service = GoCalculator() if setting.variant == "gokit" else _class(setting)()
    await kit.serve(service)
    return kit


async def connect(setting: Setting) -> Call:
    """Return a call of sum."""
    has_breaker = "breaker" not in setting.variant.split("+")
    kit = await kitmsg.connect(setting.url, breaker=has_breaker)
    codec = JSON if setting.codec == "json" else MSGPACK
    client = kit.client(_class(setting), codec=codec)
    return lambda: client.sum(1, 2)


def _class(setting: Setting) -> type[Calculator]:
    """Return a class for the variant, with a name of its own on the bus."""
    variant = setting.variant
    if not variant:
        return Calculator
    off = DEFAULTS if variant == "bare" else DEFAULTS & set(variant.split("+"))
    name = f"calculator-{variant.replace('+', '-')}"
    return type("Calculator", (Calculator,), {"name": name, "off": off})
