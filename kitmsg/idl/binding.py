"""Binds the names of an IDL to those of a live schema: what gRPC and Thrift do alike.

A name is bound by its annotation where the IDL has one, else to its equal, else to the
only one that differs in nothing but case, underscores and hyphens.

The direction of a value decides what has to be there.  A request goes ``in``: the IDL must
not have what the endpoint does not know, nor lack what it needs.  A reply goes ``out``: the
IDL must have no field that the endpoint does not give, and each option and enum value that
it may give.  A field that has only one value may be there or not.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeAlias, TypeVar

from kitmsg.idl.model import Enum, Field, Shape
from kitmsg.idl.naming import fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from kitmsg.idl.model import Option, Struct, Union

__all__ = [
    "ERROR_FIELDS",
    "Bound",
    "Direction",
    "Mismatch",
    "Names",
    "are_numbers",
    "bind_fields",
    "bind_options",
    "bind_values",
    "constant_number",
    "find_service",
    "nearest",
    "read_map",
    "unknown_field",
]

T = TypeVar("T")
S = TypeVar("S")
Direction: TypeAlias = Literal["in", "out"]

ERROR_FIELDS: Final = frozenset({"err", "error"})
"""Text fields of a reply that tell of a declared error, as Go kit's examples name them."""

_INT32: Final = range(-(2**31), 2**31)
_SUFFIX: Final = re.compile(r"(?<=.)(service|server|svc)$")
_TARGET: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")
_VERBS: Final = {"in": ("take", "needs"), "out": ("give", "gives")}


class Mismatch(ValueError):
    """An IDL and a live schema do not fit; the message names the field."""


class Names(Generic[T]):
    """Things by name, found by names in another style too.

    Args:
        known: The things by their own names.
    """

    def __init__(self, known: Mapping[str, T]) -> None:
        self._known = known
        self._folded: dict[str, list[str]] = {}
        for name in known:
            self._folded.setdefault(fold(name), []).append(name)

    def key(self, name: str, alias: str | None = None) -> str | None:
        """Return the name here of what an IDL calls `name`; None if there is none.

        Args:
            name: In the IDL.
            alias: The name here, where the IDL is annotated with it.
        """
        if alias is not None:
            return alias if alias in self._known else None
        if name in self._known:
            return name
        alike = self._folded.get(fold(name), ())
        return alike[0] if len(alike) == 1 else None

    def find(self, name: str, alias: str | None = None) -> T | None:
        """Return what an IDL calls `name`; None if there is none, or several."""
        key = self.key(name, alias)
        return None if key is None else self._known[key]


@dataclass(frozen=True, slots=True)
class Bound(Generic[T, S]):
    """Members of an IDL's type with those of a live schema's.

    Attributes:
        pairs: A member of the IDL, and the one here that it stands for.
        extra: Names in the IDL that must not be there.
        missing: Names here that the IDL must have.
        direction: Of the values.
        noun: ``field``, ``option`` or ``value``.
        known: All names here.
    """

    pairs: Sequence[tuple[T, S]]
    extra: Sequence[str]
    missing: Sequence[str]
    direction: Direction
    noun: str
    known: Sequence[str]

    def problems(self, owner: str, endpoint: str) -> list[str]:
        """Return a sentence for each member that does not fit.

        Args:
            owner: Name of the IDL's type.
            endpoint: Name of the endpoint, or another subject of the sentence.
        """
        needs = _VERBS[self.direction][1]
        lacking = [
            f"{owner} lacks the {self.noun} {name!r}, which {endpoint} {needs}"
            for name in self.missing
        ]
        return lacking + [
            unknown_field(f"{owner}.{name}", endpoint, self.direction, self.known)
            for name in self.extra
        ]


def unknown_field(
    field: str, endpoint: str, direction: Direction, known: Iterable[str]
) -> str:
    """Return the sentence about a field of an IDL that an endpoint does not have."""
    has = ", ".join(known) or "none"
    return f"{field}: {endpoint} does not {_VERBS[direction][0]} it; it has {has}"


def bind_fields(
    theirs: Mapping[str, T],
    struct: Struct,
    direction: Direction,
    aliases: Mapping[str, str | None] | None = None,
) -> Bound[T, Field]:
    """Return the fields of an IDL's message with those of `struct`.

    Args:
        theirs: The IDL's fields by name.
        struct: The live type.
        direction: Of its values.
        aliases: Names here by the IDL's, where those are annotated.
    """
    fixed = [_constant_field(name, value) for name, value in struct.constants]
    known = {field.name: field for field in (*struct.fields, *fixed)}
    names, aliases = Names(known), aliases or {}
    pairs, extra = _paired(theirs, known, lambda n: names.key(n, aliases.get(n)))
    there = {field.name for _, field in pairs}
    needed = [f.name for f in struct.fields if f.is_required and f.name not in there]
    missing = needed if direction == "in" else []
    return Bound(pairs, extra, missing, direction, "field", list(known))


def _constant_field(name: str, value: str | int) -> Field:
    shape = Shape("str" if isinstance(value, str) else "int")
    return Field(name, shape, is_required=False, constant=value)


def constant_number(
    theirs: Mapping[str, int],
    value: str | int,
    aliases: Mapping[str, str] | None = None,
    prefix: str = "",
) -> int | None:
    """Return the number in an IDL's enum of the only value of a field; None for none.

    Arguments are as in `bind_values`; values that the field never has do not matter.
    """
    enum = Enum("", (value,))
    pairs = bind_values(theirs, enum, "out", aliases, prefix).pairs
    return pairs[0][0] if pairs else None


def bind_options(
    theirs: Mapping[str, T],
    union: Union,
    direction: Direction,
    aliases: Mapping[str, str | None] | None = None,
    types: Mapping[str, str] | None = None,
) -> Bound[T, Option]:
    """Return the options of an IDL's union with those of `union`.

    An option goes by its name, its type's or its tag.

    Args:
        theirs: The IDL's options by name.
        union: The live type.
        direction: Of its values.
        aliases: Names here by the IDL's, where those are annotated.
        types: Names of the options' types in the IDL, by the options' names.
    """
    known = {option.name: option for option in union.options}
    labels = {name: name for name in known}
    for option in union.options:
        labels.setdefault(option.shape.name or option.name, option.name)
        labels.setdefault(str(option.tag or option.name), option.name)
    names, aliases, types = Names(labels), aliases or {}, types or {}
    pairs, extra = _paired(
        theirs,
        known,
        lambda n: names.find(n, aliases.get(n)) or labels.get(types.get(n, "")),
    )
    there = {option.name for _, option in pairs}
    missing = [name for name in known if name not in there]
    return _choice(pairs, extra, missing, direction, "option", list(known))


def bind_values(
    theirs: Mapping[str, int],
    enum: Enum,
    direction: Direction,
    aliases: Mapping[str, str] | None = None,
    prefix: str = "",
) -> Bound[int, str | int]:
    """Return the numbers of an IDL's enum with the values of `enum`.

    Values that are all numbers go by number, others by name.

    Args:
        theirs: The IDL's numbers by name; several names may have one.
        enum: The live type.
        direction: Of its values.
        aliases: Values here by the IDL's names, where those are annotated.
        prefix: Optional prefix of each name, such as the enum's own.
    """
    known = {str(value): value for value in enum.values}
    names, aliases, before = Names(known), aliases or {}, fold(prefix)
    numbers = {value for value in enum.values if isinstance(value, int)}
    has_names = not are_numbers(enum.values)

    def key_of(name: str, number: int) -> str | None:
        key = names.key(name, aliases.get(name)) if has_names else None
        if key is None and has_names:
            key = names.key(fold(name).removeprefix(before))
        return str(number) if key is None and number in numbers else key

    found: dict[int, str] = {}
    taken: dict[str, int] = {}
    for name, number in theirs.items():
        key = key_of(name, number)
        if key is not None and taken.setdefault(key, number) == number:
            found.setdefault(number, key)
    pairs = [(number, known[key]) for number, key in found.items()]
    extra = [name for name, number in theirs.items() if number not in found]
    missing = [key for key in known if key not in taken]
    return _choice(pairs, extra, missing, direction, "value", list(known))


def are_numbers(values: Sequence[str | int]) -> bool:
    """Tell whether enum values are numbers that fit the wire of gRPC and Thrift."""
    return all(isinstance(value, int) and value in _INT32 for value in values)


def _paired(
    theirs: Mapping[str, T], known: Mapping[str, S], find: Callable[[str], str | None]
) -> tuple[list[tuple[T, S]], list[str]]:
    """Return the pairs, and the names of the IDL that have no partner of their own."""
    pairs: list[tuple[T, S]] = []
    extra: list[str] = []
    taken: set[str] = set()
    for name, item in theirs.items():
        key = find(name)
        if key is None or key in taken:
            extra.append(name)
        else:
            taken.add(key)
            pairs.append((item, known[key]))
    return pairs, extra


def _choice(
    pairs: Sequence[tuple[T, S]],
    extra: Sequence[str],
    missing: Sequence[str],
    direction: Direction,
    noun: str,
    known: Sequence[str],
) -> Bound[T, S]:
    """Return a bound choice: a request need not know every member of one."""
    is_in = direction == "in"
    return Bound(
        pairs,
        extra if is_in else (),
        () if is_in else missing,
        direction,
        noun,
        known,
    )


def find_service(spellings: Sequence[str], known: Iterable[str]) -> str:
    """Return the service on the bus that an IDL means; "" if there is none.

    ``AddService`` is the service ``add_service``, else ``add``, ``addsvc`` or such.

    Args:
        spellings: Names in the IDL, the best first.
        known: The services on the bus.
    """
    services = list(known)
    names = Names({service: service for service in services})
    for spelling in spellings:
        if (found := names.find(spelling)) is not None:
            return found
    stems = {_stem(service): service for service in reversed(services)}
    return next((stems[s] for s in map(_stem, spellings) if s in stems), "")


def _stem(name: str) -> str:
    return _SUFFIX.sub("", fold(name))


def read_map(
    entries: Iterable[str],
    services: Mapping[str, Iterable[str]],
    separator: str,
    idl: str,
) -> dict[str, str]:
    """Return a user's mapping: names in an IDL to names on the bus.

    Args:
        entries: Such as ``AddService=addsvc`` and ``AddService.Sum=addsvc.sum``.
        services: Names of the methods by their service's, as the IDL has them.
        separator: Between service and method.
        idl: Kind of file, for messages, such as ``.thrift``.

    Raises:
        ValueError: An entry is malformed, or names what the IDL has not.
    """
    methods = {f"{s}{separator}{m}" for s, all_ in services.items() for m in all_}
    found: dict[str, str] = {}
    for entry in entries:
        source, _, target = entry.partition("=")
        if source not in services and source not in methods:
            near = nearest(source, services, methods)
            raise ValueError(
                f"map {entry!r}: there is no {source!r} in the {idl}; {near}"
            )
        is_method = source in methods
        if not _TARGET.fullmatch(target) or target.count(".") != is_method:
            form = "SERVICE.ENDPOINT" if is_method else "SERVICE"
            raise ValueError(f"map {entry!r}: write {source}={form}")
        found[source] = target
    return found


def nearest(name: str, listed: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return the end of a sentence: the name that may be meant, else those there are.

    Args:
        name: A name that is not there.
        listed: Names that are.
        others: More of them, which are not listed.
    """
    known = sorted(listed)
    near = difflib.get_close_matches(name, [*known, *others], n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
