"""A real browser for tests, spoken to by its DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["Tab", "open_tab"]

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-port=0",
)


_FAULTS = ("Runtime.exceptionThrown", "Log.entryAdded")


class Tab:
    """One tab of the browser.

    Attributes:
        faults: What its console and its network complained of.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.faults: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)

    async def do(self, method: str, **params: Any) -> Any:
        """Run one command and return its result."""
        id_ = next(self._ids)
        await self._socket.send_json({"id": id_, "method": method, "params": params})
        async with asyncio.timeout(30):
            while (message := await self._next()).get("id") != id_:
                pass
        assert "error" not in message, message
        return message["result"]

    async def show(self, url: str) -> None:
        """Show a page; returns when it is loaded."""
        await self.do("Page.enable")
        await self.do("Page.navigate", url=url)
        async with asyncio.timeout(30):
            while (await self._next()).get("method") != "Page.loadEventFired":
                pass

    async def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._socket.receive_json()
        if message.get("method") in _FAULTS:
            self.faults.append(str(message["params"]))
        return message

    async def run(self, script: str) -> Any:
        """Return what a script returns, awaited."""
        found = await self.do(
            "Runtime.evaluate",
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Return the value of an expression as soon as it is truthy."""
        wait = "new Promise((go) => setTimeout(go, 20))"
        script = f"let it; while (!(it = ({expression}))) await {wait}; return it;"
        return await self.run(script)


@contextlib.asynccontextmanager
async def open_tab(program: str, profile: Path, url: str) -> AsyncIterator[Tab]:
    """Start a browser with an empty profile, and show a page in it.

    Args:
        program: Chromium's path.
        profile: An empty folder.
        url: The page.
    """
    browser = await asyncio.create_subprocess_exec(
        program,
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        port = await _port(browser)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
            session.ws_connect(await _page(session)) as socket,
        ):
            tab = Tab(socket)
            for domain in ("Runtime", "Log", "Network"):
                await tab.do(f"{domain}.enable")
            await tab.show(url)
            yield tab
    finally:
        with contextlib.suppress(ProcessLookupError):
            browser.kill()
        await browser.communicate()


async def _port(browser: asyncio.subprocess.Process) -> int:
    assert browser.stderr is not None
    async with asyncio.timeout(30):
        async for line in browser.stderr:
            told = re.search(rb"DevTools listening on ws://[\w.]+:(\d+)/", line)
            if told:
                return int(told[1])
    raise AssertionError("the browser ended before it said where it listens")


async def _page(session: aiohttp.ClientSession) -> str:
    async with asyncio.timeout(30):
        while True:
            async with session.get("/json/list") as answer:
                tabs = await answer.json(content_type=None)
            pages = [tab for tab in tabs if tab["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
            await asyncio.sleep(0.02)
