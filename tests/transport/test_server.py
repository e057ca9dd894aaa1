"""A subject served by an endpoint: Go kit's checklist for servers, and the promises."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

import kitmsg
from kitmsg import current
from kitmsg.errors import (
    BusDenied,
    InvalidArgument,
    KitError,
    NoResponders,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.message import Message, encode_headers
from kitmsg.middleware import rate_limit
from kitmsg.transport import Intake, Server
from kitmsg.transport.transfer import MAX_BYTES
from kitmsg.wire import CODE

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg import Context, Kit
    from kitmsg.bus import Bus

SECRET = "hunter2"  # what must never leave the service


def plain_decode(_: Context, message: Message) -> str:
    return message.data.decode()


def plain_encode(_: Context, response: str) -> bytes:
    return response.encode()


async def upper(_: Context, request: str) -> str:
    return request.upper()


async def serve(bus: Bus, endpoint: Any = upper, **options: Any) -> Server:
    """Serve `endpoint` on ``test.upper``."""
    options = {"decode": plain_decode, "encode": plain_encode, **options}
    server = Server(bus, "test.upper", endpoint, **options)
    await server.start()
    return server


async def ask(
    bus: Bus, data: bytes = b"ann", timeout: float = 5.0, **headers: str
) -> Message:
    block = encode_headers({k.replace("_", "-"): v for k, v in headers.items()})
    return await bus.request("test.upper", data, timeout, block)


def raises(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def raises_later(error: BaseException) -> Callable[..., Any]:
    async def fail(*_: Any) -> Any:
        raise error

    return fail


async def test_happy_path(kit: Kit) -> None:
    """The reply is what the endpoint gave, with no header at all."""
    await serve(kit.bus)
    reply = await ask(kit.bus)
    assert reply.data == b"ANN"
    assert reply.header_block == b""


async def test_order_of_the_hooks(kit: Kit) -> None:
    """Before, decode, endpoint, after, encode, finalizer; several of one in order."""
    seen: list[str] = []

    def note(word: str) -> Callable[..., None]:
        return lambda *_: seen.append(word)

    def decode(ctx: Context, message: Message) -> str:
        seen.append("decode")
        return plain_decode(ctx, message)

    async def endpoint(ctx: Context, request: str) -> str:
        seen.append("endpoint")
        return await upper(ctx, request)

    def encode(ctx: Context, response: str) -> bytes:
        seen.append("encode")
        return plain_encode(ctx, response)

    await serve(
        kit.bus,
        endpoint,
        decode=decode,
        encode=encode,
        before=[note("before 1"), note("before 2")],
        after=[note("after 1"), note("after 2")],
        finalizer=[note("finalizer 1"), note("finalizer 2")],
    )
    await ask(kit.bus)
    assert seen == [
        *("before 1", "before 2", "decode", "endpoint"),
        *("after 1", "after 2", "encode", "finalizer 1", "finalizer 2"),
    ]


async def test_before_sees_the_request_and_after_adds_headers(kit: Kit) -> None:
    """`before` gets the message; what `after` writes is in the reply's headers."""
    subjects: list[str] = []
    await serve(
        kit.bus,
        before=[lambda ctx, message: subjects.append(message.subject)],
        after=[lambda ctx, fields: fields.update(Served="yes")],
    )
    reply = await ask(kit.bus)
    assert subjects == ["test.upper"]
    assert reply.headers["Served"] == "yes"
    assert reply.data == b"ANN"


async def test_before_may_refuse(kit: Kit) -> None:
    """What `before` raises is the answer; nothing after it runs, but the finalizer."""
    ended: list[BaseException | None] = []
    await serve(
        kit.bus,
        raises_later(AssertionError("ran")),
        before=[raises(PermissionDenied("not you"))],
        finalizer=[lambda ctx, message, error: ended.append(error)],
    )
    reply = await ask(kit.bus)
    assert reply.headers["Kit-Code"] == "permission_denied"
    assert [type(error) for error in ended] == [PermissionDenied]


@pytest.mark.parametrize("phase", ["before", "decode", "endpoint", "after", "encode"])
async def test_a_bad_phase_is_answered_and_says_nothing(
    kit: Kit, phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown exception anywhere is INTERNAL: the text is in the log, not the reply."""
    error = ValueError(SECRET)
    choices: dict[str, dict[str, Any]] = {
        "before": {"before": [raises(error)]},
        "decode": {"decode": raises(error)},
        "endpoint": {"endpoint": raises_later(error)},
        "after": {"after": [raises(error)]},
        "encode": {"encode": raises(error)},
    }
    server = await serve(kit.bus, **choices[phase])
    reply = await ask(kit.bus, Kit_Request_Id="r-1")
    assert reply.headers["Kit-Code"] == "internal"
    assert reply.headers["Nats-Service-Error-Code"] == "500"
    assert reply.headers["Kit-Request-Id"] == "r-1"
    assert SECRET.encode() not in reply.header_block + reply.data
    (record,) = [r for r in caplog.records if r.name == "kitmsg.service"]
    assert record.levelno == logging.ERROR
    assert record.request_id == "r-1"  # type: ignore[attr-defined]
    assert record.endpoint == "test.upper"  # type: ignore[attr-defined]
    assert SECRET in caplog.text
    assert server.stats.errors == 1


class _Torn(BaseException):
    """What is no `Exception`, as test frameworks raise."""


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), _Torn(SECRET)])
async def test_what_is_no_exception_is_answered_too(
    kit: Kit, error: BaseException
) -> None:
    """An endpoint that calls `sys.exit` fails like any other; the server goes on."""
    endpoint = raises_later(error)
    server = await serve(
        kit.bus, endpoint, intake=Intake(kit.bus, "test", concurrency=1)
    )
    for _ in range(3):
        reply = await ask(kit.bus, timeout=1.0)
        assert reply.headers["Kit-Code"] == "internal"
        assert SECRET.encode() not in reply.header_block + reply.data
    server.endpoint = upper
    assert (await ask(kit.bus, timeout=1.0)).data == b"ANN"


async def test_a_request_id_is_made_up(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """A request without an id gets one, the same in the log and in the reply."""
    await serve(kit.bus, raises_later(ValueError(SECRET)))
    reply = await ask(kit.bus)
    (record,) = [r for r in caplog.records if r.name == "kitmsg.service"]
    assert reply.headers["Kit-Request-Id"] == record.request_id  # type: ignore[attr-defined]
    assert len(reply.headers["Kit-Request-Id"]) == 16


async def test_error_encoder(kit: Kit) -> None:
    """It makes the whole reply of an error."""
    await serve(
        kit.bus,
        raises_later(KeyError("x")),
        error_encoder=lambda ctx, error: (
            type(error).__name__.encode(),
            encode_headers({"Mine": ctx.endpoint}),
        ),
    )
    reply = await ask(kit.bus)
    assert reply.data == b"KeyError"
    assert dict(reply.headers) == {"Mine": "test.upper"}


async def test_an_error_encoder_that_fails_is_replaced(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is still answered."""
    await serve(
        kit.bus,
        raises_later(PermissionDenied("no")),
        error_encoder=raises(ValueError(SECRET)),
    )
    reply = await ask(kit.bus)
    assert reply.headers["Kit-Code"] == "internal"
    assert SECRET not in str(reply.header_block)
    assert SECRET in caplog.text


async def test_what_the_bus_denies_a_service_is_not_told_to_its_callers(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """They hear `INTERNAL`; the text, which is configuration, is in the log."""
    await serve(kit.bus, raises_later(BusDenied("user 'eve' may not send to 'x'")))
    reply = await ask(kit.bus)
    assert reply.headers["Kit-Code"] == "internal"
    assert b"'eve'" not in reply.header_block
    assert "user 'eve' may not send to 'x'" in caplog.text


@pytest.mark.parametrize("error", [None, PermissionDenied("no"), ValueError("no")])
async def test_finalizer_sees_how_it_ended(kit: Kit, error: Exception | None) -> None:
    """It runs once whatever happened, with the error or None."""
    ended: list[BaseException | None] = []
    await serve(
        kit.bus,
        raises_later(error) if error else upper,
        finalizer=[lambda ctx, message, problem: ended.append(problem)],
    )
    await ask(kit.bus)
    assert ended == [error]


async def test_a_finalizer_that_fails_harms_no_other_turn(kit: Kit) -> None:
    """The reply is out already, and the next request is served."""
    await serve(kit.bus, finalizer=[raises(ValueError("late"))])
    assert (await ask(kit.bus)).data == b"ANN"
    assert (await ask(kit.bus)).data == b"ANN"


async def test_no_reply_wanted(kit: Kit) -> None:
    """A message without a reply subject is handled; errors of it go nowhere but stats."""
    seen: list[str] = []

    async def endpoint(_: Context, request: str) -> str:
        seen.append(request)
        if request == "bad":
            raise InvalidArgument("bad")
        return request

    server = await serve(kit.bus, endpoint)
    kit.bus.publish("test.upper", b"one")
    kit.bus.publish("test.upper", b"bad")
    kit.bus.publish("test.upper", b"two")
    await asyncio.sleep(1)
    assert seen == ["one", "bad", "two"]
    assert (server.stats.requests, server.stats.errors) == (3, 1)


async def test_the_context_is_the_current_one(kit: Kit) -> None:
    """`current()` inside a turn is its context: name, deadline, message, caller."""
    facts: list[Any] = []

    async def endpoint(ctx: Context, request: str) -> str:
        assert current() is ctx
        now = asyncio.get_running_loop().time()
        facts.extend([ctx.endpoint, ctx.remaining(now), ctx.caller, ctx.request_id])
        return request

    await serve(kit.bus, endpoint, name="test.loud")
    await ask(kit.bus, Kit_Timeout="1500", Kit_Caller="shop.buy", Kit_Request_Id="r-1")
    assert facts == ["test.loud", pytest.approx(1.5, abs=0.01), "shop.buy", "r-1"]


@pytest.mark.parametrize(
    ("limit", "said", "expected"),
    [
        (None, None, 10.0),
        (None, "30000", 30.0),
        (2.0, None, 2.0),
        (2.0, "30000", 2.0),
        (2.0, "500", 0.5),
    ],
)
async def test_time_for_a_turn(
    kit: Kit, limit: float | None, said: str | None, expected: float
) -> None:
    """The nearer of the caller's word and the endpoint's own; 10 s if nobody says."""
    left: list[float | None] = []

    async def endpoint(ctx: Context, request: str) -> str:
        left.append(ctx.remaining(asyncio.get_running_loop().time()))
        return request

    await serve(kit.bus, endpoint, timeout=limit)
    headers: dict[str, Any] = {"Kit_Timeout": said} if said else {}
    await ask(kit.bus, **headers)
    assert left == [pytest.approx(expected, abs=0.01)]


async def test_a_turn_past_its_deadline_is_cancelled_and_answered(kit: Kit) -> None:
    """The handler stops, and a caller that waits longer hears DEADLINE_EXCEEDED."""
    is_cancelled = False

    async def endpoint(_: Context, request: str) -> str:
        nonlocal is_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        return request

    server = await serve(kit.bus, endpoint, timeout=1.0)
    reply = await ask(kit.bus, timeout=60)
    assert is_cancelled
    assert reply.headers["Kit-Code"] == "deadline_exceeded"
    assert server.stats.cancelled == 1


async def test_expired_work_is_dropped_before_decoding(kit: Kit) -> None:
    """A request whose time passed while it waited is neither decoded nor run."""
    decoded: list[bytes] = []

    def decode(_: Context, message: Message) -> str:
        decoded.append(message.data)
        return ""

    async def endpoint(_: Context, request: str) -> str:
        await asyncio.sleep(3)
        return request

    intake = Intake(kit.bus, "test", concurrency=1)
    server = await serve(kit.bus, endpoint, decode=decode, intake=intake)
    first = asyncio.create_task(ask(kit.bus, b"first", 60, Kit_Timeout="60000"))
    await asyncio.sleep(0.1)
    block = encode_headers({"Kit-Timeout": "1000"})
    kit.bus.publish(server.subject, b"second", "_INBOX.nobody.waits", block)
    await first
    await asyncio.sleep(1)
    assert decoded == [b"first"]
    assert server.stats.expired == 1
    assert server.stats.requests == 1


async def test_cancel_by_the_caller(kit: Kit) -> None:
    """A caller that gives up cancels the turn, running or waiting."""
    ended: list[str] = []

    async def endpoint(_: Context, request: str) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request)
        return request

    intake = Intake(kit.bus, "test", concurrency=1)
    server = await serve(kit.bus, endpoint, intake=intake)
    running = asyncio.create_task(ask(kit.bus, b"running"))
    await asyncio.sleep(0.1)
    waiting = asyncio.create_task(ask(kit.bus, b"waiting"))
    await asyncio.sleep(0.1)
    assert (intake.mailbox.running, intake.mailbox.waiting) == (1, 1)
    waiting.cancel()
    await asyncio.sleep(0.1)
    assert (intake.mailbox.running, intake.mailbox.waiting) == (1, 0)
    running.cancel()
    await asyncio.sleep(0.1)
    assert intake.mailbox.running == 0
    assert ended == ["running"]
    assert server.stats.cancelled == 2


async def test_only_a_reply_subject_ends_a_turn(kit: Kit) -> None:
    """A cancellation with empty lines, or of what is not here, ends nobody's turn."""
    ended: list[str] = []

    async def endpoint(_: Context, request: str) -> str:
        try:
            await asyncio.sleep(0.2)
        except asyncio.CancelledError:
            ended.append(request)
            raise
        return request

    intake = Intake(kit.bus, "test", concurrency=1)
    await serve(kit.bus, endpoint, intake=intake)
    kit.bus.publish("test.upper", b"unheard")
    kit.bus.publish("test.upper", b"waiting")
    await kit.bus.flush()
    for told in (b"", b"\n\n", b"\xff\n_INBOX.kit_other.1-abc\n"):
        kit.bus.publish("_kit.cancel.test", told)
    await kit.bus.flush()
    await asyncio.sleep(0.05)
    assert (intake.mailbox.running, intake.mailbox.waiting) == (1, 1)
    await intake.drain()
    assert ended == []


async def test_a_task_of_the_handlers_own_is_cancelled(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller hears INTERNAL at once, the log says why, and the next is served."""
    is_first = True

    async def endpoint(_: Context, request: str) -> str:
        nonlocal is_first
        if is_first:
            is_first = False
            task = asyncio.create_task(asyncio.sleep(9))
            task.cancel()
            await task
        return request

    await serve(kit.bus, endpoint, intake=Intake(kit.bus, "test", concurrency=1))
    reply = await ask(kit.bus)
    assert reply.headers["Kit-Code"] == "internal"
    (record,) = caplog.records
    assert "something that it awaited was cancelled" in record.message
    assert "await task" in caplog.text
    assert getattr(record, "request_id", "") == reply.headers["Kit-Request-Id"]
    assert (await ask(kit.bus)).data == b"ann"


async def test_a_response_over_all_limits(kit: Kit) -> None:
    """The caller is told the sizes, instead of hearing nothing."""

    async def endpoint(_: Context, request: str) -> str:
        return "x" * (MAX_BYTES + 1)

    await serve(kit.bus, endpoint)
    reply = await ask(kit.bus)
    assert reply.headers["Kit-Code"] == "internal"
    assert str(MAX_BYTES) in reply.headers["Nats-Service-Error"]


async def test_an_exception_named_like_a_declared_one_is_not_declared(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """It is the class that is declared: a namesake is logged and hidden."""

    class Missing(Exception):
        pass

    namesake = type("Missing", (Exception,), {})
    await serve(kit.bus, raises_later(namesake(SECRET)), raises=[Missing])
    reply = await ask(kit.bus)
    assert reply.headers["Kit-Code"] == "internal"
    assert SECRET not in str(reply.header_block)
    assert SECRET in caplog.text


async def test_drain_ends_serving(kit: Kit) -> None:
    """After `drain` nobody listens."""
    server = await serve(kit.bus)
    await server.drain()
    with pytest.raises(NoResponders):
        await ask(kit.bus)


def test_the_subject_is_checked(kit: Kit) -> None:
    """A malformed subject is refused when the server is made."""
    with pytest.raises(InvalidArgument):
        Server(kit.bus, "a..b", upper, decode=plain_decode, encode=plain_encode)


async def test_two_servers_on_one_subject_of_one_intake(kit: Kit) -> None:
    """That is a mistake, and said so."""
    intake = Intake(kit.bus, "test")
    options: dict[str, Any] = {"decode": plain_decode, "encode": plain_encode}
    Server(kit.bus, "test.upper", upper, intake=intake, **options)
    with pytest.raises(ValueError, match="two endpoints are served on 'test"):
        Server(kit.bus, "test.upper", upper, intake=intake, **options)


class TestBegan:
    """Whether work may have begun crosses the wire."""

    async def test_a_refusal_says_that_nothing_began(self, kit):
        """A full service, and one that stops with the request still waiting."""
        gate = asyncio.Event()

        class Slow(kitmsg.Service):
            concurrency = 1
            mailbox = 1

            @kitmsg.endpoint
            async def wait(self) -> None:
                await gate.wait()

        host = await kit.serve(Slow())
        client = kit.client(Slow)
        runs, waits = (asyncio.create_task(client.wait()) for _ in range(2))
        await asyncio.sleep(0.01)
        with pytest.raises(ResourceExhausted) as full:
            await client.wait()
        assert full.value.refused == "slow.wait"
        await host.drain(0.0)
        ends = await asyncio.gather(runs, waits, return_exceptions=True)
        assert [type(end) for end in ends] == [Unavailable, Unavailable]
        assert [end.refused for end in ends if isinstance(end, KitError)] == [
            "",
            "slow.wait",
        ]

    async def test_what_a_method_lets_through_has_begun(self, kit):
        """Though the call that it made itself never did."""

        class Outer(kitmsg.Service):
            @kitmsg.endpoint
            async def call(self) -> None:
                await kit.call("nobody.here")

        await kit.serve(Outer())
        with pytest.raises(Unavailable) as caught:
            await kit.client(Outer).call()
        assert caught.value.refused == ""

    async def test_a_limit_in_front_of_the_method_never_began(self, kit):
        """A middleware of the service refuses before the method."""

        class Limited(kitmsg.Service):
            middleware = (rate_limit(1, burst=1),)

            @kitmsg.endpoint
            async def get(self) -> int:
                return 1

        await kit.serve(Limited())
        client = kit.client(Limited)
        await client.get()
        with pytest.raises(ResourceExhausted) as caught:
            await client.get()
        assert caught.value.refused == "limited.get"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ""),
        (NotFound("none"), "not_found"),
        (RuntimeError("no"), "internal"),
        (asyncio.CancelledError(), "internal"),
    ],
    ids=["well", "its own error", "a bug", "a task of its own"],
)
async def test_a_turn_is_counted_by_how_it_ended(
    kit: Kit, error: BaseException | None, code: str
) -> None:
    """Its duration, too; a turn that ended well costs no look-up."""
    endpoint = upper if error is None else raises_later(error)
    server = await serve(kit.bus, endpoint)
    await ask(kit.bus)
    seen = server.stats.snapshot()
    assert (seen.requests, sum(seen.buckets)) == (1, 1)
    assert list(seen.outcomes) == ([code] if code else [])
    for outcome in seen.outcomes.values():
        assert outcome.buckets == list(seen.buckets)
        assert outcome.processing_ns == seen.processing_ns


async def test_a_turn_that_was_cut_short_is_counted_by_why(kit: Kit) -> None:
    """Here because its time was up; in its code alone."""
    server = await serve(kit.bus, _for_ever, timeout=0.05)
    assert (await ask(kit.bus)).headers[CODE] == "deadline_exceeded"
    seen = server.stats.snapshot()
    assert list(seen.outcomes) == ["deadline_exceeded"]
    assert seen.requests == 1


async def test_a_request_that_was_no_turn_is_counted_by_its_refusal(kit: Kit) -> None:
    """It has no duration."""
    server = await serve(kit.bus)
    await ask(kit.bus, Kit_Timeout="soon")
    seen = server.stats.snapshot()
    assert seen.refused == {"invalid_argument": 1}
    assert (seen.requests, sum(seen.buckets), seen.outcomes) == (1, 0, {})


async def _for_ever(_: Context, request: str) -> str:
    await asyncio.Event().wait()
    return request
