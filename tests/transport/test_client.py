"""An endpoint that asks over the bus: Go kit's checklist for clients, and the promises."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import BusinessError, Code, Context
from kitmsg.errors import (
    DataLoss,
    DeadlineExceeded,
    Disconnected,
    InvalidArgument,
    KitError,
    NoResponders,
    NotFound,
    OutOfRange,
    ResourceExhausted,
    Unknown,
)
from kitmsg.message import Message, encode_headers
from kitmsg.transport import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg import Kit
    from kitmsg.bus import Bus


class OutOfStock(BusinessError):
    """There is not enough."""

    sku: str
    left: int = 0


def plain_encode(_: Context, request: str) -> bytes:
    return request.encode()


def plain_decode(_: Context, message: Message) -> str:
    return message.data.decode()


def make(bus: Bus, **options: Any) -> Callable[..., Any]:
    """Return the endpoint ``test.upper`` as a client sees it."""
    options = {"encode": plain_encode, "decode": plain_decode, **options}
    client: Client[str, str] = Client(bus, "test.upper", **options)
    return client.endpoint()


def answer(bus: Bus, data: bytes = b"ANN", **headers: str) -> list[Message]:
    """Answer every request on ``test.upper`` like this; return what was asked."""
    asked: list[Message] = []
    block = encode_headers({k.replace("_", "-"): v for k, v in headers.items()})

    def reply(message: Message) -> None:
        asked.append(message)
        bus.publish(message.reply, data, "", block)

    bus.subscribe("test.upper", reply)
    return asked


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


async def test_happy_path(kit: Kit) -> None:
    """The request goes out with its timeout and nothing else; the response comes back."""
    asked = answer(kit.bus)
    assert await make(kit.bus)(Context(), "ann") == "ANN"
    assert asked[0].data == b"ann"
    assert asked[0].header_block == b"NATS/1.0\r\nKit-Timeout: 5000\r\n\r\n"


async def test_order_of_the_hooks(kit: Kit) -> None:
    """Encode, before, send, after, decode, finalizer; several of one in order."""
    seen: list[str] = []

    def note(word: str, result: Any = None) -> Callable[..., Any]:
        def hook(*_: Any) -> Any:
            seen.append(word)
            return result

        return hook

    kit.bus.subscribe("test.upper", note("send"))
    answer(kit.bus)
    call = make(
        kit.bus,
        encode=note("encode", b""),
        before=[note("before 1"), note("before 2")],
        after=[note("after 1"), note("after 2")],
        decode=note("decode", "ANN"),
        finalizer=[note("finalizer 1"), note("finalizer 2")],
    )
    await call(Context(), "ann")
    assert seen == [
        *("encode", "before 1", "before 2", "send"),
        *("after 1", "after 2", "decode", "finalizer 1", "finalizer 2"),
    ]


async def test_before_adds_headers_and_after_sees_the_reply(kit: Kit) -> None:
    """What `before` writes is sent; `after` gets the reply, an error too."""
    asked = answer(kit.bus, Kit_Code="not_found")
    seen: list[Message] = []
    call = make(
        kit.bus,
        before=[lambda ctx, fields: fields.update(Tenant="blue")],
        after=[lambda ctx, reply: seen.append(reply)],
    )
    with pytest.raises(NotFound):
        await call(Context(), "ann")
    assert asked[0].headers["Tenant"] == "blue"
    assert asked[0].headers["Kit-Timeout"] == "5000"
    assert seen[0].headers["Kit-Code"] == "not_found"


@pytest.mark.parametrize("phase", ["encode", "before"])
async def test_what_fails_before_sending_is_not_sent(kit: Kit, phase: str) -> None:
    """An error in `encode` or `before` is raised as it is, and nothing leaves."""
    asked = answer(kit.bus)
    error = ValueError("mine")
    hook = raises(error)
    call = make(kit.bus, **{phase: hook if phase == "encode" else [hook]})
    with pytest.raises(ValueError, match="mine"):
        await call(Context(), "ann")
    await asyncio.sleep(1)
    assert asked == []


@pytest.mark.parametrize("phase", ["after", "decode"])
async def test_what_fails_after_the_reply_is_raised(kit: Kit, phase: str) -> None:
    """So is an error in `after` or `decode`."""
    answer(kit.bus)
    hook = raises(ValueError("mine"))
    with pytest.raises(ValueError, match="mine"):
        await make(kit.bus, **{phase: [hook] if phase == "after" else hook})(
            Context(), "ann"
        )


async def test_finalizer_sees_how_it_ended(kit: Kit) -> None:
    """It runs once whatever happened, a cancellation too."""
    ended: list[type | None] = []

    def note(_: Context, error: BaseException | None) -> None:
        ended.append(None if error is None else type(error))

    call = make(kit.bus, finalizer=[note])
    with pytest.raises(NoResponders):
        await call(Context(), "ann")
    silent = kit.bus.subscribe("test.upper", lambda _: None)
    task = asyncio.create_task(call(Context(), "ann"))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    silent.unsubscribe()
    answer(kit.bus)
    await call(Context(), "ann")
    assert ended == [NoResponders, asyncio.CancelledError, None]


async def test_error_decoder(kit: Kit) -> None:
    """It tells errors from successes, also in replies without headers."""
    answer(kit.bus, b"-no")

    def find(_: Context, reply: Message) -> Exception | None:
        return LookupError(reply.data.decode()) if reply.data[:1] == b"-" else None

    with pytest.raises(LookupError, match="-no"):
        await make(kit.bus, error_decoder=find)(Context(), "ann")


@pytest.mark.parametrize(
    ("timeout", "left", "expected"),
    [(2.0, None, 2.0), (2.0, 30.0, 2.0), (5.0, 1.0, 1.0)],
)
async def test_the_nearer_deadline_wins(
    kit: Kit, timeout: float, left: float | None, expected: float
) -> None:
    """The client's timeout bounds a call, and so does its caller's deadline."""
    asked: list[Message] = []
    kit.bus.subscribe("test.upper", asked.append)
    started = asyncio.get_running_loop().time()
    ctx = Context(deadline=None if left is None else started + left)
    with pytest.raises(DeadlineExceeded):
        await make(kit.bus, timeout=timeout)(ctx, "ann")
    took = asyncio.get_running_loop().time() - started
    assert took == pytest.approx(expected, abs=0.051)
    assert int(asked[0].headers["Kit-Timeout"]) == pytest.approx(expected * 1000, abs=1)


async def test_no_time_left_sends_nothing(kit: Kit) -> None:
    """A call after the deadline fails at once, and is not sent."""
    asked = answer(kit.bus)
    ctx = Context(deadline=asyncio.get_running_loop().time())
    with pytest.raises(DeadlineExceeded, match="it was not sent"):
        await make(kit.bus)(ctx, "ann")
    await asyncio.sleep(1)
    assert asked == []


async def test_cancellation_is_told(kit: Kit) -> None:
    """A cancelled call publishes its reply subject where the service listens."""
    asked: list[Message] = []
    told: list[bytes] = []
    kit.bus.subscribe("test.upper", asked.append)
    kit.bus.subscribe("_kit.cancel.test", lambda m: told.append(m.data))
    task = asyncio.create_task(make(kit.bus)(Context(), "ann"))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0.1)
    assert told == [asked[0].reply.encode()]


async def test_nobody_listens(kit: Kit) -> None:
    """That is known at once, and what `hint` says is in the error."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(NoResponders, match=r"no responders for 'test\.upper'$"):
        await make(kit.bus)(Context(), "ann")
    assert asyncio.get_running_loop().time() == started

    async def hint(subject: str) -> str:
        return f"ask for {subject} again"

    with pytest.raises(NoResponders, match="; ask for test") as caught:
        await make(kit.bus, hint=hint)(Context(), "ann")
    assert caught.value.retry_after is None


async def test_a_known_service_that_is_full_says_when_to_come_back(kit: Kit) -> None:
    """Nobody listens for a moment, as every instance has left its queue group."""

    async def hint(_: str) -> str:
        return NoResponders.KNOWN

    with pytest.raises(NoResponders, match="every instance is full") as caught:
        await make(kit.bus, hint=hint)(Context(), "ann")
    assert caught.value.retry_after == 0.1
    assert caught.value.refused == caught.value.subject


async def test_bus_down_fails_fast(kit: Kit) -> None:
    """Without a connection nothing waits, and nothing is sent later."""
    asked = answer(kit.bus)
    kit.bus.disconnect()  # type: ignore[attr-defined]
    with pytest.raises(Disconnected) as caught:
        await make(kit.bus)(Context(), "ann")
    assert not caught.value.sent
    kit.bus.reconnect()  # type: ignore[attr-defined]
    await asyncio.sleep(10)
    assert asked == []


@pytest.mark.parametrize("request_", ["ann", "a" * (2 << 20)], ids=["short", "long"])
async def test_what_was_not_sent_never_began(kit: Kit, request_: str) -> None:
    """However long it is: its error is marked, so that it may be sent again."""
    call = make(kit.bus, name="test.upper")
    with pytest.raises(NoResponders) as unheard:
        await call(Context(), request_)
    kit.bus.disconnect()  # type: ignore[attr-defined]
    with pytest.raises(Disconnected) as caught:
        await call(Context(), request_)
    assert unheard.value.refused == caught.value.refused == "test.upper"


async def test_asks_in_flight_fail_when_the_bus_does(kit: Kit) -> None:
    """Not at their timeout."""
    kit.bus.subscribe("test.upper", lambda _: None)
    task = asyncio.create_task(make(kit.bus, timeout=60)(Context(), "ann"))
    await asyncio.sleep(1)
    kit.bus.disconnect()  # type: ignore[attr-defined]
    with pytest.raises(Disconnected) as caught:
        await task
    assert caught.value.sent
    assert asyncio.get_running_loop().time() < 2


@pytest.mark.parametrize("code", list(Code))
async def test_errors_come_back_by_code(kit: Kit, code: Code) -> None:
    """Any error that nobody declared is the class of its code, with text and id."""
    answer(
        kit.bus,
        Kit_Code=code.value,
        Nats_Service_Error="so it is",
        Nats_Service_Error_Code="500",
        Kit_Request_Id="r-1",
        Kit_Retry_After="1500",
    )
    with pytest.raises(KitError) as caught:
        await make(kit.bus)(Context(), "ann")
    error = caught.value
    assert (error.code, str(error)) == (code, "so it is")
    assert (error.request_id, error.retry_after) == ("r-1", 1.5)


async def test_foreign_errors_go_by_number(kit: Kit) -> None:
    """A service that knows only ADR-32 is understood."""
    answer(kit.bus, b"", Nats_Service_Error="gone", Nats_Service_Error_Code="404")
    with pytest.raises(NotFound, match="gone"):
        await make(kit.bus)(Context(), "ann")


async def test_declared_errors_come_back_typed(kit: Kit) -> None:
    """A declared error is raised as its own class, fields and all."""
    answer(
        kit.bus,
        b'{"sku":"ball","left":2}',
        Kit_Code="failed_precondition",
        Kit_Error="OutOfStock",
        Content_Type="application/json",
    )
    with pytest.raises(OutOfStock) as caught:
        await make(kit.bus, raises=[OutOfStock])(Context(), "ann")
    assert (caught.value.sku, caught.value.left) == ("ball", 2)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"Kit_Code": "no_such_code"}, Unknown),
        ({"Nats_Service_Error_Code": "x"}, Unknown),
        ({"Nats_Service_Error_Code": "123456789x"}, Unknown),
        ({"Nats_Service_Error_Code": "9" * 5000}, Unknown),
        ({"Nats_Service_Error_Code": "\u00b2"}, Unknown),
        ({"Nats_Service_Error": "only text"}, Unknown),
        ({"Kit_Code": "out_of_range", "Kit_Retry_After": "soon"}, OutOfRange),
        ({"Kit_Code": "out_of_range", "Kit_Retry_After": "\u00b2"}, OutOfRange),
        ({"Kit_Code": "resource_exhausted", "Kit_Error": "Other"}, ResourceExhausted),
        ({"Kit_Code": "aborted", "Kit_Error": "OutOfStock"}, DataLoss),
        (
            {
                "Kit_Code": "aborted",
                "Kit_Error": "OutOfStock",
                "Content_Type": "text/html",
            },
            DataLoss,
        ),
    ],
)
async def test_odd_replies_are_still_errors(
    kit: Kit, headers: dict[str, str], error: type[KitError]
) -> None:
    """Whatever a peer writes into its headers, the caller gets a `KitError`."""
    answer(kit.bus, b"\xc1", **headers)
    with pytest.raises(error) as caught:
        await make(kit.bus, raises=[OutOfStock])(Context(), "ann")
    assert type(caught.value) is error


async def test_broken_headers_of_a_reply_are_the_peers_fault(kit: Kit) -> None:
    """Not an `InvalidArgument`, which would blame the request."""
    kit.bus.subscribe(
        "test.upper", lambda m: kit.bus.publish(m.reply, b"", "", b"HTTP/1.1 200\r\n")
    )
    with pytest.raises(DataLoss, match="the reply cannot be read"):
        await make(kit.bus)(Context(), "ann")


async def test_context_goes_along(kit: Kit) -> None:
    """Caller, trace and request id of the turn are sent; a header it got is not."""
    asked = answer(kit.bus)
    block = encode_headers(
        {"traceparent": "00-1", "Kit-Request-Id": "r-1", "Authorization": "secret"}
    )
    turn = Context(endpoint="shop.buy", message=Message("x", header_block=block))
    await make(kit.bus)(turn, "ann")
    headers = asked[0].headers
    assert headers["traceparent"] == "00-1"
    assert headers["Kit-Request-Id"] == "r-1"
    assert headers["Kit-Caller"] == "shop.buy"
    assert "Authorization" not in headers


async def test_a_turn_that_calls_its_own_name_keeps_its_context(kit: Kit) -> None:
    """Recursion goes by a context of its own, so the turn's codec stays as it was."""
    answer(kit.bus)
    turn = Context(endpoint="test.upper", message=Message("test.upper"))

    def encode(ctx: Context, request: str) -> bytes:
        assert ctx is not turn
        assert ctx.caller == "test.upper"
        return request.encode()

    assert await make(kit.bus, encode=encode)(turn, "ann") == "ANN"


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf"), 1e300, 1e9])
def test_timeout_is_checked(kit: Kit, timeout: float) -> None:
    """A call that could take no time, or more than a header can say, is a mistake."""
    with pytest.raises(ValueError, match="timeout must be positive seconds under 1e"):
        make(kit.bus, timeout=timeout)


def test_subject_is_checked(kit: Kit) -> None:
    """A malformed subject is refused when the client is made."""
    with pytest.raises(InvalidArgument):
        Client(kit.bus, "a b", encode=plain_encode, decode=plain_decode)
