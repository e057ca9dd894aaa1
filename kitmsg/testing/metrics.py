"""Contract of metrics backends: what every one of them promises, checked at its receiver.

Go kit's `teststat`, with the receiver in the loop.  A backend's test makes a `Receiver`,
which counts through the backend and reads what the real receiver got, and runs each check:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    async def test_mine_keeps_the_contract(check: Check) -> None:
        async with my_receiver() as receiver:
            await check(receiver)

Names are new in each check, so one receiver can serve all of them.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from kitmsg.metrics.memory import MOST_SERIES, OTHER

if TYPE_CHECKING:
    from kitmsg.metrics.provider import Provider

__all__ = ["CHECKS", "Check", "Observed", "Receiver", "known_samples"]

_numbers = itertools.count(1)
_PROCESS: Final = f"{os.getpid()}_{random.randrange(1 << 32):08x}"  # noqa: S311  # a name

SAMPLES: Final = 12_345
"""Number of `known_samples`: more than any backend sends one by one."""

_NORMAL: Final = NormalDist(500.0, 25.0)
_BOUNDS: Final = tuple(float(bound) for bound in range(400, 605, 5))
_QUANTILE_ERROR: Final = 0.015  # of the value; half a standard deviation is 0.025
_SUM_ERROR: Final = 1e-3
_THREADS: Final = 8
_ADDITIONS: Final = 500
_TOO_MANY: Final = 25


@dataclass(frozen=True, slots=True)
class Observed:
    """A histogram as the receiver has it.

    Attributes:
        count: Number of observations.
        total: Their sum; None where the receiver has none.
        quantiles: Those that it shows, by number from 0 to 1.
    """

    count: float
    total: float | None = None
    quantiles: dict[float, float] = field(default_factory=dict)


class Receiver(Protocol):
    """A backend and its receiver, for the checks."""

    @property
    def metrics(self) -> Provider:
        """Counted in by the checks."""
        ...

    async def flush(self) -> None:
        """Have the backend send; return when the receiver shows it."""
        ...

    async def counter(self, name: str, labels: dict[str, str], /) -> float:
        """Return a counter since its beginning, as the receiver has it; 0.0 for none."""
        ...

    async def gauge(self, name: str, labels: dict[str, str], /) -> float:
        """Return a gauge as the receiver has it."""
        ...

    async def histogram(self, name: str, labels: dict[str, str], /) -> Observed:
        """Return a histogram since its beginning, as the receiver has it."""
        ...


Check: TypeAlias = Callable[[Receiver], Awaitable[None]]


def known_samples() -> list[float]:
    """Return 12,345 samples of a normal distribution: mean 500, deviation 25, shuffled.

    They are its quantiles, so what each quantile is, is known and no matter of luck.
    """
    samples = [_NORMAL.inv_cdf((rank + 0.5) / SAMPLES) for rank in range(SAMPLES)]
    random.Random(1).shuffle(samples)  # noqa: S311  # an order, no secret
    return samples


async def counts_are_exact(receiver: Receiver) -> None:
    """Every addition arrives once, however flushes fall between; an idle one adds none."""
    name = _new("exact_total")
    counter = receiver.metrics.counter(name)
    wanted = 0.0
    for amounts in ((1.0, 2.5), (), (1e6, 0.0), (7.0,)):
        for amount in amounts:
            counter.add(amount)
            wanted += amount
        await receiver.flush()
        _same(await receiver.counter(name, {}), wanted, name)


async def gauges_keep_their_value(receiver: Receiver) -> None:
    """A flush does not set it back: `add` goes on from what was set, below zero too."""
    name = _new("kept")
    gauge = receiver.metrics.gauge(name)
    for change, amount, wanted in (
        (gauge.set, 5.0, 5.0),
        (gauge.add, 2.5, 7.5),
        (gauge.add, 0.0, 7.5),
        (gauge.set, -3.0, -3.0),
        (gauge.add, -1.0, -4.0),
        (gauge.add, 6.0, 2.0),
    ):
        change(amount)
        await receiver.flush()
        _same(await receiver.gauge(name, {}), wanted, name)


async def labels_label(receiver: Receiver) -> None:
    """Series of one name are apart, of every kind; labels in another order are the same."""
    names = [_new(kind) for kind in ("labelled_total", "labelled", "labelled_sizes")]
    wanted = ("a", "b")
    of = receiver.metrics
    counter = of.counter(names[0], labels=wanted)
    gauge = of.gauge(names[1], labels=wanted)
    histogram = of.histogram(names[2], labels=wanted, bounds=(1.0, 2.0, 4.0))
    one, two = {"a": "1", "b": "2"}, {"a": "2", "b": "1"}
    counter.labels(**one).add(1)
    counter.labels(b="2").labels(a="1").add(10)
    counter.labels(**two).add(100)
    gauge.labels(**one).set(1)
    gauge.labels(**two).set(2)
    histogram.labels(**one).observe(1)
    histogram.labels(**two).observe(2)
    histogram.labels(**two).observe(2)
    await receiver.flush()
    for labels, count, level, observed in ((one, 11, 1, 1), (two, 100, 2, 2)):
        _same(await receiver.counter(names[0], labels), count, f"{names[0]} {labels}")
        _same(await receiver.gauge(names[1], labels), level, f"{names[1]} {labels}")
        found = await receiver.histogram(names[2], labels)
        _same(found.count, observed, f"{names[2]} {labels}")


async def labels_are_not_shared(receiver: Receiver) -> None:
    """Siblings bound at once from one parent never take each other's labels.

    Go kit's did (go-kit/kit#1296): they shared the array that labels are kept in.
    """
    name = _new("siblings_total")
    parent = receiver.metrics.counter(name, labels=("a", "b", "c", "d"))
    parent = parent.labels(a="1").labels(b="2").labels(c="3")
    together = threading.Barrier(_THREADS)

    def count(own: str) -> None:
        together.wait()
        for _ in range(_ADDITIONS):
            parent.labels(d=own).add()

    await _in_threads(count)
    await receiver.flush()
    for thread in range(_THREADS):
        labels = {"a": "1", "b": "2", "c": "3", "d": f"t{thread}"}
        _same(await receiver.counter(name, labels), _ADDITIONS, f"{name} {labels}")


async def threads_lose_nothing(receiver: Receiver) -> None:
    """Threads may count in one series at once."""
    names = [_new(kind) for kind in ("threads_total", "threads", "threads_sizes")]
    counter = receiver.metrics.counter(names[0])
    gauge = receiver.metrics.gauge(names[1])
    histogram = receiver.metrics.histogram(names[2], bounds=(1.0, 2.0))

    def count(_own: str) -> None:
        for _ in range(_ADDITIONS):
            counter.add()
            gauge.add(2)
            histogram.observe(1.0)

    await _in_threads(count)
    await receiver.flush()
    wanted = _THREADS * _ADDITIONS
    _same(await receiver.counter(names[0], {}), wanted, names[0])
    _same(await receiver.gauge(names[1], {}), 2 * wanted, names[1])
    _same((await receiver.histogram(names[2], {})).count, wanted, names[2])


async def quantiles_are_right(receiver: Receiver) -> None:
    """Those that the receiver shows of known samples, and their number and sum.

    Their number is right although a backend sends a sample of them: the rate that it says
    is the rate that it took, which Go kit's StatsD only said.
    """
    name = _new("normal")
    histogram = receiver.metrics.histogram(name, bounds=_BOUNDS)
    samples = known_samples()
    for sample in samples:
        histogram.observe(sample)
    await receiver.flush()
    found = await receiver.histogram(name, {})
    _same(found.count, SAMPLES, f"observations of {name}")
    if found.total is not None:
        whole = sum(samples)
        _near(found.total, whole, whole * _SUM_ERROR, f"sum of {name}")
    if not found.quantiles:
        raise AssertionError(f"the receiver shows no quantile of {name}")
    for q, value in found.quantiles.items():
        wanted = _NORMAL.inv_cdf(q)
        _near(value, wanted, wanted * _QUANTILE_ERROR, f"quantile {q} of {name}")


async def wrong_labels_are_refused(receiver: Receiver) -> None:
    """A wrong label is an error where it is bound or first used, never dropped in silence."""
    of = receiver.metrics
    name = _new("refused_total")
    counter = of.counter(name, labels=("a", "b"))
    _raises(lambda: counter.labels(c="1"), "a label that was not declared")
    _raises(lambda: counter.labels(a="1").labels(a="2"), "a label that is bound")
    _raises(lambda: counter.labels(a="1").add(), "a label that is not bound")
    _raises(lambda: of.counter(name, labels=("a",)), "other labels of a known name")
    _raises(lambda: of.gauge(name, labels=("a", "b")), "another kind of a known name")
    _raises(lambda: of.counter("a-b"), "a name that is none")
    _raises(lambda: counter.labels(a="1", b="1").add(-1), "a counter that falls")
    of.counter(name, labels=("a", "b")).labels(a="1", b="1").add()
    await receiver.flush()
    _same(await receiver.counter(name, {"a": "1", "b": "1"}), 1, name)


async def series_are_bounded(receiver: Receiver) -> None:
    """Series beyond the most of a name are counted together, and nothing is lost."""
    name = _new("many_total")
    counter = receiver.metrics.counter(name, labels=("id",))
    for number in range(MOST_SERIES + _TOO_MANY):
        counter.labels(id=f"n{number}").add()
    await receiver.flush()
    last = f"n{MOST_SERIES + _TOO_MANY - 1}"
    _same(await receiver.counter(name, {"id": "n0"}), 1, name)
    _same(await receiver.counter(name, {"id": last}), 0, name)
    _same(await receiver.counter(name, {"id": OTHER}), _TOO_MANY, name)


async def strange_labels_harm_nobody(receiver: Receiver) -> None:
    """Series beside one with a strange label arrive, whatever stands in it."""
    name = _new("strange_total")
    counter = receiver.metrics.counter(name, labels=("text",))
    for text in (
        "a b",
        "a,b=c",
        'a"b\\',
        "a:b|c@d#e",
        "a\nb 1\nc",
        "ä€",
        "a/../b;c~",
        "",
    ):
        counter.labels(text=text).add(5)
    counter.labels(text="plain").add(1)
    await receiver.flush()
    _same(await receiver.counter(name, {"text": "plain"}), 1, name)


CHECKS: Final[Sequence[Check]] = (
    counts_are_exact,
    gauges_keep_their_value,
    labels_label,
    labels_are_not_shared,
    threads_lose_nothing,
    quantiles_are_right,
    wrong_labels_are_refused,
    series_are_bounded,
    strange_labels_harm_nobody,
)
"""All of them."""


def _new(what: str) -> str:
    """Return a name that no receiver has heard yet."""
    return f"k{_PROCESS}_{next(_numbers)}_{what}"


def _same(found: float, wanted: float, what: str) -> None:
    _near(found, wanted, abs(wanted) * 1e-9, what)


def _near(found: float, wanted: float, error: float, what: str) -> None:
    if not abs(found - wanted) <= error:
        raise AssertionError(f"{what}: the receiver has {found}, not {wanted}")


def _raises(do: Callable[[], Any], what: str) -> None:
    try:
        do()
    except ValueError:
        return
    raise AssertionError(f"{what} is not refused")


async def _in_threads(work: Callable[[str], None]) -> None:
    import asyncio

    names = [f"t{number}" for number in range(_THREADS)]
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
