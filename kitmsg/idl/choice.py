"""Options of a union, chosen for a plain value by its tag or its type in msgpack or JSON."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from kitmsg.idl.model import Enum, Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from kitmsg.idl.model import Named, Shape

__all__ = ["chooser", "plain_types", "types_of_values"]

Types: TypeAlias = tuple[type, ...]

_TEXTS: Final = (str, bytes, datetime.datetime)  # msgpack has types for these
_PLAIN: Final[dict[str, Types]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float,),
    "list": (list,),
    "map": (dict,),
    "struct": (dict,),
}


def plain_types(shape: Shape, types: Mapping[str, Named] | None = None) -> Types:
    """Return the types that a plain value of a shape can have.

    Args:
        shape: No union; one of no name without `types`.
        types: The named types of its service.
    """
    named = (types or {}).get(shape.name)
    if isinstance(named, Enum):
        return types_of_values(named.values)
    if isinstance(named, Struct) and named.is_array:
        return (list,)
    return _PLAIN.get(shape.kind, _TEXTS)


def types_of_values(values: Iterable[object]) -> Types:
    """Return the type of an enum's values, in a union: text or integers."""
    return (str,) if any(isinstance(value, str) for value in values) else (int,)


def chooser(
    options: Iterable[tuple[str, Types, str | int | None]], tag_field: str
) -> Callable[[Any], str | None]:
    """Return a function from a plain value to the name of its option; None for none.

    A whole number is the integer's, where there is one beside a number.

    Args:
        options: Name, types of its values, and tag; None for no tag.
        tag_field: Key of the tag in an object; an array's is its first item.
    """
    in_objects: dict[Any, str] = {}
    in_arrays: dict[Any, str] = {}
    by_type: dict[type, str] = {}
    for name, types, tag in options:
        if tag is None:
            by_type |= dict.fromkeys(types, name)
        else:
            (in_arrays if list in types else in_objects)[tag] = name
    if float in by_type:
        by_type.setdefault(int, by_type[float])

    def choose(value: Any) -> str | None:
        kind = type(value)
        name = by_type.get(kind)
        if name is None and kind is dict:
            return in_objects.get(_hashable(value.get(tag_field)))
        if name is None and kind is list:
            return in_arrays.get(_hashable(value[0])) if value else None
        return name

    return choose


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int)) else None
