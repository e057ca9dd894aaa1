"""The balancer: a picker's choice among the nodes that can be reached."""

from __future__ import annotations

import pytest

from kitmsg.balance import Endpointer, round_robin
from kitmsg.balance.balancer import Balancer
from kitmsg.discovery.fixed import fixed


@pytest.fixture
async def balancer() -> Balancer[str]:
    """A balancer of two."""
    endpointer = Endpointer[str](fixed(["a", "b"]), lambda instance: instance.address)
    await endpointer.ready()
    return Balancer(endpointer, round_robin())


def picked(balancer: Balancer[str], now: float) -> set[str]:
    found = [balancer.pick(now) for _ in range(4)]
    return {node.address for node in found if node is not None}


async def test_an_address_that_failed_is_avoided_for_a_moment(
    balancer: Balancer[str],
) -> None:
    """It comes back when the moment is over, or when there is no other."""
    one, other = balancer.endpointer.nodes
    balancer.unreachable(one, 10.0)
    assert picked(balancer, 10.0) == {"b"}
    balancer.unreachable(other, 10.0)
    assert picked(balancer, 10.0) == {"a", "b"}
    assert picked(balancer, 11.0) == {"a", "b"}


async def test_who_fails_again_is_avoided_for_longer(balancer: Balancer[str]) -> None:
    """Twice as long each time, until it takes a call."""
    one, _ = balancer.endpointer.nodes
    balancer.unreachable(one, 10.0)
    balancer.unreachable(one, 11.0)
    assert picked(balancer, 12.9) == {"b"}
    assert picked(balancer, 13.0) == {"a", "b"}
    balancer.reached(one)
    balancer.unreachable(one, 20.0)
    assert picked(balancer, 21.0) == {"a", "b"}
