"""Admission of connections and calls, and the answer of a full gateway."""

from __future__ import annotations

import asyncio

import pytest

from kitmsg.errors import Code, ResourceExhausted
from kitmsg_gateways.edge.admission import RETRY_SECONDS, Admission, Connections, full
from kitmsg_gateways.edge.metrics import Metrics


def test_one_call_too_many_is_refused_and_still_counted() -> None:
    """Until it leaves; then there is room again."""
    metrics = Metrics("x")
    admission = Admission(metrics, 1)
    admission.enter()
    with pytest.raises(
        ResourceExhausted, match="full: 1 calls are in flight"
    ) as caught:
        admission.enter()
    assert caught.value.retry_after == RETRY_SECONDS
    assert metrics.in_flight == 2
    admission.leave()
    admission.leave()
    admission.enter()
    admission.enter(exempt=1)


def test_a_full_gateway_has_one_answer() -> None:
    """Whatever it is full of."""
    error = full(3, "streams are open")
    assert (error.code, error.retry_after) == (Code.RESOURCE_EXHAUSTED, 1.0)
    assert str(error) == "the gateway is full: 3 streams are open"


async def test_a_drain_ends_with_the_last_call() -> None:
    """Or when its time is up."""
    admission = Admission(Metrics("x"), 10)
    assert await admission.drained(0.0)
    admission.enter()
    assert not await admission.drained(0.01)
    waiting = asyncio.create_task(admission.drained(10))
    await asyncio.sleep(0)
    admission.leave()
    assert await waiting


def test_a_place_is_given_back_once() -> None:
    """However often it is left."""
    connections = Connections(1)
    place = connections.take("192.0.2.1")
    assert place is not None
    assert connections.take("192.0.2.1") is None
    place.leave()
    place.leave()
    assert (connections.open, connections.refused) == (0, 1)
