"""Named classes of a type, and the names that they have under ``$defs``."""

from __future__ import annotations

import re
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec.inspect as mi

from kitmsg.codec import is_pydantic, reached

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["NAMED", "literal_orders", "models_of", "names_of", "title_of"]

NAMED: Final = (
    mi.StructType,
    mi.TypedDictType,
    mi.DataclassType,
    mi.NamedTupleType,
    mi.EnumType,
)


def names_of(infos: Iterable[Any], taken: Iterable[str]) -> dict[Any, str]:
    """Return a name for each class: its own, or with its module where two would share it.

    Args:
        infos: Of classes, each once.
        taken: Names that are in use already.
    """
    short: dict[str, list[Any]] = {name: [None] for name in taken}
    for info in infos:
        short.setdefault(_plain(title_of(info.cls)), []).append(info.cls)
    return {
        cls: name if len(classes) == 1 else _plain(_full(cls))
        for name, classes in short.items()
        for cls in classes
        if cls is not None
    }


def title_of(cls: Any) -> str:
    """Return a class's name as a reader writes it: ``Page[list[User]]``."""
    if cls is ...:
        return "..."
    origin, args = get_origin(cls), get_args(cls)
    name = getattr(origin or cls, "__name__", None) or str(cls)
    if not args or (isinstance(cls, type) and origin is None):
        return str(name)
    return f"{name}[{', '.join(title_of(arg) for arg in args)}]"


def _plain(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9.\-_]", "_", name)


def _full(cls: Any) -> str:
    origin = get_origin(cls) or cls
    tail = title_of(cls).removeprefix(origin.__name__)
    return f"{origin.__module__}.{origin.__qualname__}{tail}"


def models_of(infos: Iterable[mi.Type]) -> dict[Any, None]:
    """Return the pydantic models among `infos`, and those that they are made of."""
    found: dict[Any, None] = {}
    waiting: list[Any] = [info.cls for info in infos if isinstance(info, mi.CustomType)]
    while waiting:
        cls = waiting.pop(0)
        if is_pydantic(cls) and cls not in found:
            found[cls] = None
            waiting += [m for field in cls.model_fields.values() for m in _in(field)]
    return found


def _in(field: Any) -> Iterator[Any]:
    try:
        info = mi.type_info(field.annotation)
    except (TypeError, NameError):
        return
    yield from (each.cls for each in reached(info) if isinstance(each, mi.CustomType))


def literal_orders(type_: Any, infos: Iterable[Any]) -> dict[Any, tuple[Any, ...]]:
    """Return the values of each ``Literal`` in the order in which they are written.

    `msgspec.inspect` sorts them, so that one that is added would move the others.

    Args:
        type_: The annotation.
        infos: What it is made of.
    """
    found: dict[Any, tuple[Any, ...]] = {}
    annotations = [type_]
    for info in infos:
        if isinstance(info, NAMED) and not isinstance(info, mi.EnumType):
            annotations += _hints(get_origin(info.cls) or info.cls)
    for annotation in annotations:
        _collect(annotation, found)
    return found


def _hints(cls: Any) -> list[Any]:
    try:
        return list(get_type_hints(cls, include_extras=True).values())
    except (NameError, TypeError):
        return []


def _collect(annotation: Any, found: dict[Any, tuple[Any, ...]]) -> None:
    if get_origin(annotation) is Literal:
        values = tuple(v for v in get_args(annotation) if v is not None)
        found.setdefault(frozenset(values), values)
        return
    for arg in get_args(annotation):
        _collect(arg, found)
