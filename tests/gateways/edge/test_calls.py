"""A gateway's calls: their time, their headers, their middlewares, what strangers are told."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg.codec import JSON
from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg.errors import (
    DataLoss,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    KitError,
    NoResponders,
    NotFound,
)
from kitmsg.message import Message, encode_headers
from kitmsg_gateways.edge.calls import Callers, load_middleware
from kitmsg_gateways.edge.options import CallOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kitmsg.bus.memory import MemoryBus
    from kitmsg.context import Context


def endpoint(subject: str = "shop.buy", **metadata: str) -> CatalogEndpoint:
    """Return an endpoint as discovery finds it."""
    service, _, name = subject.partition(".")
    return CatalogEndpoint(
        service=service,
        name=name,
        version="1.0.0",
        subject=subject,
        description="",
        metadata={f"kit.{key}": value for key, value in metadata.items()},
        hash="h",
        schema=None,
    )


def callers(bus: Any, **options: Any) -> Callers:
    return Callers(bus, "http", CallOptions(**options))


async def call(all_: Callers, one: CatalogEndpoint, data: bytes = b"{}") -> Message:
    caller = all_.of(one)
    ctx = all_.context(caller, JSON, 2.0, {"Kit-Request-Id": "id-1"})
    return await caller.ask(ctx, data)


@pytest.mark.parametrize(
    ("asked", "declared", "seconds"),
    [
        (None, "", 5.0),
        (None, "2", 2.0),
        (None, "100", 60.0),
        (7.0, "2", 7.0),
        (0.25, "", 0.25),
        (999.0, "", 60.0),
    ],
)
async def test_the_time_of_a_call(
    memory_bus: MemoryBus, asked: float | None, declared: str, seconds: float
) -> None:
    """The client's word, else the endpoint's, else the gateway's; never over the cap."""
    one = endpoint(timeout=declared)
    assert callers(memory_bus).seconds(asked, one) == seconds


async def test_no_time_left_is_no_call(memory_bus: MemoryBus) -> None:
    """The request took it all to arrive."""
    all_ = callers(memory_bus)
    with pytest.raises(DeadlineExceeded, match="to arrive"):
        all_.context(all_.of(endpoint()), JSON, 0.0, {})


async def test_the_headers_of_a_call(memory_bus: MemoryBus) -> None:
    """Time, id, caller, content type, and no other."""
    got: list[Message] = []

    def serve(message: Message) -> None:
        got.append(message)
        memory_bus.respond(message, b"1")

    memory_bus.subscribe("shop.buy", serve)
    assert (await call(callers(memory_bus), endpoint())).data == b"1"
    assert dict(got[0].headers.pairs()) == {
        "Kit-Timeout": got[0].headers["Kit-Timeout"],
        "Kit-Request-Id": "id-1",
        "Content-Type": "application/json",
        "Kit-Caller": "gateway.http",
    }
    assert 1900 <= int(got[0].headers["Kit-Timeout"]) <= 2000


async def test_middlewares_stand_around_every_call(memory_bus: MemoryBus) -> None:
    """They see the endpoint's name and its errors, and may try again."""
    seen: list[str] = []

    def again(endpoint_: Any) -> Any:
        async def call_(ctx: Context, data: bytes) -> Any:
            seen.append(ctx.endpoint)
            try:
                return await endpoint_(ctx, data)
            except NotFound as exc:
                seen.append(str(exc))
                return await endpoint_(ctx, data)

        return call_

    answers = [{"Kit-Code": "not_found", "Nats-Service-Error": "not yet"}, {}]

    def serve(message: Message) -> None:
        memory_bus.respond(message, b"2", encode_headers(answers.pop(0)))

    memory_bus.subscribe("shop.buy", serve)
    reply = await call(callers(memory_bus, middleware=(again,)), endpoint())
    assert reply.data == b"2"
    assert seen == ["shop.buy", "not yet"]


async def test_nobody_there_is_told_with_what_is_known(memory_bus: MemoryBus) -> None:
    """It was there a moment ago, or the gateway would not know it."""
    with pytest.raises(NoResponders, match=NoResponders.KNOWN) as caught:
        await call(callers(memory_bus), endpoint())
    assert caught.value.request_id == "id-1"


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Nats-Service-Error": "db password is x"}, "db password is x"),
        ({"Nats-Service-Error-Code": "500", "Nats-Service-Error": "secret"}, ""),
        ({"Kit-Code": "internal", "Nats-Service-Error": "see r-1"}, "see r-1"),
    ],
)
async def test_the_text_of_a_foreign_failure_stays_here(
    memory_bus: MemoryBus,
    caplog: pytest.LogCaptureFixture,
    headers: dict[str, str],
    text: str,
) -> None:
    """Only where it is an internal error of a service that is not kitmsg's."""
    memory_bus.subscribe(
        "shop.buy", lambda m: memory_bus.respond(m, b"", encode_headers(headers))
    )
    with caplog.at_level(logging.WARNING), pytest.raises(KitError) as caught:
        await call(callers(memory_bus), endpoint())
    if text:
        assert str(caught.value) == text
        return
    assert isinstance(caught.value, Internal)
    assert "secret" not in str(caught.value)
    assert "id-1" in str(caught.value)
    assert "secret (request id id-1)" in caplog.text


async def test_a_declared_error_keeps_what_the_service_said(
    memory_bus: MemoryBus,
) -> None:
    """For the protocol that has a place for its name and fields."""
    told = {"Kit-Code": "not_found", "Kit-Error": "NoSuchOrder"}
    memory_bus.subscribe(
        "shop.buy",
        lambda m: memory_bus.respond(m, b'{"id":7}', encode_headers(told)),
    )
    with pytest.raises(NotFound) as caught:
        await call(callers(memory_bus), endpoint())
    assert caught.value.reply.headers["Kit-Error"] == "NoSuchOrder"
    assert caught.value.reply.data == b'{"id":7}'


async def test_what_cannot_be_read_is_logged(
    memory_bus: MemoryBus, caplog: Any
) -> None:
    """The request id leads to it."""
    broken = b"NATS/1.0\r\nno colon\r\n\r\n"
    memory_bus.subscribe("shop.buy", lambda m: memory_bus.respond(m, b"", broken))
    with caplog.at_level(logging.WARNING), pytest.raises(DataLoss):
        await call(callers(memory_bus), endpoint())
    assert "id-1" in caplog.text


async def test_an_endpoint_that_changed_has_a_new_caller(memory_bus: MemoryBus) -> None:
    """The old one is not kept; the same one is."""
    all_, one, other = callers(memory_bus), endpoint(), endpoint(timeout="3")
    first = all_.of(one)
    assert all_.of(one) is first
    assert all_.of(other).endpoint is other


async def test_a_long_body_goes_with_a_stream(kit: kitmsg.Kit) -> None:
    """A stream's request may be longer than a message of the bus."""

    class Sizes(kitmsg.Service):
        @kitmsg.endpoint
        async def parts(self, text: str) -> AsyncIterator[int]:
            yield len(text)

    await kit.serve(Sizes())
    size = kit.bus.max_payload + 10
    all_ = callers(kit.bus)
    caller = all_.of(endpoint("sizes.parts", stream="out"))
    ctx = all_.context(caller, JSON, None, {"Kit-Request-Id": "id-1"})
    stream = await caller.open(ctx, b'{"text":"%b"}' % (b"x" * size))
    assert [message.data async for message in stream] == [str(size).encode()]


def plain(endpoint_: Any) -> Any:
    return endpoint_


both = [plain, plain]
nothing = 5


def test_middlewares_are_found_by_name() -> None:
    """One, or a list of them; objects as they are."""
    here = __name__
    assert load_middleware([f"{here}:plain", f"{here}:both", plain]) == (plain,) * 4


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("plain", "write module:name"),
        ("no_such_module:x", "cannot be loaded"),
        (f"{__name__}:missing", "there is no 'missing'"),
        (f"{__name__}:nothing", "5 is no middleware"),
    ],
)
def test_what_is_no_middleware_is_refused(text: str, why: str) -> None:
    """In one sentence that names it."""
    with pytest.raises(InvalidArgument, match=why):
        load_middleware([text])


async def test_giving_up_stops_the_service(kit: kitmsg.Kit) -> None:
    """A client that disconnects ends the work at the other end."""
    stopped = asyncio.Event()

    class Slow(kitmsg.Service):
        @kitmsg.endpoint
        async def wait(self) -> None:
            try:
                await asyncio.sleep(60)
            finally:
                stopped.set()

    await kit.serve(Slow())
    asking = asyncio.create_task(call(callers(kit.bus), endpoint("slow.wait")))
    await asyncio.sleep(0.1)
    asking.cancel()
    await asyncio.wait_for(stopped.wait(), 5)
