"""aiohttp's `Application`, which does the work itself: no bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from benchmarks.peers import Setting

__all__ = ["serve"]


async def _sum(request: web.Request) -> web.Response:
    numbers = await request.json()
    return web.json_response(numbers["a"] + numbers["b"])


async def serve(setting: Setting) -> web.AppRunner:
    """Serve POST /sum."""
    app = web.Application()
    app.router.add_post("/sum", _sum)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", setting.port).start()
    return runner
