"""Sets what msgspec leaves unset in the dataclasses it decodes.

A field with a plain default is also an attribute of its class, so msgspec finds it there
and does not set it on the object; and it encodes only what is on the object.  A service
that passes on what it received would lose those fields on the wire.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import children

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["filled"]


def filled(decode: Callable[[Any], Any], info: mi.Type) -> Callable[[Any], Any]:
    """Return `decode` with every default set on the objects it returns.

    It is `decode` itself where `info` holds no dataclass with a plain default.
    """
    if not _is_concerned(info, set()):
        return decode

    def read(data: Any) -> Any:
        value = decode(data)
        _fill(value)
        return value

    return read


def _is_concerned(info: mi.Type, seen: set[int]) -> bool:
    """Tell whether a dataclass with a plain default is in `info`; types may recur."""
    if id(info) in seen:
        return False
    seen.add(id(info))
    if isinstance(info, mi.DataclassType) and _plain_defaults(info.cls):
        return True
    return any(_is_concerned(child, seen) for child in children(info))


def _plain_defaults(cls: type) -> dict[str, Any]:
    """Return the defaults that stand on the class, by field; none if it has slots."""
    if not dataclasses.is_dataclass(cls) or not cls.__dictoffset__:
        return {}
    return {
        field.name: field.default
        for field in dataclasses.fields(cls)
        if field.init and field.default is not dataclasses.MISSING
    }


def _fill(value: Any) -> None:
    # Decoded values are trees, no deeper than the decoder let them be.
    if isinstance(value, dict):
        for item in value.values():
            _fill(item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            _fill(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            _fill(getattr(value, name))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _fill_dataclass(value)


def _fill_dataclass(value: Any) -> None:
    own = getattr(value, "__dict__", None)
    for field in dataclasses.fields(value):
        if own is not None and field.init and field.name not in own:
            own[field.name] = field.default
        _fill(getattr(value, field.name, None))
