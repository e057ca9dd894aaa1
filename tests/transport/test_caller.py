"""The adaptive breaker that stands in every call, without being asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kitmsg import Kit, Service, endpoint
from kitmsg.codec import JSON
from kitmsg.context import Context
from kitmsg.discovery.catalog import CatalogEndpoint
from kitmsg.errors import (
    InvalidArgument,
    KitError,
    NoResponders,
    ResourceExhausted,
    Unavailable,
)
from kitmsg.transport.caller import Caller
from kitmsg_gateways.edge.calls import Callers
from kitmsg_gateways.edge.options import CallOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kitmsg.bus import Bus


class Busy(Service):
    """Refuses everything, or nothing."""

    error: Exception | None = None
    turns = 0

    @endpoint
    async def work(self) -> int:
        """Work."""
        self.turns += 1
        if self.error is not None:
            raise self.error
        return self.turns


async def load(call: Callable[[], Awaitable[Any]], times: int = 500) -> int:
    """Make calls, 10 ms apart; return how many were not sent."""
    unsent = 0
    for _ in range(times):
        try:
            await call()
        except KitError as error:
            unsent += str(error).startswith("adaptive_breaker")
        await asyncio.sleep(0.01)
    return unsent


def door(bus: Bus, **options: Any) -> Callable[[], Awaitable[Any]]:
    """Return the call of a gateway."""
    callers = Callers(bus, "http", CallOptions(**options))
    caller = callers.of(
        CatalogEndpoint(
            service="busy",
            name="work",
            version="1.0.0",
            subject="busy.work",
            description="",
            metadata={},
            hash="h",
            schema=None,
        )
    )
    return lambda: caller.ask(callers.context(caller, JSON, None, {}), b"{}")


async def test_a_client_spares_a_service_that_cannot_keep_up(kit: Kit) -> None:
    """Of five seconds of calls most are not sent, and what is refused says so."""
    service = Busy()
    service.error = ResourceExhausted("full")
    await kit.serve(service)
    client = kit.client(Busy)
    unsent = await load(client.work)
    assert unsent > 300
    assert unsent + service.turns == 500
    service.error = None
    await load(client.work, 1500)
    assert await load(client.work) == 0


async def test_a_gateway_spares_it_too(kit: Kit) -> None:
    """The refusal is unavailable, never began, and has a time to come back."""
    service = Busy()
    service.error = ResourceExhausted("full")
    await kit.serve(service)
    call = door(kit.bus)
    assert await load(call) > 300
    errors = []
    for _ in range(20):
        try:
            await call()
        except Unavailable as error:
            errors.append(error)
        except ResourceExhausted:
            pass
    assert errors
    assert errors[0].refused == "busy.work"
    assert errors[0].retry_after is not None


async def test_openings_of_streams_count(kit: Kit) -> None:
    """A stream that nobody can take is not asked for again and again."""
    kit.bus.subscribe("nobody.watch", lambda _: None)
    caller = Caller(kit.bus, "nobody.watch", timeout=0.05)
    assert await load(lambda: caller.open(Context(), b""), 200) > 100


async def test_one_switch_turns_it_off(kit: Kit) -> None:
    """Then every call is sent."""
    service = Busy()
    service.error = ResourceExhausted("full")
    await kit.serve(service)
    own = Kit(kit.bus, breaker=False)
    assert await load(own.client(Busy).work, 200) == 0
    assert await load(door(kit.bus, breaker=False), 200) == 0
    assert service.turns == 400


@pytest.mark.parametrize("error", [InvalidArgument("x"), ZeroDivisionError()])
async def test_answers_are_no_reason(kit: Kit, error: Exception) -> None:
    """A bug, or a request that does not fit: the service works."""
    service = Busy()
    service.error = error
    await kit.serve(service)
    assert await load(kit.client(Busy).work, 200) == 0


async def test_nobody_there_is_no_reason(kit: Kit) -> None:
    """A service that is missing for a while gets all calls as soon as it is back."""
    client = kit.client(Busy)
    for _ in range(200):
        with pytest.raises(NoResponders):
            await client.work()
    await kit.serve(Busy())
    assert await load(client.work, 100) == 0


async def test_successes_of_a_quiet_time_count(kit: Kit) -> None:
    """A few failures among many calls are none, however they come."""
    service = Busy()
    await kit.serve(service)
    client = kit.client(Busy)
    assert await load(client.work, 500) == 0
    service.error = ResourceExhausted("full")
    assert await load(client.work, 100) == 0
