"""Header blocks whose fields were seen before are not parsed again, and say the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kitmsg.bus.memory import MemoryBus
from kitmsg.codec import JSON, MSGPACK
from kitmsg.context import Context
from kitmsg.errors import InvalidArgument
from kitmsg.message import Message, encode_headers
from kitmsg.transport.caller import Caller
from kitmsg.transport.heads import Head, Heads
from kitmsg.transport.server import Server
from kitmsg.wire import end_call, plain_headers, shared_fields, start_call

if TYPE_CHECKING:
    from kitmsg.transport.server import Before

SHARED = b"\r\nContent-Type: application/json\r\nKit-Caller: gateway.http"
HEAD = Head(JSON, "gateway.http")


def encode_call(timeout_ms: int, shared: bytes, own: str) -> bytes:
    """Return the header block of a call."""
    return end_call(start_call(timeout_ms, shared), own)


def of(block: bytes) -> tuple[int, Head] | None:
    """Return what is known of a request with this header block."""
    return Heads().of(Message("", header_block=block))


def test_calls_that_differ_in_time_id_and_trace_have_one_head() -> None:
    """The time is read for each; the codec and the caller are the same object."""
    heads = Heads()
    first = heads.of(Message("", header_block=encode_call(5000, SHARED, "a1")))
    own = "b2\r\ntraceparent: 00-1-2-01\r\nbaggage: k=v\r\nKit-Principal: e.y.z"
    second = heads.of(Message("", header_block=encode_call(17, SHARED, own)))
    assert first == (5000, HEAD)
    assert second == (17, HEAD)
    assert first[1] is second[1]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Head(None, "")),
        ({"Kit-Caller": "a.b"}, Head(None, "a.b")),
        ({"content-type": "application/msgpack"}, Head(MSGPACK, "")),
        ({"X-Tenant": "7", "kit-caller": "a.b"}, Head(None, "a.b")),
    ],
)
def test_a_head_says_what_the_fields_say(
    fields: dict[str, str], expected: Head
) -> None:
    """Names have no case, and other headers are nothing to the head."""
    all_fields = {"Kit-Timeout": "9", **fields, "Kit-Request-Id": "r"}
    assert of(encode_headers(all_fields)) == (9, expected)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        plain_headers(5),
        encode_headers({"Kit-Request-Id": "r", "Kit-Timeout": "5"}),
        encode_call(5, b"", "r\r\nkit-body: _INBOX.x"),
        encode_call(5, b"\r\nkit-body: _INBOX.x", "r"),
        encode_call(5, b"\r\nkit-timeout: 6", "r"),
        encode_call(5, b"", "r\r\nKit-Timeout: 6"),
        encode_call(5, b"\r\nContent-Type: text/html", "r"),
        encode_call(5, b"\r\ncontent-type: a\r\nContent-Type: b", "r"),
        encode_call(5, b"\r\nno colon", "r"),
        encode_call(5, b"", "r\xe9"),
        encode_call(5, b"", "r")[:-2],
        encode_call(5, b"", "r").replace(b"5", b"5000000000000"),
    ],
)
def test_what_a_head_cannot_say_is_left_to_the_parser(block: bytes) -> None:
    """So it is refused, or fetched, as ever: nothing hides behind a request id."""
    assert of(block) is None


def test_a_block_is_taken_apart_as_it_was_put_together() -> None:
    """The two functions are each other's inverse."""
    assert shared_fields(encode_call(70, SHARED, "id-1")) == (70, SHARED)


class Calls:
    """A served subject on a bus in memory, and the requests that it saw."""

    def __init__(self, bus: MemoryBus, **options: Any) -> None:
        self.seen: list[tuple[Context, Message]] = []
        before: list[Before] = [lambda ctx, message: self.seen.append((ctx, message))]

        self.parsed: list[bool] = []

        async def answer(ctx: Context, request: Any) -> Any:
            assert ctx.message is not None
            self.parsed.append(ctx.message._headers is not None)
            return request

        self.server = Server(
            bus,
            "a.b",
            answer,
            decode=lambda _, message: message.data,
            encode=lambda _, data: data,
            before=before,
            **options,
        )
        self.caller = Caller(bus, "a.b")

    async def ask(self, **fields: str) -> Message:
        """Call, as a gateway does, with these headers; return the request."""
        metadata = {name.replace("_", "-"): each for name, each in fields.items()}
        ctx = Context.of_call(
            "a.b", caller="gateway.x", deadline=None, metadata=metadata
        )
        await self.caller.ask(ctx, b"{}")
        return self.seen[-1][1]


async def test_the_calls_of_a_gateway_are_served_without_parsing_headers() -> None:
    """With new ids and traces each time, and callers are counted all the same."""
    bus = MemoryBus()
    calls = Calls(bus)
    await calls.server.start()
    for number in range(4):
        request = await calls.ask(
            Kit_Request_Id=f"r{number}",
            Content_Type="application/json",
            traceparent=f"00-{number}",
            Kit_Principal="x.y.z",
        )
        assert request.headers["kit-request-id"] == f"r{number}"
        assert request.headers["traceparent"] == f"00-{number}"
        assert request.headers["kit-caller"] == "gateway.x"
    assert not any(calls.parsed)
    assert calls.server.stats.callers == {"gateway.x": 4}
    await bus.close()


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"Kit_Request_Id": "a\r\nKit-Body: x"}, "Kit-Request-Id"),
        ({"Kit_Request_Id": "a", "traceparent": "b\nc"}, "traceparent"),
        ({"Kit_Request_Id": "a", "X_Tenant": "b\r\nc"}, "X-Tenant"),
    ],
)
async def test_no_field_of_a_call_forges_another(
    fields: dict[str, str], name: str
) -> None:
    """A line break is refused in what calls share, and in what each has for itself."""
    bus = MemoryBus()
    calls = Calls(bus)
    await calls.server.start()
    with pytest.raises(InvalidArgument, match=name):
        await calls.ask(**fields)
    assert not calls.seen
    await bus.close()


async def test_a_text_that_is_not_ascii_travels() -> None:
    """By the way that every header can go."""
    bus = MemoryBus()
    calls = Calls(bus)
    await calls.server.start()
    request = await calls.ask(Kit_Request_Id="é")
    assert request.headers["Kit-Request-Id"] == "é"
    await bus.close()
