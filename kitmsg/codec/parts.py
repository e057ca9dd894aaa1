"""The parts that a type is made of, as `msgspec.inspect` describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec.inspect as mi

from kitmsg.codec.models import differs, is_pydantic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["children", "holds_times", "holds_two_forms", "reached"]


def children(info: mi.Type) -> Iterator[mi.Type]:
    """Yield the types that `info` is directly made of."""
    for name in ("type", "item_type", "key_type", "value_type"):
        child = getattr(info, name, None)
        if isinstance(child, mi.Type):
            yield child
    for name in ("types", "item_types"):
        yield from getattr(info, name, ())
    for field in getattr(info, "fields", ()):
        yield field.type


def reached(info: mi.Type) -> Iterator[mi.Type]:
    """Yield `info` and all that it is made of, each once; types may recur."""
    seen: dict[int, mi.Type] = {}
    waiting = [info]
    while waiting:
        each = waiting.pop()
        if id(each) not in seen:
            seen[id(each)] = each
            yield each
            waiting += children(each)


def holds_times(type_: Any) -> bool:
    """Tell whether values of a type may hold a time with an offset."""
    times = (mi.DateTimeType, mi.AnyType, mi.RawType)
    return any(isinstance(each, times) for each in _parts(type_))


def holds_two_forms(type_: Any) -> bool:
    """Tell whether a type holds a pydantic model that is read otherwise than written."""
    return any(
        isinstance(each, mi.CustomType) and is_pydantic(each.cls) and differs(each.cls)
        for each in _parts(type_)
    )


def _parts(type_: Any) -> Iterator[mi.Type]:
    try:
        info = mi.type_info(type_)
    except (TypeError, NameError):
        info = mi.AnyType()
    return reached(info)
