"""The in-memory provider: instruments that keep plain numbers until somebody reads them.

Every backend reads from here, a page when it is asked for, a push loop at its interval; so
a receiver that is slow or gone costs the code that counts nothing.  Tests read it directly:

    metrics = MemoryMetrics()
    ...
    assert metrics.value("orders_placed_total", country="de") == 3

Hot path: `add` is an addition under the family's lock, since a service's threads count too;
`observe` appends to a list.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from functools import lru_cache
from threading import Lock
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Generic,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    cast,
)

from kitmsg.context import NOWHERE, entered
from kitmsg.metrics.exemplars import trace_of
from kitmsg.metrics.families import Distribution, Exemplar, Family
from kitmsg.metrics.names import check_bounds, check_names, names_on_a_page
from kitmsg.metrics.stats import BOUNDS_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kitmsg.metrics.families import Collect
    from kitmsg.metrics.provider import Counter, Gauge, Histogram

__all__ = ["MOST_SERIES", "OTHER", "MemoryMetrics"]

MOST_SERIES: Final = 1_000
"""Series of a name; what comes after is counted under labels that are all `OTHER`."""

OTHER: Final = "other"

_MAX_VALUE: Final = 200  # of a label, in characters
_STEPS: Final = 32  # fine buckets for each power of two: 3 % apart
_HALF: Final = 2 * _STEPS
_LEAST: Final = -64  # exponent; what is smaller counts as 0
_MOST: Final = 128  # exponent; what is larger counts as that large
_BATCH: Final = 64  # observations that are counted together
_SAMPLED: Final = 15  # one observation in 16 may become an exemplar
_CACHED: Final = 4_096

C = TypeVar("C", bound="_Cell")


class _Cell:
    """One series.

    `bound` never changes, so a cell can be shared.  Its numbers change under the lock of
    its family.
    """

    __slots__ = ("_family", "bound")
    kind: ClassVar[Literal["counter", "gauge", "histogram"]]

    def __init__(self, family: _Instrument[Any], bound: dict[str, str]) -> None:
        self._family = family
        self.bound = bound

    def labels(self, **labels: str) -> Self:
        return cast("Self", self._family.bind(self.bound, labels))

    def show(self, family: Family) -> None:
        """Add the numbers as they are now."""
        raise NotImplementedError


class _Unbound:
    """An instrument some of whose labels are not bound yet."""

    __slots__ = ("_family", "bound")

    def __init__(self, family: _Instrument[Any], bound: dict[str, str]) -> None:
        self._family = family
        self.bound = bound

    def labels(self, **labels: str) -> Any:
        return self._family.bind(self.bound, labels)

    def add(self, amount: float = 1.0, /) -> NoReturn:
        raise self._error()

    def set(self, value: float, /) -> NoReturn:
        raise self._error()

    def observe(self, value: float, /) -> NoReturn:
        raise self._error()

    def _error(self) -> ValueError:
        missing = [name for name in self._family.names if name not in self.bound]
        example = ", ".join(f"{name}=..." for name in missing)
        return ValueError(
            f"{self._family.name} has labels that are not bound: .labels({example})"
        )


class _Number(_Cell):
    __slots__ = ("value",)

    def __init__(self, family: _Instrument[Any], bound: dict[str, str]) -> None:
        super().__init__(family, bound)
        self.value = 0.0

    def show(self, family: Family) -> None:
        family.samples.append((self.bound, self.value))


class _Counter(_Number):
    __slots__ = ()
    kind = "counter"

    def add(self, amount: float = 1.0, /) -> None:
        if not 0 <= amount < math.inf:  # NaN too
            raise ValueError(f"{self._family.name} cannot rise by {amount}")
        with self._family.lock:
            self.value += amount


class _Gauge(_Number):
    __slots__ = ()
    kind = "gauge"

    def set(self, value: float, /) -> None:
        if math.isfinite(value):
            self.value = float(value)

    def add(self, amount: float = 1.0, /) -> None:
        if math.isfinite(amount):
            with self._family.lock:
                self.value += amount


class _Histogram(_Cell):
    """A series of a histogram: an observation is put down, and counted later, in batches.

    `_pending` is appended to without the lock, which a list allows; what is in it is taken
    out and counted under the lock.
    """

    __slots__ = ("_pending", "counts", "exemplars", "fine", "total")
    kind = "histogram"

    def __init__(self, family: _Instrument[Any], bound: dict[str, str]) -> None:
        super().__init__(family, bound)
        self._pending: list[float] = []
        self.counts = [0] * (len(family.bounds) + 1)
        self.total = 0.0
        self.fine: dict[int, int] = {}  # of a family that is fine
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, /) -> None:
        pending = self._pending
        pending.append(value + 0.0)  # what is no number fails here, not in the batch
        number = len(pending)
        if number >= _BATCH:
            with self._family.lock:
                self._count()
        if number & _SAMPLED == 1:
            context = entered(NOWHERE)
            if context.message is not None and (trace := trace_of(context.message)):
                bucket = bisect_left(self._family.bounds, value)
                self.exemplars[bucket] = Exemplar(*trace, value, time.time())

    def show(self, family: Family) -> None:
        of = self._family
        with of.lock:
            self._count()
            fine = sorted(self.fine.items())
            counts, total = self.counts.copy(), self.total
        buckets = [(*_fine_bounds(key), count) for key, count in fine]
        family.distributions.append(
            Distribution(
                self.bound, of.bounds, counts, total, buckets, {**self.exemplars}
            )
        )

    def _count(self) -> None:
        """Count what is pending; under the lock."""
        batch = self._pending[:]
        del self._pending[: len(batch)]  # other threads may have added some
        batch = [value for value in batch if -math.inf < value < math.inf]
        bounds, counts = self._family.bounds, self.counts
        for value in batch:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(batch)
        if self._family.is_fine:
            _count_fine(self.fine, batch)


class _Instrument(Generic[C]):
    """A family of cells."""

    def __init__(
        self,
        cell: type[C],
        name: str,
        text: str,
        names: Sequence[str],
        bounds: Sequence[float] = (),
        *,
        is_fine: bool = False,
    ) -> None:
        if isinstance(names, str):  # one name, not its letters
            names = (names,)
        check_names(cell.kind, name, names)
        check_bounds(name, bounds)
        self.name = name
        self.text = text
        self.names = tuple(names)
        self.bounds = tuple(map(float, bounds))
        self.is_fine = is_fine
        self.lock = Lock()
        self.cells: dict[tuple[str, ...], C] = {}
        self._cell = cell

    @property
    def kind(self) -> str:
        """The kind of its cells."""
        return self._cell.kind

    @property
    def facts(self) -> str:
        """Kind, labels and bounds, which two instruments of one name have alike."""
        labels = f"labels {', '.join(self.names)}" if self.names else "no labels"
        bounds = f" and bounds {self.bounds}" if self.bounds else ""
        return f"{self._cell.kind} with {labels}{bounds}"

    def bind(self, bound: dict[str, str], labels: dict[str, str]) -> C | _Unbound:
        """Return the cell with `labels` besides those that are bound."""
        for name in labels:
            if name not in self.names:
                known = ", ".join(self.names) or "none"
                raise ValueError(f"{self.name} has no label {name!r}: it has {known}")
            if name in bound:
                raise ValueError(f"label {name!r} of {self.name} is bound already")
        # A new dict each time: siblings must never share one.
        values = {name: str(value)[:_MAX_VALUE] for name, value in labels.items()}
        both = {**bound, **values}
        if len(both) < len(self.names):
            return _Unbound(self, both)
        key = tuple(both[name] for name in self.names)
        with self.lock:
            cell = self.cells.get(key)
            if cell is None:
                if len(self.cells) >= MOST_SERIES:
                    key = (OTHER,) * len(key)
                    if (other := self.cells.get(key)) is not None:
                        return other
                named = dict(zip(self.names, key, strict=True))
                cell = self.cells[key] = self._cell(self, named)
        return cell

    def family(self) -> Family:
        """Return the numbers as they are now."""
        with self.lock:
            cells = list(self.cells.values())
        family = Family(self.name, self._cell.kind, self.text)
        for cell in cells:
            cell.show(family)
        return family


class MemoryMetrics:
    """Counters, gauges and histograms of one process; a `Provider`.

    Args:
        fine: Whether histograms keep narrow buckets too, 3 % wide, for backends that show
            quantiles.
    """

    def __init__(self, *, fine: bool = False) -> None:
        self._fine = fine
        self._lock = Lock()
        self._instruments: dict[str, _Instrument[Any]] = {}
        self._others: list[Collect] = []
        # Names of families and samples, and whose they are; under the lock.
        self._taken: dict[str, str] = {}

    def counter(
        self, name: str, text: str = "", /, *, labels: Sequence[str] = ()
    ) -> Counter:
        """Return a counter, see `Provider.counter`."""
        made = name if name.endswith("_total") else f"{name}_total"
        return cast("Counter", self._made(_Instrument(_Counter, made, text, labels)))

    def gauge(
        self, name: str, text: str = "", /, *, labels: Sequence[str] = ()
    ) -> Gauge:
        """Return a gauge, see `Provider.gauge`."""
        return cast("Gauge", self._made(_Instrument(_Gauge, name, text, labels)))

    def histogram(
        self,
        name: str,
        text: str = "",
        /,
        *,
        labels: Sequence[str] = (),
        bounds: Sequence[float] = BOUNDS_SECONDS,
    ) -> Histogram:
        """Return a histogram, see `Provider.histogram`."""
        made = _Instrument(_Histogram, name, text, labels, bounds, is_fine=self._fine)
        return cast("Histogram", self._made(made))

    def register(self, collect: Collect) -> None:
        """Show what `collect` makes, too; once, however often it is registered."""
        if not self.shows(collect):
            self._others.append(collect)

    def shows(self, collect: Collect) -> bool:
        """Whether `collect` is registered."""
        return collect in self._others

    def collect(self) -> Iterator[Family]:
        """Yield all that was counted, and what is shown beside it."""
        with self._lock:
            instruments = list(self._instruments.values())
        for instrument in instruments:
            yield instrument.family()
        for others in self._others:
            yield from others()

    def value(self, name: str, /, **labels: str) -> float:
        """Return the value of a counter or gauge, or a histogram's number of observations.

        0.0 for a series that nobody has counted.
        """
        for family in self.collect():
            if family.name != name:
                continue
            values = [(own, value) for own, value in family.samples]
            values += [(each.labels, each.count) for each in family.distributions]
            return next((value for own, value in values if own == labels), 0.0)
        return 0.0

    def _made(self, new: _Instrument[Any]) -> object:
        """Return the instrument of that name, `new` if it is the first."""
        with self._lock:
            there = self._instruments.get(new.name)
            if there is None:
                self._take_names(new)
                there = self._instruments[new.name] = new
        if there.facts != new.facts:
            raise ValueError(
                f"{new.name} is a {there.facts} already; it cannot be a {new.facts} too"
            )
        return there.bind({}, {})

    def _take_names(self, new: _Instrument[Any]) -> None:
        """Note the names that an instrument has on a page; under the lock."""
        names = names_on_a_page(new.kind, new.name)
        for name in names:
            if (other := self._taken.get(name)) is not None:
                raise ValueError(
                    f"{new.name} cannot be a {new.kind}: {other} has the name {name} on a"
                    " page; choose another"
                )
        self._taken.update(dict.fromkeys(names, new.name))


def _count_fine(fine: dict[int, int], values: list[float]) -> None:
    """Count values in fine buckets, by their numbers, which rise with values."""
    split, known = math.frexp, fine.get
    for value in values:
        fraction, exponent = split(value)
        if exponent < _LEAST or not fraction:
            key = 0
        elif fraction > 0:
            key = (min(exponent, _MOST) - _LEAST) * _HALF + int(fraction * _HALF)
        else:
            key = (_LEAST - min(exponent, _MOST)) * _HALF + int(fraction * _HALF)
        fine[key] = known(key, 0) + 1


@lru_cache(_CACHED)
def _fine_bounds(key: int) -> tuple[float, float]:
    """Return the bounds of the fine bucket `key`."""
    if not key:
        return 0.0, 0.0
    exponent, step = divmod(abs(key), _HALF)
    near = math.ldexp(step / _HALF, exponent + _LEAST)
    far = math.ldexp((step + 1) / _HALF, exponent + _LEAST)
    return (near, far) if key > 0 else (-far, -near)
