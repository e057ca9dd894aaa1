"""One unary call: values, metadata, deadlines, cancellation, limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator  # noqa: TC003  # read by `endpoint`
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

import kitmsg
from kitmsg.errors import NotFound
from tests.gateways.grpc.services import Shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateways.grpc.conftest import Outside


async def test_calls_an_endpoint_with_no_proto_written(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """A request message becomes the endpoint's arguments, its result a message."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    assert (await outside("shop.Shop/Price", name="tea", count=3)).value == 7.5
    assert (await outside("shop.Shop/Price", name="tea")).value == 2.5  # its default


async def test_carries_structs_enums_and_optionals(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """What a client sends as messages, the service has as its own types."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    cup = {"name": "mug", "size": "SIZE_LARGE", "price": 2.0, "tags": ["a", "b"]}
    made = await outside("shop.Shop/Make", cup=cup, when="2026-01-02T03:04:05Z")
    sizes = made.DESCRIPTOR.fields_by_name["size"].enum_type
    assert sizes.values_by_number[made.size].name == "SIZE_LARGE"
    assert (made.name, list(made.tags)) == ("mug", ["a", "b"])
    assert made.note == "2026-01-02T03:04:05+00:00"
    made = await outside("shop.Shop/Make", cup=cup)
    assert not made.HasField("note")


async def test_calls_endpoints_that_speak_as_go_kit_does(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """An endpoint in Go kit mode is called in bare JSON; its `err` is a failure."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    assert (await outside("shop.Shop/Shout", s="hey")).value == "HEY"
    failure = await outside.failure("shop.Shop/Shout", s="")
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.details() == "empty string"


class Marked(kitmsg.Service):
    """Sets metadata of its replies."""

    @kitmsg.endpoint
    async def get(self, ok: bool) -> str:
        kitmsg.current().reply["x-trace"] = "t-1"
        kitmsg.current().reply["x-sum-bin"] = b"\0\xff"
        if not ok:
            raise NotFound("none")
        return "cup"

    @kitmsg.endpoint
    async def feed(self) -> AsyncIterator[int]:
        kitmsg.current().reply["x-trace"] = "t-2"
        yield 1


async def test_metadata_that_a_handler_sets(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Initial metadata of a result, trailers of an error and of a stream; bytes as bytes."""
    await hub.serve(Marked())
    outside: Outside = await start(hub)
    get = outside.channel.unary_unary("/marked.Marked/Get")
    call = get(b"\x08\x01")
    await call
    given = dict(await call.initial_metadata())
    assert (given["x-trace"], given["x-sum-bin"]) == ("t-1", b"\0\xff")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get(b"")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert dict(caught.value.trailing_metadata())["x-trace"] == "t-1"
    feed = outside.channel.unary_stream("/marked.Marked/Feed")(b"")
    assert len([item async for item in feed]) == 1
    assert dict(await feed.trailing_metadata())["x-trace"] == "t-2"


async def test_passes_on_traces_and_request_ids_and_nothing_else(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Trace metadata and the request id become headers; other metadata stays outside."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = (
        ("traceparent", trace),
        ("tracestate", "a=1"),
        ("baggage", "b=2"),
        ("x-request-id", "web-7"),
        ("authorization", "Bearer x"),
        ("kit-caller", "forged"),
        ("x-tenant", "t1"),
    )
    call = outside.stub("shop.Shop/Look")(
        outside.request("shop.Shop/Look"), metadata=given
    )
    await call
    assert shop.seen["traceparent"] == trace
    assert shop.seen["tracestate"] == "a=1"
    assert shop.seen["baggage"] == "b=2"
    assert shop.seen["Kit-Request-Id"] == "web-7"
    assert shop.seen["Kit-Caller"] == "gateway.grpc"
    assert "Authorization" not in shop.seen
    assert "X-Tenant" not in shop.seen
    assert ("x-request-id", "web-7") in [
        tuple(p) for p in await call.trailing_metadata()
    ]


async def test_forwards_what_it_is_told_to(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Authorization and named keys go along when the options say so."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(
        hub, forward_authorization=True, forward_metadata=("X-Tenant",)
    )
    given = (("authorization", "Bearer x"), ("x-tenant", "t1"))
    await outside("shop.Shop/Look", with_={"metadata": given})
    assert shop.seen["Authorization"] == "Bearer x"
    assert shop.seen["X-Tenant"] == "t1"
    twice = (*given, ("authorization", "Bearer y"))
    failure = await outside.failure("shop.Shop/Look", with_={"metadata": twice})
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "authorization" in str(failure.details())


@pytest.mark.parametrize("name", ["idempotency-key", "kit-idempotency-key"])
async def test_an_idempotency_key_goes_along(
    hub: kitmsg.Kit, start: Callable[..., Any], name: str
) -> None:
    """Once: with two nobody knows which call is meant."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub)
    await outside("shop.Shop/Look", with_={"metadata": ((name, "k-1"),)})
    assert shop.seen["Kit-Idempotency-Key"] == "k-1"
    twice = {"metadata": ((name, "k-1"), (name, "k-2"))}
    failure = await outside.failure("shop.Shop/Look", with_=twice)
    assert failure.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("key", ["kit-caller", "grpc-timeout", "a b", ""])
def test_some_metadata_cannot_be_forwarded(key: str) -> None:
    """The protocol's own keys are refused by name, and what is none."""
    from kitmsg_gateways.grpc import GatewayOptions
    from kitmsg_gateways.grpc.metadata import Forwarding

    with pytest.raises(ValueError, match="cannot be forwarded"):
        Forwarding(GatewayOptions(forward_metadata=(key,)))


async def test_gives_the_service_what_is_left_of_the_deadline(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """The client's deadline bounds the call; without one the gateway's default does."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub, timeout=7.0, max_timeout=20.0)
    await outside("shop.Shop/Look", with_={"timeout": 3})
    assert 0 < int(shop.seen["Kit-Timeout"]) <= 3000
    await outside("shop.Shop/Look", with_={"timeout": None})
    assert int(shop.seen["Kit-Timeout"]) == 7000
    await outside("shop.Shop/Look", with_={"timeout": 3600})
    assert int(shop.seen["Kit-Timeout"]) == 20_000


async def test_a_deadline_that_passes_ends_the_turn(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """The client hears DEADLINE_EXCEEDED, and the handler is cancelled."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub)
    failure = await outside.failure("shop.Shop/Wait", with_={"timeout": 0.2})
    assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: shop.ended == ["wait"])


async def test_a_client_that_gives_up_cancels_the_turn(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """A cancelled call cancels the handler on the other side of the bus."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub)
    call = outside.stub("shop.Shop/Wait")(outside.request("shop.Shop/Wait"))
    waiting = asyncio.ensure_future(call)
    await shop.started.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: shop.ended == ["wait"])
    await until(lambda: outside.server.metrics.count("shop.wait", "cancelled") == 1)
    await until(lambda: outside.server.metrics.in_flight == 0)


async def test_messages_may_be_longer_than_the_bus_carries_at_once(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """Three megabytes cross a bus whose messages are one, both ways."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    data = bytes(range(256)) * (3 << 12)
    assert len(data) > hub.bus.max_payload
    assert (await outside("shop.Shop/Echo", data=data)).value == data


async def test_a_message_over_the_limit_is_refused(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """What is longer than `max_message_bytes` is RESOURCE_EXHAUSTED, as gRPC says it."""
    await hub.serve(Shop())
    outside: Outside = await start(hub, max_message_bytes=1000)
    failure = await outside.failure("shop.Shop/Echo", data=bytes(2000))
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


class Writer(kitmsg.Service):
    """Writes a lot."""

    @kitmsg.endpoint
    async def write(self, size: int) -> bytes:
        return bytes(size)

    @kitmsg.endpoint
    async def pieces(self, size: int) -> AsyncIterator[bytes]:
        yield b"first"
        yield bytes(size)


async def test_a_reply_over_the_limit_is_said(
    hub: kitmsg.Kit, start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One that is too long is RESOURCE_EXHAUSTED too, says why, and is no failure here."""
    await hub.serve(Writer())
    outside: Outside = await start(hub, max_message_bytes=1000)
    failure = await outside.failure("writer.Writer/Write", size=2000)
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "this gateway sends 1000 at most" in failure.details()
    pieces = "writer.Writer/Pieces"
    call = outside.stub(pieces)(outside.request(pieces, size=2000))
    assert (await anext(aiter(call))).value == b"first"
    with pytest.raises(grpc.aio.AioRpcError, match="sends 1000 at most"):
        await anext(aiter(call))
    assert not [record for record in caplog.records if record.exc_info]


async def test_calls_over_the_limit_are_refused(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """One call too many is RESOURCE_EXHAUSTED at once, with when to come back."""
    shop = Shop()
    await hub.serve(shop)
    outside: Outside = await start(hub, max_concurrent=1)
    call = outside.stub("shop.Shop/Wait")(outside.request("shop.Shop/Wait"))
    waiting = asyncio.ensure_future(call)
    await shop.started.wait()
    failure = await outside.failure("shop.Shop/Price", name="tea")
    assert failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(failure.trailing_metadata() or ())
    assert trailers["grpc-retry-pushback-ms"] == "1000"
    call.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_replies_are_compressed_for_who_can_read_it(
    hub: kitmsg.Kit, start: Callable[..., Any]
) -> None:
    """With compression on, calls work as before, compressed requests too."""
    await hub.serve(Shop())
    outside: Outside = await start(hub, compression="gzip")
    data = bytes(100_000)
    options = {"compression": grpc.Compression.Gzip}
    assert (await outside("shop.Shop/Echo", with_=options, data=data)).value == data


async def test_calls_are_counted_by_method_and_status(
    hub: kitmsg.Kit, start: Callable[..., Any], until: Callable[..., Any]
) -> None:
    """Every call is in the metrics; methods nobody serves count together."""
    await hub.serve(Shop())
    outside: Outside = await start(hub)
    await outside("shop.Shop/Price", name="tea")
    await outside.failure("shop.Shop/Busy")
    for name in ("A", "B"):
        with pytest.raises(grpc.aio.AioRpcError):
            await outside.channel.unary_unary(f"/nobody/{name}")(b"")
    count = outside.server.metrics.count
    assert count("shop.price", "ok") == 1
    await until(lambda: count("shop.busy", "resource_exhausted") == 1)
    await until(lambda: count("other", "unimplemented") == 2)


async def test_a_result_that_does_not_fit_is_in_the_log(
    hub: kitmsg.Kit, start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """One line, with the endpoint and the request id that the caller has."""

    class Loose(kitmsg.Service):
        @kitmsg.endpoint
        async def get(self) -> int:
            return 1

        @kitmsg.endpoint
        async def all(self) -> AsyncIterator[int]:
            yield 1

    host = await hub.serve(Loose())
    for server in host.intake.servers.values():  # as a service that checks nothing
        server._encode = lambda _ctx, _result: b"\xa4text"  # type: ignore[attr-defined]
    outside: Outside = await start(hub)
    failure = await outside.failure("loose.Loose/Get")
    items = outside.stub("loose.Loose/All")(outside.request("loose.Loose/All"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await items.read()
    lines = [line for line in caplog.messages if "does not fit" in line]
    for each, name in ((failure, "get"), (caught.value, "all")):
        assert each.code() is grpc.StatusCode.DATA_LOSS
        line = lines.pop(0)
        assert line.startswith(f"loose.{name}: the reply")
        id_ = dict(each.trailing_metadata() or ())["x-request-id"]
        assert line.endswith(f"(request id {id_})")
    assert not lines
