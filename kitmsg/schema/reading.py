"""Reads a method's signature once, when its class is defined.

What cannot travel is refused then, with a sentence that names the parameter.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import msgspec

from kitmsg.codec import is_pydantic
from kitmsg.schema import types
from kitmsg.schema.calls import Shape
from kitmsg.schema.classes import check_default
from kitmsg.schema.constraints import translated
from kitmsg.schema.signatures import Signature, UnknownFields, where_of
from kitmsg.schema.typevars import bound_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["signature"]

_EMPTY = inspect.Parameter.empty
_ARGUMENT = r"^    (\w+)(?: \([^)\n]*\))?: *(.+(?:\n {5,}.+)*)"


def signature(
    function: Callable[..., Any],
    *,
    owner: str = "",
    name: str = "",
    skip_self: bool | None = None,
    unknown_fields: UnknownFields = "forbid",
    variables: Mapping[Any, Any] | None = None,
) -> Signature:
    """Return what an endpoint made of `function` takes and gives.

    A single parameter that is a Struct, a dataclass or a pydantic model is the request
    itself; otherwise the parameters form one.  A parameter annotated
    `kitmsg.context.Context` receives the context, one annotated ``AsyncIterator[T]`` the
    items that the caller streams; a result annotated so is a stream too.

    Args:
        function: A method, bound or not, or a plain function; async or not.
        owner: Name of the class, for messages and type names; "" takes it from
            `function`.
        name: Name of the method, where it is not the function's own.
        skip_self: Leave the first parameter out; None finds out.
        unknown_fields: ``ignore`` lets requests have fields that nobody declared.
        variables: What type variables in its annotations stand for.

    Raises:
        TypeError: An annotation is missing or has no wire form, or the kind of a
            parameter or of the function is not supported; the message says which.
    """
    reader = _Reader(function, owner, name, skip_self, unknown_fields)
    return reader.read(variables or {})


class _Reader:
    """Reads one function."""

    def __init__(
        self,
        function: Callable[..., Any],
        owner: str,
        name: str,
        skip_self: bool | None,
        unknown_fields: UnknownFields,
    ) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        qualified = getattr(function, "__qualname__", self.name)
        path = qualified.rpartition("<locals>.")[2].split(".")
        self.owner = owner or (path[-2] if len(path) > 1 else "")
        self.where = where_of(self.owner, self.name)
        self.unknown_fields = unknown_fields
        parameters = list(inspect.signature(function).parameters.values())
        if skip_self is None and inspect.ismethod(function):
            skip_self = False  # it is bound: `self` is gone already
        if skip_self is None:
            first = parameters[0] if len(path) > 1 and parameters else None
            skip_self = first is not None and first.annotation is _EMPTY
        self.parameters = parameters[1:] if skip_self else parameters

    def read(self, variables: Mapping[Any, Any]) -> Signature:
        self._refuse_blocking_streams()
        names = {variable.__name__: variable for variable in variables}
        hints = types.resolve(self.function, self.where, names)
        hints = {
            name: translated(bound_to(hint, variables), self._what(name))
            for name, hint in hints.items()
        }
        items, item = self._items(hints)
        context, wire = self._split(hints)
        response, gives = self._response(hints)
        single = len(wire) == 1 and _is_object(hints[wire[0].name])
        python = [p.replace(annotation=_EMPTY) for p in wire]
        shape = self._shape(wire, context, single)
        shape = shape._replace(streams=gives or bool(items), items=items)
        return Signature(
            owner=self.owner,
            name=self.name,
            doc=_first_paragraph(self.function),
            request=hints[wire[0].name] if single else self._struct(wire, hints),
            response=response,
            parameters=shape.names,
            is_async=shape.is_async,
            is_single=single,
            context_parameter=context,
            keyword_only=shape.by_name,
            unknown_fields=self.unknown_fields,
            _python=inspect.Signature(python),
            _shape=shape,
            item=item,
            gives_items=gives,
        )

    def _shape(
        self, wire: list[inspect.Parameter], context: str, single: bool
    ) -> Shape:
        names = [parameter.name for parameter in self.parameters]
        return Shape(
            names=tuple(parameter.name for parameter in wire),
            is_single=single,
            context=context,
            context_at=names.index(context) if context else -1,
            by_name=any(p.kind is p.KEYWORD_ONLY for p in self.parameters),
            is_async=inspect.iscoroutinefunction(self.function),
            is_wrapped=inspect.iscoroutinefunction(inspect.unwrap(self.function)),
        )

    def _refuse_blocking_streams(self) -> None:
        if inspect.isgeneratorfunction(inspect.unwrap(self.function)):
            raise TypeError(
                f"{self.where} is a blocking generator; a stream is written as"
                " 'async def' with AsyncIterator[...] as its result"
            )

    def _items(self, hints: dict[str, Any]) -> tuple[str, Any]:
        """Return name and item type of the parameter that takes a stream, taken out."""
        items, item = "", None
        for parameter in list(self.parameters):
            what = f"{self.where}: parameter {parameter.name!r}"
            found = types.item_of(hints.get(parameter.name), what)
            if found is None:
                continue
            if items:
                raise self._error(parameter.name, "is a second stream; take one")
            types.check(found, what)
            items, item = parameter.name, types.bounded(found)
            self._check_kind(parameter)
        return items, item

    def _split(self, hints: dict[str, Any]) -> tuple[str, list[inspect.Parameter]]:
        """Return the name of the context parameter, and those of the request."""
        from kitmsg.context import Context

        context = ""
        wire = []
        for parameter in self.parameters:
            self._check_kind(parameter)
            if parameter.name not in hints:
                raise self._error(parameter.name, "has no type; annotate it")
            if types.item_of(hints[parameter.name], "") is not None:
                continue
            if hints[parameter.name] is not Context:
                self._check_type(parameter.name, hints[parameter.name])
                wire.append(parameter)
                self._check_default(parameter, hints[parameter.name])
            elif context:
                raise self._error(parameter.name, "is a second Context; take one")
            else:
                context = parameter.name
        return context, wire

    def _what(self, name: str) -> str:
        """Return what a hint is about, for messages."""
        what = "the result" if name == "return" else f"parameter {name!r}"
        return f"{self.where}: {what}"

    def _error(self, name: str, problem: str) -> TypeError:
        return TypeError(f"{self.where}: parameter {name!r} {problem}")

    def _check_kind(self, parameter: inspect.Parameter) -> None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self._error(
                parameter.name, "takes any number of values; use a list or a dict"
            )
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise self._error(
                parameter.name, "is positional-only; fields go by name: remove the '/'"
            )

    def _check_type(self, name: str, annotation: Any) -> None:
        types.check(annotation, f"{self.where}: parameter {name!r}")

    def _check_default(self, parameter: inspect.Parameter, annotation: Any) -> None:
        if parameter.default is not _EMPTY:
            bounded = types.bounded(annotation)
            check_default(parameter.default, bounded, self._what(parameter.name))

    def _response(self, hints: dict[str, Any]) -> tuple[Any, bool]:
        """Return the type of the result, or of its items, and whether it is a stream."""
        if "return" not in hints:
            raise TypeError(
                f"{self.where}: the result has no type;"
                " annotate it (-> None for nothing)"
            )
        response = hints["return"]
        item = types.item_of(response, f"{self.where}: the result")
        if item is None and inspect.isasyncgenfunction(inspect.unwrap(self.function)):
            raise TypeError(
                f"{self.where} yields, so its result is AsyncIterator[...], not"
                f" {types.spell(response)}"
            )
        types.check(response if item is None else item, f"{self.where}: the result")
        return (response, False) if item is None else (item, True)

    def _struct(
        self, wire: list[inspect.Parameter], hints: dict[str, Any]
    ) -> type[msgspec.Struct]:
        """Return a Struct whose fields are the parameters."""
        camel = "".join(word.capitalize() for word in self.name.split("_"))
        doc = _first_paragraph(self.function)
        keywords = any(p.kind is p.KEYWORD_ONLY for p in wire)
        said = _arguments(self.function)
        try:
            return msgspec.defstruct(
                f"{self.owner}{camel}Request",
                [_field(p, hints[p.name], said.get(p.name, "")) for p in wire],
                module=self.function.__module__,
                namespace={"__doc__": doc} if doc else None,
                forbid_unknown_fields=self.unknown_fields == "forbid",
                kw_only=keywords,
            )
        except TypeError as error:
            raise TypeError(f"{self.where}: {error}") from error


def _field(parameter: inspect.Parameter, annotation: Any, said: str) -> Any:
    """Return a parameter as a field of the generated request, described as `said`."""
    bounded = types.bounded(annotation)
    marks = getattr(annotation, "__metadata__", ())
    if said and not any(getattr(mark, "description", None) for mark in marks):
        bounded = Annotated[bounded, msgspec.Meta(description=said)]
    default = parameter.default
    if default is _EMPTY:
        return parameter.name, bounded
    if not _is_hashable(default) and default not in ([], {}, set()):
        # msgspec copies empty containers itself; any other must not be shared.
        copy = functools.partial(deepcopy, default)
        return parameter.name, bounded, msgspec.field(default_factory=copy)
    return parameter.name, bounded, default


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_object(annotation: Any) -> bool:
    """Tell whether a type is a class of fields that travels as a map."""
    origin = get_origin(annotation) or annotation
    if hasattr(annotation, "__metadata__"):
        return _is_object(get_args(annotation)[0])
    if not isinstance(origin, type):
        return False
    if issubclass(origin, msgspec.Struct):
        return not origin.__struct_config__.array_like
    return dataclasses.is_dataclass(origin) or is_pydantic(origin)


def _arguments(function: Callable[..., Any]) -> dict[str, str]:
    """Return the texts under ``Args:`` of a docstring, by parameter (Google's style)."""
    _, _, listed = (inspect.getdoc(function) or "").partition("\nArgs:\n")
    section = re.split(r"^(?=\S)", listed, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(_ARGUMENT, section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _first_paragraph(function: Callable[..., Any]) -> str:
    doc = inspect.getdoc(function) or ""
    return " ".join(doc.partition("\n\n")[0].split())
