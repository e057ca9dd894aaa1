"""kitmsg's HTTP gateway: HTTP outside, the bus inside; the service is `kit`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gateways.http
import kitmsg

if TYPE_CHECKING:
    from benchmarks.peers import Setting
    from gateways.http.server import GatewayServer

__all__ = ["serve"]


async def serve(setting: Setting) -> GatewayServer:
    """Serve POST /calculator/sum."""
    kit = await kitmsg.connect(setting.url)
    return await gateways.http.serve(kit, port=setting.port)
