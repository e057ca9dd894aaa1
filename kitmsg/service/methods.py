"""Adapts the callables that ``@endpoint`` may stand on to async methods.

async def            as it is
def                  runs in a thread, so that blocking code is safe
wrapper of async     called in the loop, its coroutine awaited
object, partial      called without the service, since it binds to none
partialmethod        its own arguments are given, and are no fields of the request
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

from kitmsg.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["as_method", "check_first_parameter", "made_of"]

_MADE_OF: Final = "__kit_made_of__"
_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)


def as_method(member: Any) -> Any:
    """Return a member of a class as a function of the instance that is awaited.

    One that gives an asynchronous iterator is returned as it is.

    Raises:
        TypeError: It is nothing that can be called with an instance.
    """
    _refuse(member)
    if isinstance(member, functools.partialmethod):
        method = _partial_method(member)
    elif inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(
        inspect.unwrap(member)
    ):
        return member
    elif _binds(member):
        method = _awaited(member, member)
    else:
        method = _unbound(member)
    setattr(method, _MADE_OF, member)
    return method


def made_of(member: Any) -> Any:
    """Return what the user wrote, of a method that `as_method` made."""
    return getattr(member, _MADE_OF, member)


def _refuse(member: Any) -> None:
    for kind, word in ((staticmethod, "static"), (classmethod, "class")):
        if isinstance(member, kind):
            name = getattr(member.__func__, "__qualname__", "it")
            raise TypeError(
                f"{name.rpartition('<locals>.')[2]} is a {word} method; an endpoint is a"
                f" method of an instance: remove @{kind.__name__} and take self"
            )
    if isinstance(member, type):
        raise TypeError(f"@endpoint goes on a method, not on the class {member!r}")
    if not callable(member) and not isinstance(member, functools.partialmethod):
        raise TypeError(f"@endpoint goes on a method, not on {member!r}")


def _binds(member: Any) -> bool:
    """Tell whether a member gets the instance as its first argument."""
    return hasattr(type(member), "__get__") and not inspect.ismethod(member)


def _awaited(call: Callable[..., Any], written: Any) -> Any:
    """Return a coroutine function around `call`, described as `written`.

    It runs in a thread unless a coroutine function is underneath.
    """
    inner = inspect.unwrap(written)
    in_loop = inspect.iscoroutinefunction(inner)

    @functools.wraps(written)
    async def run(*args: Any, **kwargs: Any) -> Any:
        result = (
            call(*args, **kwargs)
            if in_loop
            else await in_thread(functools.partial(call, *args, **kwargs))
        )
        # A wrapper may hide that what it wraps is async.
        return await result if inspect.isawaitable(result) else result

    return run


def _unbound(member: Any) -> Any:
    """Return a method that calls an object, which is given no instance."""

    def call(_: Any, /, *args: Any, **kwargs: Any) -> Any:
        return member(*args, **kwargs)

    signature = inspect.signature(member)
    return _described(call, _function(member), signature, _given(member))


def _partial_method(member: functools.partialmethod[Any]) -> Any:
    _refuse(member.func)

    def call(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        return member.__get__(instance, type(instance))(*args, **kwargs)

    whole = inspect.signature(member.func)
    kept = list(whole.parameters.values())[1 + len(member.args) :]
    signature = whole.replace(parameters=kept)
    given = frozenset(member.keywords)
    return _described(call, _function(member.func), signature, given)


def _function(member: Any) -> Any:
    """Return the function that holds the annotations of a callable."""
    while isinstance(member, functools.partial):
        member = member.func
    is_object = not hasattr(inspect.unwrap(member), "__code__")
    return type(member).__call__ if is_object else member


def _given(member: Any) -> frozenset[str]:
    keywords = member.keywords if isinstance(member, functools.partial) else {}
    return frozenset(keywords)


def _described(
    call: Callable[..., Any],
    written: Any,
    signature: inspect.Signature,
    given: frozenset[str],
) -> Any:
    """Return `call` as a method with the parameters of `signature` that nobody gave."""
    function = inspect.unwrap(written)
    if inspect.isasyncgenfunction(function):
        method = functools.wraps(written)(call)
    else:
        method = _awaited(call, written)
    kept = _left(signature, given)
    method.__name__ = ""  # that of its attribute is meant
    method.__signature__ = signature.replace(parameters=[_SELF, *kept])  # type: ignore[attr-defined]
    return method


def _left(
    signature: inspect.Signature, given: frozenset[str]
) -> list[inspect.Parameter]:
    """Return the parameters that nobody gave; those behind one given go by name."""
    kept: list[inspect.Parameter] = []
    by_name = False
    for name, parameter in signature.parameters.items():
        if name in given:
            by_name = True
        elif by_name and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            kept.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        else:
            kept.append(parameter)
    return kept


def check_first_parameter(method: Any, where: str) -> None:
    """Refuse a method without ``self``, whose first parameter would be taken for it.

    Raises:
        TypeError: There is none; the message names the parameter.
    """
    parameters = list(inspect.signature(method).parameters.values())
    first = parameters[0] if parameters else None
    if first is None or first.kind is first.KEYWORD_ONLY:
        raise TypeError(f"{where} has no self; write it as its first parameter")
    is_self = first.name == "self" or first.annotation is first.empty
    if is_self or first.kind is first.VAR_POSITIONAL:
        return
    raise TypeError(
        f"{where} begins with the parameter {first.name!r}, where self belongs; write"
        f" self before it"
    )
