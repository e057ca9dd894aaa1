"""One served instance: calls across hops, failures, lifecycle, what it says of itself."""
# the services here are props

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest

from kitmsg import BusinessError, Code, Context, Kit, Service, current, endpoint
from kitmsg.codec import JSON, MSGPACK, Codec
from kitmsg.errors import (
    DeadlineExceeded,
    Disconnected,
    Internal,
    KitError,
    NoResponders,
    NotFound,
    Unavailable,
)
from kitmsg.message import encode_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from kitmsg.message import Message

SECRET = "hunter2"  # what must never leave a service


class OutOfStock(BusinessError):
    """There is not enough."""

    code = Code.ABORTED
    sku: str
    left: int


class Refused(Exception):
    """A plain exception."""


class Back(Service):
    """What is called by `Front`."""

    concurrency = 1

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.entered = asyncio.Event()

    @endpoint(timeout=60)
    async def left(self, ctx: Context) -> float:
        now = asyncio.get_running_loop().time()
        return ctx.remaining(now) or 0.0

    @endpoint(timeout=60)
    async def hang(self) -> None:
        self.entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    @endpoint
    async def facts(self, ctx: Context) -> list[str]:
        return [ctx.caller, ctx.request_id, ctx.headers.get("traceparent", "")]

    @endpoint
    async def quick(self) -> int:
        return 1


class Front(Service):
    """What calls `Back`."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.seen: list[str] = []
        self.gate = asyncio.Event()

    @endpoint(timeout=60)
    async def left(self, nap: float = 0.0, limit: float = 5.0) -> float:
        await asyncio.sleep(nap)
        return await self.kit.client(Back, timeout=limit).left()

    @endpoint(timeout=60)
    async def hang(self) -> None:
        try:
            await self.kit.client(Back, timeout=60).hang()
        except asyncio.CancelledError:
            self.seen.append("cancelled")
            raise

    @endpoint
    async def facts(self) -> list[str]:
        return await self.kit.client(Back).facts()

    @endpoint
    async def on_drain(self) -> int:
        await self.gate.wait()
        return await self.kit.client(Back).quick()


@pytest.fixture
async def front(kit: Kit) -> Front:
    await kit.serve(Back())
    front = Front(kit)
    await kit.serve(front)
    return front


def back_of(kit: Kit) -> Back:
    service = kit.hosts[0].service
    assert isinstance(service, Back)
    return service


async def test_nested_calls_inherit_what_is_left(kit: Kit, front: Front) -> None:
    """Two seconds at the first caller are one and a half after a nap of half a second."""
    left = await kit.client(Front, timeout=2).left(nap=0.5)
    assert left == pytest.approx(1.5, abs=0.02)


async def test_a_nested_timeout_bounds_further(kit: Kit, front: Front) -> None:
    """The nested client's own timeout wins where it is nearer."""
    assert await kit.client(Front, timeout=10).left(limit=1.0) == pytest.approx(
        1.0, abs=0.02
    )


async def test_a_nested_call_without_time_is_not_made(kit: Kit, front: Front) -> None:
    """The whole chain ends at the first caller's deadline."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await kit.client(Front, timeout=1).hang()
    assert asyncio.get_running_loop().time() - started <= 1.06
    await asyncio.sleep(0.1)
    assert back_of(kit).seen == ["cancelled"]
    assert kit.hosts[0].intake.mailbox.running == 0


async def check_cancellation(kit: Kit) -> None:
    """Cancel a task at the outside; the handler two hops away is cancelled."""
    await kit.serve(Back())
    front = Front(kit)
    await kit.serve(front)
    task = asyncio.create_task(kit.client(Front, timeout=60).hang())
    await back_of(kit).entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        while not (back_of(kit).seen and front.seen):
            await asyncio.sleep(0.001)
    assert front.seen == back_of(kit).seen == ["cancelled"]
    assert await kit.client(Back).quick() == 1  # its one worker is free again


async def test_cancellation_crosses_two_hops(kit: Kit) -> None:
    """A task that is cancelled at the caller ends the nested handler."""
    await check_cancellation(kit)


async def test_cancellation_crosses_two_hops_on_nats(kit_nats: Kit) -> None:
    """So it does on a real server."""
    await check_cancellation(kit_nats)


async def test_a_timeout_around_a_call_cancels_the_handler(
    kit: Kit, front: Front
) -> None:
    """`asyncio.timeout` is a cancellation too."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await kit.client(Front, timeout=60).hang()
    await asyncio.sleep(0.1)
    assert back_of(kit).seen == ["cancelled"]


async def test_a_cancelled_direct_call_is_cancelled(kit: Kit, front: Front) -> None:
    """A call to one instance by its id as well."""
    client = kit.client(Back, timeout=60, instance=kit.hosts[0].id)
    task = asyncio.create_task(client.hang())
    await back_of(kit).entered.wait()
    task.cancel()
    await asyncio.sleep(0.1)
    assert back_of(kit).seen == ["cancelled"]


async def test_who_calls_and_which_request(kit: Kit, front: Front) -> None:
    """A nested handler sees its caller, the request's id and its trace."""
    block = encode_headers({"Kit-Request-Id": "r-1", "traceparent": "00-ab"})
    reply = await kit.bus.request("front.facts", b"{}", 5, block)
    assert reply.data == b'["front.facts","r-1","00-ab"]'
    assert kit.hosts[0].snapshots()["back.facts"].callers == {"front.facts": 1}


async def test_nested_calls_work_during_a_drain(kit: Kit, front: Front) -> None:
    """What is being finished may still call others."""
    task = asyncio.create_task(kit.client(Front).on_drain())
    await asyncio.sleep(0.1)
    draining = asyncio.create_task(kit.hosts[1].drain())
    await asyncio.sleep(0.1)
    front.gate.set()
    assert await task == 1
    await draining


# Failures


class Textless(Exception):
    """An exception that cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError(SECRET)


class Failing(Service):
    """Fails in every way."""

    concurrency = 1

    @endpoint(raises=[OutOfStock, Refused])
    async def fail(self, how: str) -> int:
        errors: dict[str, Callable[[], BaseException]] = {
            "business": lambda: OutOfStock("ball", 2),
            "plain": lambda: Refused("no", 5),
            "not found": lambda: NotFound("no such ball"),
            "bug": lambda: RuntimeError(SECRET),
            "exits": lambda: SystemError(SECRET),
            "cancels": lambda: asyncio.CancelledError(SECRET),
            "has no text": Textless,
            "lookup": lambda: KeyError(SECRET),
        }
        if how in errors:
            raise errors[how]()
        if how == "encode":
            return SECRET  # type: ignore[return-value]
        return 1

    @endpoint
    async def encode(self) -> dict[str, int]:
        return {"x": object()}  # type: ignore[dict-item]

    @endpoint
    def stop_iteration(self) -> int:
        return next(iter([]))


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda c: c.name)
async def test_declared_errors_cross_typed(kit: Kit, codec: Codec) -> None:
    """A declared error is caught as itself, with its fields; also a plain exception."""
    host = await kit.serve(Failing())
    client = kit.client(Failing, codec=codec)
    with pytest.raises(OutOfStock) as stock:
        await client.fail("business")
    assert (stock.value.sku, stock.value.left) == ("ball", 2)
    with pytest.raises(Refused) as refused:
        await client.fail("plain")
    assert refused.value.args == ("no", 5)
    with pytest.raises(NotFound, match="no such ball"):
        await client.fail("not found")
    assert host.snapshots()["failing.fail"].errors == 3


@pytest.mark.parametrize("how", ["bug", "exits", "lookup"])
async def test_nothing_of_a_bug_reaches_the_caller(
    kit: Kit, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in a header, not in the body; the id in the reply finds it in the log."""
    await kit.serve(Failing())
    body = msgspec.json.encode({"how": how})
    block = encode_headers({"Kit-Request-Id": "r-77"})
    reply = await kit.bus.request("failing.fail", body, 5, block)
    assert SECRET.encode() not in reply.header_block + reply.data
    with pytest.raises(Internal) as caught:
        await kit.client(Failing).fail(how)
    assert SECRET not in repr(vars(caught.value)) + str(caught.value)
    stats = await kit.bus.request("$SRV.STATS.failing", b"", 5)
    assert SECRET.encode() not in stats.data
    assert b'"internal:request id ' in stats.data
    ids = [getattr(r, "request_id", "") for r in caplog.records]
    assert ids == ["r-77", caught.value.request_id]
    assert caplog.text.count(SECRET) >= 2


async def test_an_error_that_cannot_be_printed(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered and logged like any other."""
    await kit.serve(Failing())
    with pytest.raises(Internal):
        await kit.client(Failing).fail("has no text")
    assert "failing.fail failed: Textless" in caplog.text


async def test_a_handler_that_raises_cancelled_error(kit: Kit) -> None:
    """The caller hears `Internal`, nothing of the text, and the worker goes on."""
    await kit.serve(Failing())
    with pytest.raises(Internal) as caught:
        await kit.client(Failing).fail("cancels")
    assert SECRET not in str(caught.value)
    assert await kit.client(Failing).fail("") == 1


async def test_a_response_that_cannot_be_encoded(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """That is `Internal`, and the log names the type."""
    await kit.serve(Failing())
    with pytest.raises(Internal):
        await kit.client(Failing).encode()
    assert "cannot encode dict" in caplog.text


async def test_a_thread_that_raises_stop_iteration(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a failure like others, not a wait for the deadline."""
    await kit.serve(Failing())
    with pytest.raises(Internal):
        await kit.client(Failing, timeout=60).stop_iteration()
    assert "raised StopIteration" in caplog.text


# Threads


class Blocking(Service):
    """Has plain functions for endpoints."""

    @endpoint
    def where(self) -> list[str]:
        return [threading.current_thread().name, current().endpoint, current().caller]

    @endpoint
    def add(self, a: int, b: int = 1) -> int:
        return a + b

    @endpoint
    def nap(self, seconds: float) -> None:
        time.sleep(seconds)


async def test_plain_functions_run_in_threads(kit: Kit) -> None:
    """With the context visible; and they are awaited where they are called directly."""
    service = Blocking()
    await kit.serve(service)
    thread, name, _ = await kit.client(Blocking).where()
    assert thread != threading.current_thread().name
    assert name == "blocking.where"
    assert await kit.client(Blocking).add(1) == 2
    assert await service.add(2, b=3) == 5


# Lifecycle


class Lively(Service):
    """Notes when it starts and stops."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def start(self) -> None:
        self.seen.append("start")

    async def stop(self) -> None:
        self.seen.append("stop")

    @endpoint
    async def work(self) -> int:
        self.seen.append("work")
        await asyncio.sleep(1)
        self.seen.append("done")
        return 1


async def test_start_comes_first_and_stop_last(kit: Kit) -> None:
    """`start` before the first turn, `stop` after the last."""
    service = Lively()
    host = await kit.serve(service)
    task = asyncio.create_task(kit.client(Lively).work())
    await asyncio.sleep(0.1)
    await host.drain()
    kit.hosts.clear()
    assert await task == 1
    assert service.seen == ["start", "work", "done", "stop"]


async def test_a_start_that_fails_serves_nothing(kit: Kit) -> None:
    """The error is the caller's of `serve`, and nobody is routed to it."""

    class Broken(Lively):
        async def start(self) -> None:
            raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        await kit.serve(Broken())
    with pytest.raises(Unavailable):
        await kit.client(Broken).work()
    assert kit.hosts == []


async def test_a_bus_lost_while_starting_leaves_nothing_open(kit: Kit) -> None:
    """The instance is stopped again, and does not serve when the bus is back."""

    class Unlucky(Lively):
        async def start(self) -> None:
            await super().start()
            kit.bus.disconnect()  # type: ignore[attr-defined]

    service = Unlucky()
    with pytest.raises(Disconnected):
        await kit.serve(service)
    assert service.seen == ["start", "stop"]
    kit.bus.reconnect()  # type: ignore[attr-defined]
    with pytest.raises(NoResponders):
        await kit.client(Unlucky).work()


class _Hanging(Service):
    """Never stops."""

    drain_timeout = 5.0

    def __init__(self) -> None:
        self.was_cancelled = False

    async def stop(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.was_cancelled = True

    @endpoint
    async def one(self) -> int:
        return 1


async def test_a_stop_that_hangs_is_cancelled(kit: Kit) -> None:
    """The end comes within the drain's time, whatever `stop` does."""
    host = await kit.serve(_Hanging())
    await asyncio.wait_for(host.drain(), 6.0)
    await asyncio.sleep(0)
    assert isinstance(host.service, _Hanging)
    assert host.service.was_cancelled


async def test_one_failing_stop_does_not_cut_the_others_short(kit: Kit) -> None:
    """Each service finishes its own mailbox before the error is raised."""

    class Bad(Service):
        async def stop(self) -> None:
            raise RuntimeError("cannot stop")

    await kit.serve(Bad())
    await kit.serve(Lively())
    task = asyncio.create_task(kit.client(Lively).work())
    await asyncio.sleep(0.1)
    with pytest.raises(RuntimeError, match="cannot stop"):
        await kit.close()
    assert await task == 1


# What it says of itself


async def raw(kit: Kit, subject: str) -> Any:
    reply: Message = await kit.bus.request(subject, b"", 5)
    return msgspec.json.decode(reply.data)


async def test_schemas_are_served(kit: Kit) -> None:
    """All by name, each by its hash, and INFO says the hash."""
    host = await kit.serve(Failing())
    described = await raw(kit, "failing._schema")
    assert set(described) == {"fail", "encode", "stop_iteration"}
    fail = described["fail"]
    jsonschema.validate({"how": "x"}, fail["request"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"how": 5}, fail["request"])
    assert fail["response"]["type"] == "integer"
    assert set(fail["errors"]) == {"OutOfStock", "Refused"}
    assert await raw(kit, f"_kit.schema.{host.service.name}.{fail['hash']}") == fail
    said = {e.name: (e.metadata or {})["kit.schema"] for e in host.info.endpoints}
    assert said == {name: d["hash"] for name, d in described.items()}


async def test_stats_tell_the_whole_story(kit: Kit) -> None:
    """Requests, errors, the last one, time in whole nanoseconds, quantiles, callers."""
    host = await kit.serve(Failing())
    await kit.client(Failing).fail("")
    with pytest.raises(KitError):
        await kit.client(Failing).fail("not found")
    block = encode_headers({"Kit-Caller": "shop.buy"})
    await kit.bus.request("failing.fail", b'{"how":""}', 5, block)
    report = next(e for e in host.report().endpoints if e.name == "fail")
    assert (report.num_requests, report.num_errors) == (3, 1)
    assert report.last_error == "not_found:no such ball"
    assert type(report.processing_time) is int
    assert 0 < report.average_processing_time <= report.processing_time
    assert report.average_processing_time == report.processing_time // 3
    data: dict[str, Any] = report.data
    assert data["callers"] == {"shop.buy": 1}
    assert list(data["latency_ns"]) == ["p50", "p90", "p99"]
    assert 0 < data["latency_ns"]["p50"] <= data["latency_ns"]["p99"]


class Busy(Service):
    """One worker, which can be kept busy."""

    concurrency = 1

    @endpoint
    async def hang(self) -> None:
        await asyncio.Event().wait()

    @endpoint
    def block(self) -> None:
        time.sleep(0.5)


@pytest.mark.parametrize("how", ["hang", "block"])
@pytest.mark.parametrize("verb", ["PING", "INFO", "STATS"])
async def test_control_subjects_answer_while_all_is_busy(
    kit_nats: Kit, how: str, verb: str
) -> None:
    """Within 300 ms, though the one worker is taken and more waits: on a real server."""
    host = await kit_nats.serve(Busy())
    client = kit_nats.client(Busy)
    tasks = [asyncio.create_task(getattr(client, how)()) for _ in range(5)]
    async with asyncio.timeout(5):
        while not host.intake.mailbox.waiting:
            await asyncio.sleep(0.001)
    reply = await kit_nats.bus.request(f"$SRV.{verb}.busy.{host.id}", b"", 0.3)
    assert msgspec.json.decode(reply.data)["id"] == host.id
    for task in tasks:
        task.cancel()


async def test_starting_and_ending_is_logged(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    """One line each."""
    with caplog.at_level(logging.INFO, "kitmsg.service"):
        await kit.serve(Lively())
        await kit.drain()
    assert "lively 0.1.0 is serving as" in caplog.text
    assert "is drained" in caplog.text


class Restless(Service):
    """Answers now and then."""

    concurrency = 4
    mailbox = 16

    @endpoint
    async def work(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds


async def check_leaves_nothing(kit: Kit) -> None:
    """Call, time out and cancel at random; then look for what is left behind."""
    chance = random.Random(3)
    host = await kit.serve(Restless())
    ends: Counter[str] = Counter()

    async def one() -> None:
        client = kit.client(Restless, timeout=0.05 + chance.random() / 10)
        try:
            async with asyncio.timeout(0.02 + chance.random() / 5):
                await client.work(chance.random() / 20)
            ends["ok"] += 1
        except TimeoutError:
            ends["late"] += 1
        except KitError as exc:
            ends[exc.code] += 1

    for _ in range(10):
        await asyncio.gather(*(one() for _ in range(40)))
    async with asyncio.timeout(5):
        while host.intake.mailbox.running or host.intake.mailbox.waiting:
            await asyncio.sleep(0.01)
    assert sum(ends.values()) == 400
    assert ends["ok"] > 0
    assert ends["late"] > 0
    assert host.intake.is_member
    assert await kit.client(Restless).work(0.0) == 0.0


async def test_hundreds_of_calls_leave_nothing_behind(kit: Kit) -> None:
    """However they end, no turn is kept and the service is back in its group."""
    await check_leaves_nothing(kit)


async def test_hundreds_of_calls_on_nats_leave_nothing_behind(kit_nats: Kit) -> None:
    """So it is on a real server."""
    await check_leaves_nothing(kit_nats)
