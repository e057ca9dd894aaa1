"""FastAPI in front of FastStream; the service is `stream`'s."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.stream import make_broker

if TYPE_CHECKING:
    from benchmarks.peers import Setting

__all__ = ["serve"]


class Numbers(BaseModel):
    """The request."""

    a: int
    b: int


async def serve(setting: Setting) -> asyncio.Task[None]:
    """Serve POST /sum."""
    broker = make_broker(setting.url)
    await broker.start()
    app = FastAPI()

    async def sum_(numbers: Numbers) -> int:
        reply = await broker.request(numbers, "stream.sum", timeout=5.0)
        result: int = await reply.decode()  # type: ignore[assignment]
        return result

    app.post("/sum")(sum_)
    config = uvicorn.Config(
        app, port=setting.port, access_log=False, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    # Not `serve`: that would take the signals.
    task = asyncio.create_task(server._serve())  # noqa: SLF001
    while not server.started and not task.done():  # noqa: ASYNC110  # it has no event
        await asyncio.sleep(0.01)
    return task
