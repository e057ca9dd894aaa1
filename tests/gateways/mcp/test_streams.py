"""Streams: progress while they run, their items as the result."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg_gateways.mcp.call import TIMEOUT
from kitmsg_gateways.mcp.errors import ERROR
from tests.gateways.mcp.services import Shop


@pytest.fixture
async def shop(hub):
    """A shop on the bus."""
    shop = Shop()
    await hub.serve(shop)
    return shop


async def test_each_item_is_progress(hub, shop, start, mode):
    """With its number and its JSON; all of them are the result."""
    told = []

    async def progress(number, total, message):
        told.append((number, total, message))

    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool(
            "shop.count", {"upto": 3}, progress_callback=progress
        )
    items = [{"sku": "tea", "count": number} for number in range(3)]
    assert found.structured_content == {"count": 3, "complete": True, "items": items}
    assert told[0] == (1, None, '{"sku":"tea","count":0}')
    assert [number for number, _, _ in told] == [1, 2, 3]


async def test_only_the_last_items_are_kept(hub, shop, start, mode):
    """By number, and by bytes; how many there were is told."""
    async with (await start(hub, max_items=2)).client(mode) as client:
        found = await client.call_tool("shop.count", {"upto": 50})
        assert found.structured_content["count"] == 50
        assert [each["count"] for each in found.structured_content["items"]] == [48, 49]
    async with (await start(hub, max_result_bytes=60)).client(mode) as client:
        found = await client.call_tool("shop.count", {"upto": 50})
        assert [each["count"] for each in found.structured_content["items"]] == [48, 49]


async def test_a_stream_without_an_end_is_followed_for_a_while(hub, shop, start, mode):
    """What came until then is the result, and the service's turn is cancelled."""
    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool("shop.watch", meta={TIMEOUT: 0.3})
        assert found.structured_content == {"count": 1, "complete": False, "items": [1]}
        async with asyncio.timeout(5):
            await shop.cancelled.wait()


async def test_the_gateway_says_how_long_by_default(hub, shop, start):
    """`stream_timeout`."""
    async with (await start(hub, stream_timeout=0.2)).client() as client:
        found = await client.call_tool("shop.watch")
        assert not found.structured_content["complete"]


async def test_an_error_in_a_stream_is_the_result(hub, shop, start, mode):
    """With its name and fields."""
    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool("shop.count", {"upto": 2, "fails": True})
        assert found.is_error
        assert found.meta[ERROR]["error"] == "SoldOut"
        assert found.meta[ERROR]["details"] == {"sku": "tea"}


async def test_a_client_that_cancels_ends_the_stream(hub, shop, start, mode):
    """On the service's side too."""
    async with (await start(hub)).client(mode) as client:
        call = asyncio.create_task(client.call_tool("shop.watch"))
        await shop.begun.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await shop.cancelled.wait()


async def test_a_list_is_sent_as_a_stream(hub, shop, start, mode):
    """To an endpoint that takes one, with its other parameters beside it."""
    async with (await start(hub)).client(mode) as client:
        items = [{"sku": "tea", "count": number} for number in range(200)]
        found = await client.call_tool("shop.total", {"items": "four", "items_": items})
        assert found.structured_content == {"result": sum(range(200)) + 4}
        found = await client.call_tool("shop.double", {"items": [1, 2, 3]})
        assert found.structured_content["items"] == [2, 4, 6]
        found = await client.call_tool("shop.double", {"items": 5})
        assert found.meta[ERROR]["field"] == "items"
        found = await client.call_tool("shop.double", {"items": ["x"]})
        assert found.meta[ERROR]["code"] == "invalid_argument"
