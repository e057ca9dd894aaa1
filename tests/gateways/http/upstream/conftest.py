"""A plain HTTP server that answers as a test wants, and upstreams on it."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp import web

from kitmsg_gateways.http.upstream import Upstream, UpstreamOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass
class Seen:
    """A request as the server saw it."""

    method: str
    target: str
    headers: Any
    body: bytes


class Remote:
    """A server elsewhere: keeps what it saw, and answers by a function."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = _ok
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = request.headers.copy()
        self.seen.append(Seen(request.method, request.raw_path, headers, body))
        return await self.answer(request)

    def says(self, body: Any = b"", status: int = 200, **headers: str) -> None:
        """Answer every request so; what is no bytes is sent as JSON."""

        async def answer(_request: web.BaseRequest) -> web.StreamResponse:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            named.setdefault("Content-Type", "application/json" if is_json else "")
            return web.Response(body=data, status=status, headers=named)

        is_json = not isinstance(body, bytes)
        data = msgspec.json.encode(body) if is_json else body

        self.answer = answer


async def _ok(_request: web.BaseRequest) -> web.StreamResponse:
    return web.json_response({"ok": True})


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a function that returns a port that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    """A server on a loopback port."""
    made = Remote()
    runner = web.ServerRunner(
        web.Server(made.handle, handler_cancellation=True), shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def upstream(remote: Remote) -> AsyncIterator[Callable[..., Upstream]]:
    """Give a function that makes an upstream of endpoints on `remote`."""
    async with contextlib.AsyncExitStack() as stack:

        def make(endpoints: Any, **given: Any) -> Upstream:
            hooks = given.pop("hooks", None)
            address = given.pop("addresses", remote.url)
            name = given.pop("name", "users")
            made = Upstream(
                address,
                endpoints,
                name=name,
                hooks=hooks,
                options=UpstreamOptions(**given),
            )
            stack.push_async_callback(made.close)
            return made

        yield make
