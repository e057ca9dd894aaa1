"""kitmsg.service.declare.DEFAULTS: what is on by default, and the switch of each."""

import asyncio
import logging
from collections.abc import Collection

import pytest

from kitmsg import Kit, Service, current, endpoint
from kitmsg.errors import Internal, NoResponders
from kitmsg.message import Message, encode_headers
from kitmsg.service.host import ServiceHost


def make(off: Collection[str]) -> type[Service]:
    """Return a service with one worker, no waiting room to speak of, and `off`."""
    defaults_off = off

    class Probe(Service):
        concurrency = 1
        mailbox = 4
        off = defaults_off

        def __init__(self) -> None:
            self.gate = asyncio.Event()

        @endpoint
        async def fail(self) -> None:
            raise RuntimeError("on purpose")

        @endpoint
        async def wait(self) -> None:
            await self.gate.wait()

        @endpoint
        async def passes_on(self) -> dict[str, str]:
            return current().propagated()

    return Probe


async def ask(kit: Kit, endpoint_: str, **headers: str) -> Message:
    """Ask with these headers and return the reply as it is."""
    block = encode_headers({name.replace("_", "-"): v for name, v in headers.items()})
    return await kit.bus.request(f"probe.{endpoint_}", b"{}", 30.0, block)


@pytest.fixture(params=[(), ("X",)], ids=["on", "off"])
def is_off(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def serve(kit: Kit, name: str, is_off: bool) -> ServiceHost:
    return await kit.serve(make({name} if is_off else ()))


async def test_metrics(kit: Kit, is_off: bool) -> None:
    """Turns are counted and timed, unless metrics are off."""
    host = await serve(kit, "metrics", is_off)
    await ask(kit, "passes_on")
    assert host.snapshots()["probe.passes_on"].requests == (0 if is_off else 1)


async def test_error_log(
    kit: Kit, is_off: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure nobody declared is logged, unless the error log is off."""
    host = await serve(kit, "error_log", is_off)
    with caplog.at_level(logging.ERROR), pytest.raises(Internal):
        await kit.client(type(host.service)).fail()  # type: ignore[attr-defined]
    assert ("on purpose" in caplog.text) is not is_off


async def test_trace(kit: Kit, is_off: bool) -> None:
    """Trace headers go on to nested calls, unless tracing is off."""
    await serve(kit, "trace", is_off)
    reply = await ask(kit, "passes_on", traceparent="00-1-2-01")
    assert (b"00-1-2-01" in reply.data) is not is_off


async def test_deadline(kit: Kit, is_off: bool) -> None:
    """A turn ends when its caller's time is up, unless deadlines are off."""
    host = await serve(kit, "deadline", is_off)
    late = asyncio.create_task(ask(kit, "wait", Kit_Timeout="100"))
    await asyncio.sleep(1)
    assert host.intake.mailbox.running == (1 if is_off else 0)
    late.cancel()


async def test_shedding(kit: Kit, is_off: bool) -> None:
    """A full instance leaves the queue group, unless shedding is off."""
    host = await serve(kit, "shedding", is_off)
    asks = [asyncio.create_task(ask(kit, "wait")) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert host.intake.is_member is is_off
    if not is_off:
        with pytest.raises(NoResponders):
            await ask(kit, "wait")
    for task in asks:
        task.cancel()


async def test_limit(kit: Kit, is_off: bool) -> None:
    """One turn runs at a time here, unless the limit is off."""
    host = await serve(kit, "limit", is_off)
    asks = [asyncio.create_task(ask(kit, "wait")) for _ in range(4)]
    await asyncio.sleep(0.01)
    assert host.intake.mailbox.running == (4 if is_off else 1)
    for task in asks:
        task.cancel()


def test_unknown_switch_is_named() -> None:
    """A switch that does not exist is refused when the class is defined."""
    with pytest.raises(
        ValueError, match="Probe: off names 'metric'; known are deadline"
    ):
        make({"metric"})
