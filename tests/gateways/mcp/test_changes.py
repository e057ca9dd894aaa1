"""Services that come and go."""

from __future__ import annotations

import asyncio

from mcp.shared.subscriptions import ToolsListChanged
from mcp_types import ToolListChangedNotification

import kitmsg
from kitmsg import Service, endpoint
from kitmsg_gateways.mcp.errors import ERROR
from tests.gateways.mcp.services import Shop


class Notes(Service):
    """Keeps notes."""

    @endpoint
    async def add(self, text: str) -> None: ...


async def test_sessions_hear_that_the_tools_changed(hub, memory_bus, start):
    """Without asking, once it was agreed that they may; as long as they last."""
    heard = asyncio.Event()

    async def handler(message):
        if isinstance(message, ToolListChangedNotification):
            heard.set()

    await hub.serve(Shop())
    outside = await start(hub)
    async with outside.client("legacy", message_handler=handler) as client:
        assert client.server_capabilities.tools.list_changed
        await client.list_tools()
        async with kitmsg.connect(bus=memory_bus) as other:
            await other.serve(Notes())
            async with asyncio.timeout(5):
                await heard.wait()
            tools = (await client.list_tools(cache_mode="refresh")).tools
            assert "notes.add" in [tool.name for tool in tools]
            heard.clear()
        async with asyncio.timeout(5):
            await heard.wait()


async def test_sessions_that_ended_are_forgotten(hub, start, until):
    """Nothing of them is kept."""
    outside = await start(hub)
    async with outside.client("legacy") as client:
        await client.list_tools()
        await until(lambda: len(outside.server._peers) == 1)
    await until(lambda: not outside.server._peers)


async def test_subscribers_hear_that_the_tools_changed(hub, start):
    """In the newer protocol a client asks for it."""
    outside = await start(hub)
    async with (
        outside.client() as client,
        client.listen(tools_list_changed=True) as news,
    ):
        await hub.serve(Notes())
        async with asyncio.timeout(5):
            async for event in news:
                assert event == ToolsListChanged()
                break


async def test_a_tool_that_has_just_left_will_be_back(
    hub, memory_bus, start, until, mode
):
    """For ten seconds a call is answered with "unavailable", not "there is none"."""
    outside = await start(hub)
    async with outside.client(mode) as client:
        async with kitmsg.connect(bus=memory_bus) as other:
            await other.serve(Notes())
            await until(lambda: outside.server.table.tools)
        await until(lambda: not outside.server.table.tools)
        found = await client.call_tool("notes.add", {"text": "x"})
        assert found.meta[ERROR]["code"] == "unavailable"
        assert found.meta[ERROR]["retry_after"] == 1


async def test_new_clients_are_told_of_new_services(hub, start, until, mode):
    """In the instructions."""
    outside = await start(hub)
    await hub.serve(Notes())
    await until(lambda: outside.server.table.tools)
    async with outside.client(mode) as client:
        assert "- notes: Keeps notes." in client.instructions
