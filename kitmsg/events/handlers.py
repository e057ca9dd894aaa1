"""Methods that take events, or nothing: their parameters, checked where they are defined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from kitmsg.context import Context
from kitmsg.schema.calls import Shape

__all__ = ["handler_shape"]


def handler_shape(
    method: Callable[..., Any],
    where: str,
    events: Sequence[type] = (),
    *,
    in_batches: bool = False,
) -> Shape:
    """Return how a method is called with its request: an event, a list of them, or nothing.

    Args:
        method: The method, with `self`.
        where: Begins the messages, such as ``Mailer.thank``.
        events: Classes that it has to take; none for a method without a request.
        in_batches: Whether it takes them as a list.

    Raises:
        TypeError: It takes something else.
    """
    _, *parameters = inspect.signature(method).parameters.values()
    hints = _hints(method, where)
    context = [p.name for p in parameters if hints.get(p.name) is Context]
    rest = [p for p in parameters if p.name not in context and p.default is p.empty]
    wanted = 1 if events else 0
    is_open = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in rest)
    if len(rest) != wanted or len(context) > 1 or is_open:
        raise TypeError(
            f"{where} takes {_spell(events, in_batches)}, and a Context if you like: no"
            " more and no less"
        )
    if events:
        _check(hints.get(rest[0].name, Any), where, events, in_batches)
    positions = [p.name for p in parameters]
    return Shape(
        names=tuple(p.name for p in rest),
        is_single=bool(events),
        context=context[0] if context else "",
        context_at=positions.index(context[0]) if context else -1,
        by_name=any(p.kind is p.KEYWORD_ONLY for p in rest),
        is_async=inspect.iscoroutinefunction(method),
        is_wrapped=inspect.iscoroutinefunction(inspect.unwrap(method)),
    )


def _hints(method: Callable[..., Any], where: str) -> dict[str, Any]:
    try:
        return get_type_hints(inspect.unwrap(method))
    except NameError as error:
        raise TypeError(
            f"{where}: {error.name!r} is not known when the class is read; import it at the"
            " top of the module, not for type checkers only"
        ) from None


def _check(hint: Any, where: str, events: Sequence[type], in_batches: bool) -> None:
    found = hint
    if in_batches and hint is not Any:
        if get_origin(hint) not in (list, Sequence, Iterable) and hint is not list:
            raise TypeError(
                f"{where} takes {_spell(events, in_batches)}, as it has batch=; its"
                f" parameter is {hint!r}"
            )
        found = (*get_args(hint), Any)[0]
    for cls in events:
        if not _takes(found, cls):
            raise TypeError(
                f"{where} subscribes to {cls.__name__}, and its parameter is {hint!r}; write"
                f" {_spell(events, in_batches)}"
            )


def _takes(hint: Any, cls: type) -> bool:
    if hint is Any:
        return True
    if get_origin(hint) in (Union, UnionType):
        return any(_takes(each, cls) for each in get_args(hint))
    return isinstance(hint, type) and issubclass(cls, hint)


def _spell(events: Sequence[type], in_batches: bool) -> str:
    if not events:
        return "nothing"
    union = " | ".join(cls.__name__ for cls in events)
    return f"list[{union}]" if in_batches else union
