"""Pickers as text, for command lines: ``p2c``, ``ring:id``, ``outlier,zone:eu-1,p2c``.

Parts are separated by commas, the outermost first; the last one picks, `p2c` where none
does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kitmsg.balance.chance import at_random
from kitmsg.balance.outlier import outlier_ejection
from kitmsg.balance.p2c import p2c
from kitmsg.balance.picker import Picker
from kitmsg.balance.ring import consistent_hash
from kitmsg.balance.roundrobin import round_robin
from kitmsg.balance.routes import Key, key_of
from kitmsg.balance.slowstart import slow_start
from kitmsg.balance.subset import subset
from kitmsg.balance.weighted import weighted
from kitmsg.balance.zone import zone_first

__all__ = ["NamedPicker", "parse_picker"]

_PICK: Final[dict[str, Callable[[], Picker]]] = {
    "p2c": p2c,
    "roundrobin": round_robin,
    "random": at_random,
    "weighted": weighted,
}
_AROUND: Final[dict[str, Callable[[str, Picker], Picker]]] = {
    "zone": zone_first,
    "subset": lambda size, inner: subset(int(size), inner),
    "slowstart": lambda seconds, inner: slow_start(float(seconds), inner),
}
_KNOWN: Final = (
    "p2c, roundrobin, random, weighted or ring:FIELD, with zone:NAME, subset:N,"
    " slowstart:SECONDS or outlier before it, such as outlier,zone:eu-1,p2c"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPicker:
    """A picker that a text means.

    Attributes:
        picker: The picker.
        key: Returns the key of a request, where the picker goes by one.
    """

    picker: Picker
    key: Key | None = None


def parse_picker(text: str) -> NamedPicker:
    """Return the picker that a text means.

    Raises:
        ValueError: It means none.
    """
    *around, last = (part.strip() for part in text.split(","))
    kind, _, by = last.partition(":")
    picker: Picker
    key = None
    if kind == "ring" and by:
        picker, key = consistent_hash(), key_of(by)
    elif last in _PICK:
        picker = _PICK[last]()
    else:
        picker, around = p2c(), [*around, last]
    for part in reversed(around):
        picker = _around(part, picker, text)
    return NamedPicker(picker=picker, key=key)


def _around(part: str, inner: Picker, text: str) -> Picker:
    kind, _, by = part.partition(":")
    if part == "outlier":
        return outlier_ejection(inner)
    if kind not in _AROUND or not by:
        raise ValueError(f"{part!r} in {text!r} is no picker; write {_KNOWN}")
    try:
        return _AROUND[kind](by, inner)
    except ValueError:
        raise ValueError(f"{part!r} in {text!r} has no such number") from None
