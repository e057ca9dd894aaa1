"""Checks the user's own classes, wherever a type reaches them.

    constraints   of libraries that msgspec ignores are refused
    defaults      fit their own type and its constraints
    init=False    fields of dataclasses need not be sent
    keys          of dicts have a form in JSON

All of it happens once, when an endpoint is defined.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, get_args, get_origin
from uuid import UUID

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    MSGPACK,
    is_pydantic,
    reached,
    translate,
)
from kitmsg.schema.constraints import ignored_in
from kitmsg.schema.typevars import bound_to, open_in

__all__ = ["check_classes", "check_default"]

_NATIVE: Final = (
    bytes,
    bytearray,
    memoryview,
    datetime,
    date,
    time,
    timedelta,
    UUID,
    Decimal,
)
_NO_KEYS: Final = (
    mi.BoolType,
    mi.NoneType,
    mi.TupleType,
    mi.VarTupleType,
    mi.FrozenSetType,
    mi.StructType,
    mi.DataclassType,
    mi.NamedTupleType,
    mi.CustomType,
)
_CLASSES: Final = (mi.StructType, mi.DataclassType, mi.TypedDictType, mi.NamedTupleType)


def check_classes(info: mi.Type, what: str) -> None:
    """Check every class and every dict that a type is made of.

    Args:
        info: The type.
        what: Begins the message, such as ``Greeter.hello: parameter 'x'``.

    Raises:
        TypeError: A class says what cannot be kept; the message names class and field.
    """
    for each in reached(info):
        if isinstance(each, mi.DictType):
            _check_key(each.key_type, what)
        elif isinstance(each, _CLASSES):
            _check_class(each, what)


def _check_key(info: mi.Type, what: str) -> None:
    inner = info
    while isinstance(inner, mi.Metadata):
        inner = inner.type
    if isinstance(inner, mi.UnionType):
        for each in inner.types:
            _check_key(each, what)
    elif isinstance(inner, _NO_KEYS):
        kind = type(inner).__name__.removesuffix("Type").lower()
        raise TypeError(
            f"{what} has a dict whose keys are of the kind {kind!r}, which has no form in"
            " JSON; use text, numbers, dates, UUIDs or enums, or a list of pairs"
        )


def _check_class(info: Any, what: str) -> None:
    cls = get_origin(info.cls) or info.cls
    if hasattr(cls, "__pydantic_validator__") and not is_pydantic(cls):
        raise TypeError(
            f"{what} holds {cls.__name__}, a dataclass of pydantic's, which would not be"
            " validated; make it a pydantic.BaseModel or a dataclass of the standard"
            " library"
        )
    hints = _hints(info.cls)
    for field in info.fields:
        where = f"{what}: {cls.__name__}.{field.name}"
        annotation = hints.get(field.name, Any)
        constraint = ignored_in(annotation)
        if constraint is not None:
            raise TypeError(
                f"{where} has {constraint!r}, which would be ignored; write"
                " msgspec.Meta(...), or make the class a pydantic model"
            )
        if field.default is not msgspec.NODEFAULT and not open_in(annotation):
            check_default(field.default, annotation, where)
    if isinstance(info, mi.DataclassType):
        _free_fields(cls)


def _hints(cls: Any) -> dict[str, Any]:
    """Return the annotations of a class, its type variables bound."""
    origin = get_origin(cls) or cls
    try:
        hints = typing.get_type_hints(origin, include_extras=True)
    except (NameError, TypeError):
        return {}  # names that only msgspec finds; it has read them
    parameters = getattr(origin, "__parameters__", ())
    given = dict(zip(parameters, get_args(cls), strict=False))
    return {name: bound_to(hint, given) for name, hint in hints.items()}


def check_default(default: Any, annotation: Any, what: str) -> None:
    """Refuse a default that its own type would refuse.

    Args:
        default: The value.
        annotation: Its type, with constraints.
        what: Begins the message.

    Raises:
        TypeError: It does not fit.
    """
    if default is msgspec.UNSET or is_pydantic(type(default)):
        return  # pydantic has its own word on defaults
    if type(default).__name__ == "FieldInfo":
        problem = "write Annotated[..., Field(...)], and the default behind it"
    else:
        problem = _misfit(default, annotation)
    if problem:
        raise TypeError(
            f"{what} has the default {default!r}, which does not fit: {problem}"
        )


def _misfit(default: Any, annotation: Any) -> str:
    number = default if isinstance(default, (float, Decimal)) else 0
    if not math.isfinite(number):
        return "expected a finite number"
    try:
        made = msgspec.convert(default, annotation, builtin_types=_NATIVE)
        MSGPACK.decoder(annotation)(MSGPACK.encoder(annotation)(default))
    except DECODE_ERRORS as error:
        return str(translate(error, "msgpack")).removeprefix("the request: ")
    except ENCODE_ERRORS as error:
        return str(error)
    if isinstance(made, Enum) and not isinstance(default, Enum):
        return f"write {type(made).__name__}.{made.name}"
    return ""


def _free_fields(cls: Any) -> None:
    """Let a dataclass be decoded without the fields that its ``__init__`` does not take.

    msgspec wants every field that has no default, and reads the defaults once, when it
    first meets the class.
    """
    free = [
        field
        for field in dataclasses.fields(cls)
        if not field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if not free:
        return
    if "__msgspec_cache__" in vars(cls):
        del cls.__msgspec_cache__
    for field in free:
        field.default = msgspec.UNSET
    try:
        msgspec.msgpack.Decoder(cls)
    finally:
        for field in free:
            field.default = dataclasses.MISSING
