"""Patterns that may take long: refused where they are declared, not met under load.

Python's ``re``, with which msgspec matches, tries the ways in which a pattern can match one
after the other.  Where a text has many ways to fail, it stops the event loop: for 30
letters, ``^(a+)+$`` takes minutes.  An engine without that weakness (RE2) cannot take its
place inside msgspec's decoder, so each pattern is judged once, when its class is defined.

The judgement is that of Weber and Seidl, "On the degree of ambiguity of finite automata"
(1991), on the pattern's position automaton: two ways from a state back to itself by one
word are exponential; one from a loop into another that both take the same word, by which
each stays, is polynomial, and harmless for short text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from re import _constants as sre, _parser as parser  # type: ignore[attr-defined]
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["why_slow"]

_WORK: Final = 1_000_000  # steps that a match may take: some 20 ms
_MOST_NULLABLE: Final = 4  # repetitions of what may be nothing
_MOST_COPIES: Final = 64  # a longer repetition counts as one without end
_MOST_POSITIONS: Final = 400
_MOST_STEPS: Final = 200_000
_CODE_POINTS: Final = 0x110000
_BEYOND: Final = "é٣\u2003—你\U0001f600"  # one of each kind that is not ASCII
_STARTS: Final = (sre.AT_BEGINNING, sre.AT_BEGINNING_STRING)
_REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_CATEGORIES: Final = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}


class _TooComplex(Exception):
    """The pattern cannot be judged."""


class _Exponential(Exception):
    """The pattern has a loop that one text matches in several ways."""


@lru_cache(maxsize=1024)
def why_slow(pattern: str, max_length: int | None = None) -> str:
    """Return why a pattern may stop an event loop; "" if it cannot.

    Args:
        pattern: A regular expression that Python takes.
        max_length: Most characters of the text; None for no limit.
    """
    try:
        growth = _Automaton(parser.parse(pattern)).growth()
    except _Exponential:
        return (
            "can take exponential time, since one text matches a loop in it in several"
            " ways; write it without loops in loops over the same characters"
        )
    except _TooComplex as exc:
        return f"cannot be judged: {exc}; write it shorter"
    most = int(_WORK ** (1 / growth))
    if growth <= 1 or (max_length is not None and max_length <= most):
        return ""
    return (
        f"can take a time that grows with the text to the power of {growth}; begin it"
        " with '^', let neighbouring loops differ in their characters, or give"
        f" max_length, {most} at most"
    )


@dataclass
class _Part:
    """A piece of a pattern, and the positions that it may begin and end with.

    Attributes:
        empty: In how many ways it matches nothing.
        first: In how many ways it begins at a position.
        last: In how many ways it ends there.
    """

    empty: int = 1
    first: Counter[int] = field(default_factory=Counter)
    last: Counter[int] = field(default_factory=Counter)


class _Automaton:
    """Position automaton (Glushkov's) of a pattern, with the number of ways for each step.

    Args:
        tree: The regular expression, parsed.
        is_anchored: Whether it is tried at one place only, whatever it begins with.
    """

    def __init__(self, tree: Any, *, is_anchored: bool = False) -> None:
        self._tree = tree
        self._is_caseless = bool(tree.state.flags & re.IGNORECASE)
        self._alphabet = _alphabet(tree)
        self._labels: list[int] = []
        self._follow: list[Counter[int]] = []
        self._has_conditions = False
        self._loops_around = 0
        self._beside = 0  # growth of what looks ahead or behind, in the worst place
        self._steps = _MOST_STEPS
        items = list(tree)
        starts = bool(items) and items[0][0] is sre.AT and items[0][1] in _STARTS
        self._is_anchored = starts or is_anchored
        whole = self._sequence(items[1:] if starts else items)
        if not self._has_conditions:
            # Once there, the pattern has matched: nothing is tried any more.
            for position in whole.last:
                self._follow[position].clear()
        self._cannot_fail = bool(whole.empty) and not self._has_conditions
        if not self._is_anchored:  # a search begins anywhere
            start = self._position((1 << len(self._alphabet)) - 1)
            self._follow[start] = Counter({start: 1, **whole.first})

    def growth(self) -> int:
        """Return the power of the text's length with which the time may grow.

        Raises:
            _Exponential: It is none.
            _TooComplex: It cannot be told.
        """
        if self._cannot_fail:
            return 1
        component = self._components()
        loops = [p for p in range(len(self._follow)) if self._stays(p, component)]
        if any(self._is_doubled(p, component) for p in loops):
            raise _Exponential
        if self._is_ambiguous(loops, component):
            raise _Exponential
        after: dict[int, set[int]] = {}
        for p in loops:
            for q in loops:
                if component[p] != component[q] and self._leads(p, q, component):
                    after.setdefault(component[p], set()).add(component[q])
        return max(1 + _longest(after), self._beside)

    # -- reading the pattern

    def _position(self, label: int) -> int:
        if len(self._labels) >= _MOST_POSITIONS:
            raise _TooComplex(f"it has more than {_MOST_POSITIONS} parts")
        self._labels.append(label)
        self._follow.append(Counter())
        return len(self._labels) - 1

    def _leaf(self, label: int) -> _Part:
        position = self._position(label)
        only = Counter({position: 1})
        return _Part(0, only, only)

    def _sequence(self, items: Iterable[Any]) -> _Part:
        whole = _Part()
        for item in items:
            whole = self._joined(whole, self._item(*item))
        return whole

    def _joined(self, one: _Part, two: _Part) -> _Part:
        self._link(one.last, two.first)
        first = one.first + _times(two.first, one.empty)
        last = _times(one.last, two.empty) + two.last
        return _Part(one.empty * two.empty, first, last)

    def _link(self, last: Counter[int], first: Counter[int]) -> None:
        for position, ways in last.items():
            for after, more in first.items():
                self._follow[position][after] += ways * more

    def _item(self, kind: Any, value: Any) -> _Part:
        if kind in _REPEATS:
            return self._repeat(*value)
        if kind is sre.SUBPATTERN:
            self._is_caseless |= bool(value[1] & re.IGNORECASE)
            return self._sequence(value[3])
        if kind is sre.ATOMIC_GROUP:
            return self._sequence(value)
        if kind is sre.BRANCH:
            return self._branch(value[1])
        return self._simple(kind, value)

    def _simple(self, kind: Any, value: Any) -> _Part:
        if kind is sre.AT:
            self._has_conditions = True
            return _Part()
        if kind in (sre.ASSERT, sre.ASSERT_NOT):
            self._look(value[1])
            return _Part()
        if kind is sre.GROUPREF:  # it matches anything, for all that is known here
            self._has_conditions = True
            part = self._leaf((1 << len(self._alphabet)) - 1)
            self._link(part.last, part.first)
            return _Part(1, part.first, part.last)
        return self._leaf(self._label(kind, value))

    def _look(self, body: Any) -> None:
        """Judge what is looked for ahead or behind: it is tried wherever it stands."""
        self._has_conditions = True
        body.state = self._tree.state
        growth = _Automaton(body, is_anchored=True).growth()
        is_once = self._is_anchored and not self._loops_around
        self._beside = max(self._beside, growth if is_once else growth + 1)

    def _branch(self, branches: Iterable[Any]) -> _Part:
        parts = [self._sequence(branch) for branch in branches]
        first: Counter[int] = Counter()
        last: Counter[int] = Counter()
        for part in parts:
            first, last = first + part.first, last + part.last
        return _Part(sum(part.empty for part in parts), first, last)

    def _repeat(self, least: int, most: Any, body: Any) -> _Part:
        if most is sre.MAXREPEAT or most > _MOST_COPIES:
            self._loops_around += 1
            part = self._sequence(body)
            self._loops_around -= 1
            self._link(part.last, part.first)
            return _Part(part.empty or int(not least), part.first, part.last)
        found = _Part()  # what may follow is in what may follow: x(x(x)?)?
        for at in range(most, 0, -1):
            each = self._sequence(body)
            if each.empty and most > _MOST_NULLABLE:
                raise _Exponential
            found = self._joined(each, found)
            found.empty = found.empty or int(at > least)
        return found

    def _label(self, kind: Any, value: Any) -> int:
        fits = self._test(kind, value)
        bits = 0
        for at, character in enumerate(self._alphabet):
            forms = {character}
            if self._is_caseless:
                forms |= {character.lower(), character.upper()}
            if any(fits(form) for form in forms):
                bits |= 1 << at
        return bits

    def _test(self, kind: Any, value: Any) -> Callable[[str], bool]:
        if kind is sre.IN:
            is_not = value[0][0] is sre.NEGATE
            tests = [self._test(*each) for each in value[1 if is_not else 0 :]]
            return lambda character: is_not != any(test(character) for test in tests)
        if kind is sre.RANGE:
            return lambda c: len(c) == 1 and value[0] <= ord(c) <= value[1]
        if kind is sre.CATEGORY:
            matches = re.compile(_CATEGORIES[value]).fullmatch
            return lambda character: bool(matches(character))
        if kind not in (sre.ANY, sre.LITERAL, sre.NOT_LITERAL):
            raise _TooComplex(f"it has {kind}")
        is_any, is_not = kind is sre.ANY, kind is sre.NOT_LITERAL
        return lambda character: is_any or is_not != (ord(character[0]) == value)

    # -- judging it

    def _stays(self, position: int, component: list[int]) -> bool:
        """Tell whether a position is on a loop."""
        return any(
            component[after] == component[position]
            and (after != position or self._follow[position][position])
            for after in self._follow[position]
        )

    def _components(self) -> list[int]:
        """Return for each position the loop that it is on: two that reach each other."""
        count = len(self._labels)
        reach = [self._reached(position) for position in range(count)]
        found = list(range(count))
        for one in range(count):
            for other in reach[one]:
                if one in reach[other]:
                    found[one] = min(found[one], other)
        return found

    def _reached(self, start: int) -> set[int]:
        seen: set[int] = set()
        waiting = list(self._follow[start])
        while waiting:
            at = waiting.pop()
            if at not in seen:
                seen.add(at)
                waiting += self._follow[at]
        return seen

    def _is_doubled(self, position: int, component: list[int]) -> bool:
        """Tell whether there are two ways for one step on a loop."""
        return any(
            ways > 1 and component[after] == component[position]
            for after, ways in self._follow[position].items()
        )

    def _is_ambiguous(self, loops: list[int], component: list[int]) -> bool:
        """Tell whether two ways lead from a position back to it by one word."""
        edges: dict[tuple[int, int], list[tuple[int, int]]] = {}
        waiting = [(p, p) for p in loops]
        while waiting:
            pair = waiting.pop()
            if pair in edges:
                continue
            edges[pair] = after = self._after(pair, component)
            waiting += after
        back: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for pair, after in edges.items():
            for each in after:
                back.setdefault(each, []).append(pair)
        seen: set[tuple[int, ...]] = set()
        waiting = [(p, p) for p in loops]
        while waiting:
            pair = waiting.pop()
            if pair not in seen:
                seen.add(pair)
                waiting += back.get(pair, ())
        return any(p != q for p, q in seen)

    def _after(
        self, pair: tuple[int, int], component: list[int]
    ) -> list[tuple[int, int]]:
        one, two = pair
        found = [
            (p, q)
            for p in self._follow[one]
            for q in self._follow[two]
            if component[p] == component[one]
            and component[q] == component[two]
            and self._labels[p] & self._labels[q]
        ]
        self._spend(len(self._follow[one]) * len(self._follow[two]))
        return found

    def _leads(self, one: int, two: int, component: list[int]) -> bool:
        """Tell whether a word stays at `one`, stays at `two`, and leads between them."""
        seen: set[tuple[int, int, int]] = set()
        waiting = [(one, one, two)]
        while waiting:
            a, b, c = waiting.pop()
            for p in self._follow[a]:
                if component[p] != component[one]:
                    continue
                for r in self._follow[c]:
                    both = self._labels[p] & self._labels[r]
                    if component[r] != component[two] or not both:
                        continue
                    for q in self._follow[b]:
                        self._spend(1)
                        after = (p, q, r)
                        if not both & self._labels[q] or after in seen:
                            continue
                        if after == (one, two, two):
                            return True
                        seen.add(after)
                        waiting.append(after)
        return False

    def _spend(self, steps: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise _TooComplex("it has too many ways")


def _times(ways: Counter[int], factor: int) -> Counter[int]:
    return Counter({position: n * factor for position, n in ways.items() if factor})


def _longest(after: dict[int, set[int]]) -> int:
    """Return the steps of the longest way in a graph without circles."""
    known: dict[int, int] = {}

    def from_(node: int) -> int:
        if node not in known:
            known[node] = max(
                (1 + from_(each) for each in after.get(node, ())), default=0
            )
        return known[node]

    return max(map(from_, after), default=0)


def _alphabet(tree: Any) -> str:
    """Return characters of which each stands for all that a pattern treats alike."""
    found = {chr(code) for code in range(128)} | set(_BEYOND)
    waiting = [tree]
    while waiting:
        each = waiting.pop()
        if isinstance(each, (list, tuple, parser.SubPattern)):
            waiting += list(each)
            continue
        if type(each) is int and each < _CODE_POINTS:
            near = (each - 1, each, each + 1)
            found |= {chr(at) for at in near if 0 <= at < _CODE_POINTS}
    return "".join(sorted(found))
