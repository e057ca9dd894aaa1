"""Headers that a handler gives its reply."""
# the services here are props

from __future__ import annotations

from collections.abc import AsyncIterator  # noqa: TC003  # read by `endpoint`
from typing import TYPE_CHECKING

import pytest

from kitmsg import BusinessError, Code, Context, Kit, Service, current, endpoint
from kitmsg.bus.memory import MemoryBus
from kitmsg.errors import InvalidArgument, NotFound
from kitmsg.message import encode_headers

if TYPE_CHECKING:
    from kitmsg.message import Message


class Sold(BusinessError):
    """There is none left."""

    code = Code.NOT_FOUND
    note: str = ""


class Plain(Exception):
    """A declared error that knows nothing of kitmsg."""


class Shop(Service):
    """Says where it is."""

    @endpoint
    async def get(self) -> str:
        current().reply["X-Served-By"] = "eu-1"
        current().reply["token-bin"] = b"\0\xff"
        return "cup"

    @endpoint
    async def none(self) -> str:
        current().reply["x-served-by"] = "eu-2"
        raise NotFound("no such thing")

    @endpoint
    async def feed(self) -> AsyncIterator[int]:
        current().reply["x-served-by"] = "eu-3"
        yield 1

    @endpoint(raises=[Sold, Plain])
    async def buy(self, note: str) -> str:
        if note == "plain":
            raise Plain
        raise Sold(note)


async def test_they_are_headers_of_the_reply(kit: Kit) -> None:
    """A client's `after` hook reads them; bytes are base64 text."""
    seen: list[Message] = []
    await kit.serve(Shop())
    client = kit.client(Shop, after=[lambda _, reply: seen.append(reply)])
    assert await client.get() == "cup"
    assert seen[0].headers["x-served-by"] == "eu-1"
    assert seen[0].headers["token-bin"] == "AP8="


async def test_an_error_brings_them_too(kit: Kit) -> None:
    """Its reply has them."""
    await kit.serve(Shop())
    with pytest.raises(NotFound) as caught:
        await kit.client(Shop).none()
    assert caught.value.reply.headers["x-served-by"] == "eu-2"


async def test_a_middleware_that_copies_the_context_loses_none() -> None:
    """A copy sets them in the one that it is a copy of."""
    ctx = Context(endpoint="shop.get")
    ctx.evolve(principal="Ann").evolve().reply["x-a"] = "1"
    assert dict(ctx.reply) == {"x-a": "1"}


def test_outside_a_turn_they_go_nowhere() -> None:
    """A method that is called by a test works all the same, and leaves nothing behind."""
    current().reply["x-a"] = "1"
    assert "x-a" not in current().reply


@pytest.mark.parametrize(
    "name",
    ["Kit-Code", "nats-service-error", "Content-Type", "connection", "traceparent", ""],
)
def test_names_of_the_protocols_are_refused(name: str) -> None:
    """Where they are set, so that the line is in the traceback."""
    with pytest.raises(InvalidArgument, match="cannot set this header"):
        Context().reply[name] = "x"


@pytest.mark.parametrize("value", ["a\r\nb: c", "é", " a", b"bytes", 3, None])
def test_values_that_no_header_carries_are_refused(value: object) -> None:
    """One sentence says which are fit."""
    with pytest.raises(InvalidArgument, match=r"reply\['x-a'\] must be printable"):
        Context().reply["x-a"] = value  # type: ignore[assignment]


async def test_a_declared_error_longer_than_a_message_crosses_whole() -> None:
    """It keeps its code, class and fields."""
    bus = MemoryBus(seed=1, max_payload=4096)
    async with Kit(bus) as kit:
        await kit.serve(Shop())
        note = "n" * 20_000
        with pytest.raises(Sold) as caught:
            await kit.client(Shop).buy(note)
        assert caught.value.note == note


@pytest.mark.parametrize("note", ["x", "plain"])
async def test_a_declared_error_has_its_request_id(kit: Kit, note: str) -> None:
    """As every other error has: the log is found under it."""
    await kit.serve(Shop())
    client = kit.client(Shop, metadata={"Kit-Request-Id": "r-1"})
    with pytest.raises((Sold, Plain)) as caught:
        await client.buy(note)
    assert caught.value.request_id == "r-1"  # type: ignore[attr-defined]


async def test_a_long_error_is_a_long_reply_of_its_code() -> None:
    """A plain client reads code and place of the body from its headers."""
    bus = MemoryBus(seed=1, max_payload=4096)
    async with Kit(bus) as kit:
        await kit.serve(Shop())
        block = encode_headers({"Content-Type": "application/json"})
        data = b'{"note":"%b"}' % (b"n" * 3900)
        reply = await kit.bus.request("shop.buy", data, 5.0, block)
        assert reply.headers["Kit-Code"] == "not_found"
        assert int(reply.headers["Kit-Body-Bytes"]) > 3900
