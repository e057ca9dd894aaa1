"""The Python types that have a form on the wire, and the bounds of numbers.

`resolve` reads the annotations of a function, `check` refuses what cannot travel, and
`bounded` narrows ``int`` and ``float`` to what every peer can hold.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections import abc
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import children, is_pydantic
from kitmsg.schema.classes import check_classes
from kitmsg.schema.patterns import why_slow
from kitmsg.schema.typevars import open_in

if typing.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "FLOAT_MAX",
    "INT_MAX",
    "INT_MIN",
    "bounded",
    "check",
    "hints_of",
    "item_of",
    "local_names",
    "resolve",
    "spell",
]

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
FLOAT_MAX: Final = sys.float_info.max

_STREAMS = (abc.AsyncIterable, abc.AsyncIterator, abc.AsyncGenerator)
_BLOCKING_STREAMS = (abc.Iterator, abc.Generator)
_USE = (
    "use builtins, dataclasses, msgspec.Struct, enums, datetime, Decimal, UUID, bytes,"
    " or containers, optionals and tagged unions of them"
)


def resolve(
    function: Callable[..., Any], where: str, names: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the annotations of `function` as types, ``Annotated`` kept.

    Names are looked up in the function's module; for a function inside another also in
    its closure and in the calls that are defining it.  ``Context`` and ``AsyncIterator``
    are known even where they are imported for type checkers only.

    Args:
        function: It.
        where: Begins the message.
        names: More names, such as the type variables of its class.

    Raises:
        TypeError: A name in an annotation cannot be found; it says which.
    """
    from kitmsg.context import Context

    plain = inspect.unwrap(function)
    module = getattr(plain, "__globals__", {})
    local = {**(names or {}), **local_names(plain, module), **_closure(plain)}
    for known in (Context, *_STREAMS):
        if known.__name__ not in module:
            local.setdefault(known.__name__, known)
    return hints_of(plain, local, where)


def hints_of(item: Any, local: dict[str, Any], where: str) -> dict[str, Any]:
    """Return the annotations of a function or a class as types, ``Annotated`` kept.

    Args:
        item: Where they are.
        local: Names to look up before the module's.
        where: Begins the message.

    Raises:
        TypeError: A name in an annotation cannot be found; it says which.
    """
    try:
        return typing.get_type_hints(item, localns=local, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{where}: {error} in its annotations; define or import it at the top of"
            " the module, outside `if TYPE_CHECKING`"
        ) from None


def local_names(item: Any, module: dict[str, Any]) -> dict[str, Any]:
    """Return the names that a function or class sees from the functions around it.

    They are the local variables of the calls now running in its module; none for an
    item at the top of it.

    Args:
        item: A function or a class.
        module: The globals of its module.
    """
    names: dict[str, Any] = {}
    if "<locals>" not in getattr(item, "__qualname__", ""):
        return names
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is module and frame.f_locals is not module:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def _closure(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except (TypeError, ValueError):
        return {}


def item_of(annotation: Any, what: str) -> Any:
    """Return the type of the items of a stream; None for an annotation of no stream.

    Args:
        annotation: Such as ``AsyncIterator[int]``.
        what: Begins the message, such as ``Greeter.hello: parameter 'x'``.

    Raises:
        TypeError: It is a blocking iterator, or does not say of what.
    """
    origin = get_origin(annotation) or annotation
    if origin in _BLOCKING_STREAMS:
        raise TypeError(
            f"{what} is a blocking iterator; a stream is an AsyncIterator[...] and its"
            " method is async"
        )
    if origin not in _STREAMS:
        return None
    args = get_args(annotation)
    if not args:
        raise TypeError(f"{what} does not say of what: write AsyncIterator[int]")
    return args[0]


def check(annotation: Any, what: str) -> mi.Type:
    """Return msgspec's description of a type that has a wire form.

    Args:
        annotation: The type.
        what: Begins the message, such as ``Greeter.hello: parameter 'x'``.

    Raises:
        TypeError: It has none; the message names the part that is to blame.
    """
    variables = open_in(annotation)
    if variables:
        raise TypeError(
            f"{what} has the type {spell(annotation)}, and nothing says what"
            f" {variables[0].__name__} stands for; bind it, as in class Mine(Base[int])"
        )
    try:
        info = mi.type_info(annotation)
        msgspec.json.Decoder(annotation)
        msgspec.msgpack.Decoder(annotation)
    except (TypeError, NameError) as error:
        raise TypeError(
            f"{what} has the type {spell(annotation)}, which has no wire form: {error}"
        ) from None
    culprit = _unsupported(info, set())
    if culprit is not None:
        raise TypeError(
            f"{what} has the type {spell(annotation)}, {_blame(annotation, culprit)}"
            f" no wire form; {_USE}"
        )
    check_classes(info, what)
    _check_patterns(info, what, set())
    return info


def _check_patterns(info: mi.Type, what: str, seen: set[int]) -> None:
    """Refuse a pattern by which a text could stop the event loop."""
    if id(info) in seen:
        return
    seen.add(id(info))
    pattern = getattr(info, "pattern", None)
    if isinstance(pattern, str):
        problem = why_slow(pattern, getattr(info, "max_length", None))
        if problem:
            raise TypeError(f"{what}: the pattern {pattern!r} {problem}")
    for child in children(info):
        _check_patterns(child, what, seen)


def _blame(annotation: Any, culprit: type) -> str:
    whole = annotation is culprit
    return "which has" if whole else f"in which {spell(culprit)} has"


def _unsupported(info: mi.Type, seen: set[int]) -> type | None:
    """Return a class inside `info` that neither msgspec nor pydantic can carry."""
    if id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, mi.CustomType):
        return None if is_pydantic(info.cls) else info.cls
    found = (_unsupported(child, seen) for child in children(info))
    return next((cls for cls in found if cls is not None), None)


def spell(annotation: Any) -> str:
    """Return a type as its user would write it."""
    if get_origin(annotation) is None and isinstance(annotation, type):
        name = f"{annotation.__module__}.{annotation.__qualname__}"
        name = name.removeprefix("builtins.").removeprefix("typing.")
        return name.rpartition("<locals>.")[2]
    return str(annotation).replace("typing.", "")


def bounded(annotation: Any) -> Any:
    """Return `annotation` with every int held to 64 bits and every float finite.

    Reaches into builtin containers, optionals and unions; bounds that are there already
    stay.  What is inside classes is left to `kitmsg.schema.validate`.
    """
    if annotation in (int, float):
        return _with_bounds(annotation, ())
    if isinstance(annotation, typing.NewType):
        return bounded(annotation.__supertype__)
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated and args[0] in (int, float):
        return _with_bounds(args[0], args[1:])
    return _rebuilt(annotation, origin, args)


def _rebuilt(annotation: Any, origin: Any, args: tuple[Any, ...]) -> Any:
    """Return a type whose arguments are bounded."""
    if origin is Annotated:
        return Annotated[(bounded(args[0]), *args[1:])]
    if origin in (Union, types.UnionType):
        # msgspec reads past memory where bounds stand beside a tuple; `strict` has them.
        kept = map(_is_fixed_tuple, args)
        return Union[tuple(args if any(kept) else map(bounded, args))]  # noqa: UP007
    if not args or not _is_container(origin):
        return annotation
    return origin[tuple(arg if arg is ... else bounded(arg) for arg in args)]


def _is_fixed_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple and ... not in get_args(annotation)


def _is_container(origin: Any) -> bool:
    return origin in (list, set, frozenset, tuple, dict) or (
        getattr(origin, "__module__", "") == "collections.abc"
    )


def _with_bounds(kind: type, metadata: tuple[Any, ...]) -> Any:
    """Return ``Annotated[kind, ...]`` with the bounds that `metadata` does not set."""
    metas = [m for m in metadata if isinstance(m, msgspec.Meta)]
    low, high = (INT_MIN, INT_MAX) if kind is int else (-FLOAT_MAX, FLOAT_MAX)
    extra: dict[str, Any] = {}
    if all(m.ge is None and m.gt is None for m in metas):
        extra["ge"] = low
    if all(m.le is None and m.lt is None for m in metas):
        extra["le"] = high
    added = (msgspec.Meta(**extra),) if extra else ()
    return Annotated[(kind, *metadata, *added)]
