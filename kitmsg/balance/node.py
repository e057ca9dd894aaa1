"""One instance under a balancer: its endpoint or connection, and how its calls go.

Hot path: `begin` and `end` run around every call and are flat on purpose.
"""

from __future__ import annotations

from math import exp
from typing import Final, Generic, TypeVar

from kitmsg.discovery.instance import Instance

__all__ = ["DECAY_SECONDS", "Node"]

T_co = TypeVar("T_co", covariant=True)

DECAY_SECONDS: Final = 0.6
"""Time in which a latency loses most of its weight; Kratos's.

With Finagle's ten seconds one pause of a fast instance makes it dearer than one that is
always slow, for longer than ten seconds.
"""

_LEAST: Final = 0.01  # of a weight or a share of successes: nobody gets nothing


class Node(Generic[T_co]):
    """An instance and the load that this process puts on it.

    Args:
        instance: Its address and facts.
        value: Its endpoint, or its connection.
        since: Time when it joined a set that was there, on the loop's clock; minus infinity
            for the first set, which has nobody to compare with.

    Attributes:
        in_flight: Calls that are open.
        latency: Seconds, peak EWMA: rises at once, falls slowly; 0 before the first reply.
        success: Share of calls that did not fail, as a moving average.
        share: Weight times `success`; what a cost is divided by.
        started: When its last call began.
    """

    __slots__ = (
        "_starts",
        "_updated",
        "address",
        "in_flight",
        "instance",
        "latency",
        "share",
        "since",
        "started",
        "success",
        "value",
    )

    def __init__(
        self, instance: Instance, value: T_co, since: float = float("-inf")
    ) -> None:
        self.address: Final = instance.address
        self.value: Final = value
        self.since = since
        self.in_flight = 0
        self.latency = 0.0
        self.success = 1.0
        self.started = float("-inf")
        # Invariant: the sum of the times when the open calls began; 0 with none open.
        self._starts = 0.0
        self._updated = 0.0
        self.become(instance)

    def become(self, instance: Instance) -> None:
        """Take other facts about the same address."""
        self.instance = instance
        self.share = max(instance.weight, _LEAST) * max(self.success, _LEAST)

    def begin(self, now: float) -> None:
        """Count a call that begins."""
        self.in_flight += 1
        self._starts += now
        self.started = now

    def end(self, start: float, now: float, *, failed: bool | None) -> None:
        """Count the end of a call that began at `start`.

        Args:
            start: What `begin` was told.
            now: The time.
            failed: Whether the instance failed; None where nobody waited for the outcome.
        """
        self.in_flight -= 1
        self._starts = self._starts - start if self.in_flight else 0.0
        took = now - start
        old = exp((self._updated - now) / DECAY_SECONDS)
        if took > self.latency:
            self.latency = took  # a peak counts at once
        elif failed is None:
            return  # it took at least so long, which is no news
        elif not failed:  # to fail fast is no merit
            self.latency = self.latency * old + took * (1.0 - old)
        if failed is not None and (failed or self.success < 1.0):
            # A failure counts a tenth at least, however many calls there are.
            new = max(1.0 - old, 0.1)
            self.success += ((0.0 if failed else 1.0) - self.success) * new
            self.share = max(self.instance.weight, _LEAST) * max(self.success, _LEAST)
        self._updated = now

    def cost(self, now: float) -> float:
        """Return the expected wait for one more call: latency by open calls.

        A call that is open for longer than the latency says what the next one may take, so
        an instance that hangs gets dear before it answers.
        """
        calls = self.in_flight
        latency = self.latency
        if calls:
            waited = now - self._starts / calls
            if waited > latency:  # noqa: PLR1730  the hot path: max() is a call
                latency = waited
            if not self.latency:
                latency += 1.0  # nothing is known until its first call returns
        return latency * (calls + 1) / self.share

    def __repr__(self) -> str:
        return f"<Node {self.address}: {self.in_flight} open, {self.latency:.6f} s>"
