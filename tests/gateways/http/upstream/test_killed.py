"""One of four servers is killed under load: the others take its calls."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.context import Context
from kitmsg_gateways.http.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import asyncio
from aiohttp import web
async def get(request):
    await asyncio.sleep(0.005)
    return web.json_response(1)
async def main():
    runner = web.ServerRunner(web.Server(get))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.fixture
def servers() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Four processes, by address."""
    with contextlib.ExitStack() as stack:
        made = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(4)
        ]
        for process in made:
            stack.callback(process.kill)
        yield {f"http://127.0.0.1:{_line(process)}": process for process in made}


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_server_that_is_killed_fails_only_the_calls_it_held(
    servers: dict[str, subprocess.Popen[str]],
) -> None:
    """At most one more; a call that finds it gone goes on to another one."""
    async with Upstream(list(servers), {"get": "GET /"}, name="quotes") as upstream:
        call = upstream.endpoint("get")
        failed: list[Exception] = []

        async def one() -> None:
            try:
                await call(Context(endpoint="quotes.get"), {})
            except Exception as exc:  # noqa: BLE001  counted
                failed.append(exc)

        await asyncio.gather(*(one() for _ in range(40)))
        assert failed == []
        pool: Any = upstream._client._servers  # type: ignore[union-attr]
        tasks = []
        held = 0
        for number in range(500):
            tasks.append(asyncio.ensure_future(one()))
            await asyncio.sleep(0.002)
            if number == 150:
                node = pool._servers.nodes[0]
                servers[node.address.rstrip("/")].kill()
                held = node.in_flight
        await asyncio.gather(*tasks)
    assert len(failed) <= held + 1, failed
