"""Streams through the gateway: out, in, both; backpressure, errors, ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
from grpc_status import rpc_status

from tests.gateways.grpc.services import Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import kitmsg
    from tests.gateways.grpc.conftest import Outside

COUNT = "streams.Streams/Count"
FOREVER = "streams.Streams/Forever"
TOTAL = "streams.Streams/Total"
SCALED = "streams.Streams/Scaled"


@pytest.fixture
async def streams(hub: kitmsg.Kit) -> Streams:
    """The service, on the bus."""
    service = Streams()
    await hub.serve(service)
    return service


async def test_a_stream_of_results(
    hub: kitmsg.Kit, streams: Streams, start: Callable[..., Any]
) -> None:
    """Items come in order, and the stream ends well."""
    outside: Outside = await start(hub)
    call = outside.stub(COUNT)(outside.request(COUNT, to=1000))
    assert [item.value async for item in call] == list(range(1, 1001))
    assert await call.code() is grpc.StatusCode.OK


async def test_an_error_ends_a_stream_with_its_details(
    hub: kitmsg.Kit, streams: Streams, start: Callable[..., Any]
) -> None:
    """A declared error after some items is the status, typed."""
    outside: Outside = await start(hub)
    call = outside.stub(COUNT)(outside.request(COUNT, to=5, bad=3))
    assert [(await call.read()).value for _ in range(2)] == [1, 2]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == "numbers is sold out, 3 left"
    status = await rpc_status.aio.from_call(call)
    assert status is not None
    assert any("ErrorInfo" in detail.type_url for detail in status.details)


async def test_a_client_that_leaves_ends_the_stream(
    hub: kitmsg.Kit,
    streams: Streams,
    start: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    """Cancelling the call ends the generator on the other side."""
    outside: Outside = await start(hub)
    call = outside.stub(FOREVER)(outside.request(FOREVER))
    async for _ in call:
        break
    call.cancel()
    await until(lambda: streams.ended == ["forever"])
    await until(lambda: outside.server.metrics.in_flight == 0)


async def test_a_stream_never_read_stops_its_source(
    hub: kitmsg.Kit,
    streams: Streams,
    start: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    """A client that reads nothing makes the service wait, not the gateway fill up."""
    outside: Outside = await start(hub)
    call = outside.stub(FOREVER)(outside.request(FOREVER))
    await call.read()
    last = -1
    async with asyncio.timeout(20):
        while last != streams.produced:  # until it stands still
            last = streams.produced
            await asyncio.sleep(0.2)
    assert last < 20_000  # some megabytes in windows and sockets, and no more
    call.cancel()
    await until(lambda: streams.ended == ["forever"])


async def test_a_stream_of_requests(
    hub: kitmsg.Kit, streams: Streams, start: Callable[..., Any]
) -> None:
    """The service takes the client's items and answers once."""
    outside: Outside = await start(hub)

    async def numbers() -> AsyncIterator[Any]:
        for number in range(500):
            yield outside.request(TOTAL, value=number)

    assert (await outside.stub(TOTAL)(numbers())).value == sum(range(500))


async def test_both_ways_after_a_request(
    hub: kitmsg.Kit, streams: Streams, start: Callable[..., Any]
) -> None:
    """Where the endpoint takes more than items, the first message is its request."""
    outside: Outside = await start(hub)
    call = outside.stub(SCALED)()
    await call.write(outside.request(SCALED, request={"factor": 3}))
    for number in (1, 2, 3):  # an answer to each, before the next is sent
        await call.write(outside.request(SCALED, item={"value": number}))
        assert (await call.read()).value == 3 * number
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("first", "field"),
    [({"item": {"value": 1}}, "request"), (None, "request")],
    ids=["an item first", "nothing"],
)
async def test_a_stream_must_begin_with_its_request(
    hub: kitmsg.Kit,
    streams: Streams,
    start: Callable[..., Any],
    first: dict[str, Any] | None,
    field: str,
) -> None:
    """A stream that does not is refused, and says what is missing."""
    outside: Outside = await start(hub)
    call = outside.stub(SCALED)()
    if first is not None:
        await call.write(outside.request(SCALED, **first))
    else:
        await call.done_writing()
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in await call.details()


async def test_an_item_that_is_none_ends_the_stream(
    hub: kitmsg.Kit,
    streams: Streams,
    start: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    """Bytes that are no message are INVALID_ARGUMENT, and the service is told."""
    outside: Outside = await start(hub)
    call = outside.keep(outside.channel.stream_unary(f"/{TOTAL}")())
    await call.write(outside.request(TOTAL, value=1).SerializeToString())
    await call.write(b"\xff\xff\xff")
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
    await until(lambda: streams.ended == ["total"])


async def test_a_deadline_ends_a_stream(
    hub: kitmsg.Kit,
    streams: Streams,
    start: Callable[..., Any],
    until: Callable[..., Any],
) -> None:
    """The client's deadline holds for the whole stream."""
    outside: Outside = await start(hub)
    call = outside.stub(TOTAL)(timeout=0.3)
    await call.write(outside.request(TOTAL, value=1))
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: streams.ended == ["total"])


async def test_nobody_there_is_unavailable_at_once(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A stream that nobody takes fails like a call that nobody takes."""
    host = await hub.serve(Streams())
    outside: Outside = await start(hub)
    call = outside.stub(COUNT)
    request = outside.request(COUNT, to=1)
    await host.drain(0)
    begun = call(request)
    assert await begun.code() is grpc.StatusCode.UNAVAILABLE
