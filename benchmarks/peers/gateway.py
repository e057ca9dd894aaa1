"""kitmsg's gateways: another protocol outside, the bus inside; the service is `kit`'s.

The variant is ``http``, which is the usual, ``grpc`` or ``thrift``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import kitmsg

if TYPE_CHECKING:
    from benchmarks.peers import Setting

__all__ = ["serve"]


async def serve(setting: Setting) -> Any:
    """Serve what is on the bus."""
    kit = await kitmsg.connect(setting.url)
    gateway = importlib.import_module(f"kitmsg_gateways.{setting.variant or 'http'}")
    return await gateway.serve(kit, port=setting.port)
