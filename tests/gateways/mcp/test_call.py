"""Calls of tools: results, errors, deadlines, cancellation."""

from __future__ import annotations

import asyncio
import base64

import pytest

from kitmsg import Service, endpoint
from kitmsg.errors import Unavailable
from kitmsg_gateways.mcp.call import TIMEOUT
from kitmsg_gateways.mcp.errors import ERROR
from tests.gateways.mcp.conftest import text_of
from tests.gateways.mcp.services import Shop


@pytest.fixture
async def shop(hub):
    """A shop on the bus."""
    shop = Shop()
    await hub.serve(shop)
    return shop


async def test_a_result_is_text_and_structured(hub, shop, start, mode):
    """An object as it is; anything else under ``result``; nothing as null."""
    async with (await start(hub)).client(mode) as client:
        order = {"id": "A1", "items": [{"sku": "tea", "count": 2}]}
        found = await client.call_tool("shop.put", order)
        assert found.structured_content == order
        assert text_of(found) == '{"id":"A1","items":[{"sku":"tea","count":2}]}'
        found = await client.call_tool("shop.get", {"id": "B2"})
        assert found.structured_content == {"result": None}
        assert not found.is_error
        found = await client.call_tool("shop.forget")
        assert text_of(found) == "null"


async def test_bytes_are_base64_both_ways(hub, shop, start):
    """As in JSON everywhere."""
    async with (await start(hub)).client() as client:
        page = base64.b64encode(b"\x00abc").decode()
        found = await client.call_tool("shop.scan", {"page": page})
        assert base64.b64decode(found.structured_content["result"]) == b"cba\x00"


async def test_a_struct_with_a_field_named_result_is_not_wrapped(hub, start):
    """It is what it is."""

    class Sums(Service):
        @endpoint
        async def add(self, a: int, b: int) -> dict[str, int]:
            return {"result": a + b, "b": b}

    await hub.serve(Sums())
    async with (await start(hub)).client() as client:
        found = await client.call_tool("sums.add", {"a": 1, "b": 2})
        assert found.structured_content == {"result": 3, "b": 2}


async def test_a_declared_error_has_its_name_and_fields(hub, shop, start, mode):
    """As text for the model, and in ``_meta`` for programs."""
    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool("shop.buy", {"sku": "tea"})
    assert found.is_error
    assert found.structured_content is None  # it would not fit the tool's schema
    facts = found.meta[ERROR]
    id_ = facts.pop("request_id")
    assert facts == {
        "code": "failed_precondition",
        "message": "tea is sold out",
        "error": "SoldOut",
        "details": {"sku": "tea"},
    }
    line, more = text_of(found).split("\n")
    assert line == "failed_precondition: tea is sold out"
    assert id_ in more
    assert '"details":{"sku":"tea"}' in more


async def test_arguments_that_do_not_fit_are_named(hub, shop, start, mode):
    """So that the model can put it right."""
    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool("shop.get", {"id": 5})
    assert found.is_error
    assert found.meta[ERROR]["code"] == "invalid_argument"
    assert found.meta[ERROR]["field"] == "id"


async def test_internals_stay_inside(hub, shop, start, mode):
    """A crash is an internal error under a request id, and no more."""
    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool("shop.buy", {"sku": "crash"})
    assert found.meta[ERROR]["code"] == "internal"
    assert found.meta[ERROR]["request_id"]
    assert "1234" not in found.model_dump_json()
    assert "RuntimeError" not in found.model_dump_json()


async def test_an_unknown_tool_is_refused_with_a_hint(hub, shop, start, mode):
    """As the protocol wants: an error of the request, not of the tool."""
    outside = await start(hub)
    async with outside.client(mode) as client:
        with pytest.raises(Exception, match=r"did you mean 'shop\.put'"):
            await client.call_tool("shop.putt", {})
    assert outside.server.metrics.count("other", "not_found") == 1


async def test_the_client_may_give_a_timeout(hub, shop, start, mode):
    """In ``_meta``; it crosses, and the service's turn ends with it."""
    async with (await start(hub)).client(mode) as client:
        found = await client.call_tool("shop.wait", meta={TIMEOUT: 0.2})
        assert found.meta[ERROR]["code"] == "deadline_exceeded"
        assert 0 < shop.left <= 0.2
        async with asyncio.timeout(5):
            await shop.cancelled.wait()


@pytest.mark.parametrize("asked", [0, -1, "soon", True])
async def test_a_timeout_that_is_none_is_refused(hub, shop, start, asked):
    """It is no positive number of seconds."""
    async with (await start(hub)).client() as client:
        found = await client.call_tool("shop.get", {"id": "A1"}, meta={TIMEOUT: asked})
        assert found.meta[ERROR]["code"] == "invalid_argument"


async def test_a_client_that_cancels_cancels_the_turn(hub, shop, start, mode):
    """With a notification, or by closing the stream, as its version has it."""
    outside = await start(hub)
    async with outside.client(mode) as client:
        call = asyncio.create_task(client.call_tool("shop.wait"))
        await shop.begun.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await shop.cancelled.wait()
        assert not (await client.call_tool("shop.forget")).is_error
    assert outside.server.metrics.count("shop.wait", "cancelled") == 1
    assert outside.server.metrics.in_flight == 0


async def test_trace_and_request_id_cross(hub, shop, start, mode):
    """From the headers of the request; a trace in the call's own ``_meta`` wins."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"X-Request-Id": "mine", "traceparent": trace, "tracestate": "a=1"}
    async with (await start(hub)).client(mode, headers=headers) as client:
        found = (await client.call_tool("shop.echo")).structured_content
        assert found["kit-request-id"] == "mine"
        assert found["kit-caller"] == "gateway.mcp"
        assert found["tracestate"] == "a=1"
        own = f"00-{'c' * 32}-{'d' * 16}-01"
        found = await client.call_tool("shop.echo", meta={"traceparent": own})
        assert found.structured_content["traceparent"] == own


async def test_a_foreign_service_is_called_in_json(hub, start, foreign):
    """Its answer is text if it is JSON, else a file; its errors stay in the log."""
    foreign("plain", "plain.json", "plain.raw", "plain.bad")
    bus = hub.bus
    bus.subscribe("plain.json", lambda m: bus.publish(m.reply, m.data))
    bus.subscribe("plain.raw", lambda m: bus.publish(m.reply, b"\xff\x00"))
    block = b"NATS/1.0\r\nNats-Service-Error: secret\r\nNats-Service-Error-Code: 500\r\n\r\n"
    bus.subscribe("plain.bad", lambda m: bus.publish(m.reply, b"", "", block))
    async with (await start(hub)).client() as client:
        found = await client.call_tool("plain.json", {"a": [1]})
        assert found.structured_content == {"a": [1]}
        found = await client.call_tool("plain.raw")
        assert base64.b64decode(found.content[0].resource.blob) == b"\xff\x00"
        found = await client.call_tool("plain.bad")
        assert found.meta[ERROR]["code"] == "internal"
        assert "secret" not in found.model_dump_json()


async def test_middlewares_stand_around_calls(hub, shop, start):
    """As at every door."""

    def refuse(endpoint):
        async def wrapped(ctx, request):
            raise Unavailable("not today", retry_after=3)

        return wrapped

    async with (await start(hub, middleware=(refuse,))).client() as client:
        found = await client.call_tool("shop.forget")
        assert found.meta[ERROR]["message"] == "not today"
        assert found.meta[ERROR]["retry_after"] == 3
