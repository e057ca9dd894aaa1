"""Go kit's own clients cannot tell a gateway from a Go kit server."""

from __future__ import annotations

import asyncio
import functools
import subprocess
from pathlib import Path

import pytest

from examples.addsvc.service import AddService
from kitmsg import endpoint
from tests import peers

SOURCE = Path(__file__).parent / "gokit"


class GoAddService(AddService):
    """Go kit's addsvc, with keys and answers as Go kit has them."""

    name = "addsvc"

    @endpoint(wire="gokit")
    async def sum(self, a: int, b: int) -> int:
        return await super().sum(a, b)

    @endpoint(wire="gokit")
    async def concat(self, a: str, b: str) -> str:
        return await super().concat(a, b)


@pytest.fixture(scope="session")
def client() -> str:
    """A program that calls addsvc with Go kit's JSON-RPC client."""
    return peers.path("gokit-jsonrpc")


async def test_go_kits_jsonrpc_client_is_served(hub, start, client):
    """Bare method names, keys in capitals, chunked bodies; results and errors alike."""
    await hub.serve(GoAddService())
    call = await start(hub)
    run = functools.partial(
        subprocess.run,
        [client, f"{call.server.url}/rpc"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    done = await asyncio.to_thread(run)
    assert done.stdout.splitlines() == [
        "sum 3",
        "concat ab",
        "sum -32602 two zeroes are not worth a call",
        "nothing -32601 Method nothing was not found.",
    ], done.stderr
