"""The form of a declared error on the wire: ``@endpoint(raises=[OutOfStock])``.

An exception that is a dataclass (every `BusinessError` is) travels as the map of its
fields and is rebuilt from it.  Any other travels as ``{"args": [...]}`` with plain
values; what else it knew about itself stays behind.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from kitmsg.codec import DECODE_ERRORS, ENCODE_ERRORS, Codec, translate
from kitmsg.errors import DataLoss, KitError
from kitmsg.schema import jsonschema, types

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["error_codec", "error_schema", "need_exception"]

E = TypeVar("E", bound=BaseException)


class _Plain(msgspec.Struct):
    """An exception that is not a dataclass."""

    args: list[str | int | float | bool | None] = []


def error_codec(
    exc_type: type[E], codec: Codec
) -> tuple[Callable[[E], bytes], Callable[[bytes], E]]:
    """Return the functions that write and rebuild exceptions of `exc_type`.

    Writing raises `TypeError` or `ValueError` for a field that has no form on the wire;
    rebuilding raises `DataLoss` for bytes that do not fit, and ignores fields it does
    not know.

    Raises:
        TypeError: A field of `exc_type` has a type that cannot travel.
    """
    struct = _struct_of(exc_type)
    encoder, decoder = codec.encoder(struct), codec.decoder(struct)
    take, build = _parts(exc_type, struct)

    def encode(error: E) -> bytes:
        try:
            return encoder(take(error))
        except ENCODE_ERRORS as problem:
            kind = TypeError if isinstance(problem, TypeError) else ValueError
            raise kind(f"cannot encode {types.spell(exc_type)}: {problem}") from problem

    def decode(data: bytes) -> E:
        try:
            return build(decoder(data))
        except DECODE_ERRORS as problem:
            detail = translate(problem, codec.name)
            raise DataLoss(
                f"the error does not fit {types.spell(exc_type)}: {detail}"
            ) from problem

    return encode, decode


def error_schema(exc_type: type[BaseException]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an exception's form on the wire.

    Raises:
        TypeError: As in `error_codec`.
    """
    return jsonschema.json_schema(_struct_of(exc_type))


def _struct_of(exc_type: type[BaseException]) -> type[msgspec.Struct]:
    """Return the Struct that stands for `exc_type` on the wire."""
    need_exception(exc_type)
    declared: Any = exc_type  # for mypy no exception is a dataclass
    if not dataclasses.is_dataclass(declared):
        return _Plain
    hints = _hints(exc_type)
    fields = [f for f in dataclasses.fields(declared) if f.init]
    for field in fields:
        types.check(hints[field.name], f"{exc_type.__name__}: field {field.name!r}")
    return msgspec.defstruct(
        exc_type.__name__,
        [_field(field, hints[field.name]) for field in fields],
        module=exc_type.__module__,
        namespace={"__doc__": exc_type.__doc__},
        kw_only=True,
    )


def need_exception(exc_type: Any) -> None:
    """Refuse what is no exception class.

    Raises:
        TypeError: It is something else.
    """
    if not (isinstance(exc_type, type) and issubclass(exc_type, BaseException)):
        raise TypeError(f"raises= takes exception classes, not {exc_type!r}")


def _hints(exc_type: type[BaseException]) -> dict[str, Any]:
    module = vars(sys.modules[exc_type.__module__])
    local = types.local_names(exc_type, module)
    return types.hints_of(exc_type, local, exc_type.__name__)


def _field(field: dataclasses.Field[Any], annotation: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.name, annotation, field.default
    if field.default_factory is not dataclasses.MISSING:
        factory = field.default_factory
        return field.name, annotation, msgspec.field(default_factory=factory)
    return field.name, annotation


def _parts(
    exc_type: type[E], struct: type[msgspec.Struct]
) -> tuple[Callable[[E], msgspec.Struct], Callable[[Any], E]]:
    """Return the functions from an exception to its Struct and back."""
    if struct is _Plain:
        return (
            lambda error: _Plain([_simple(arg) for arg in error.args]),
            lambda plain: _rebuild(exc_type, tuple(plain.args)),
        )
    names = struct.__struct_fields__
    declared: Any = exc_type
    by_name = {f.name for f in dataclasses.fields(declared) if f.init and f.kw_only}
    # By position where that can be: `BaseException.__new__` keeps those as `args`.
    by_position = [name for name in names if name not in by_name]

    def take(error: E) -> msgspec.Struct:
        return struct(**{name: getattr(error, name) for name in names})

    def build(values: Any) -> E:
        keywords = {name: getattr(values, name) for name in by_name}
        return exc_type(*[getattr(values, name) for name in by_position], **keywords)

    return take, build


def _simple(value: Any) -> str | int | float | bool | None:
    if isinstance(value, int):
        return value if types.INT_MIN <= value <= types.INT_MAX else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None else str(value)


def _rebuild(exc_type: type[E], args: tuple[Any, ...]) -> E:
    """Return an exception with these `args`.

    A class with an ``__init__`` of its own is not called: its parameters need not be
    what it passed on as `args`.
    """
    init = exc_type.__init__
    if init is KitError.__init__ or not hasattr(init, "__code__"):
        try:
            return exc_type(*args)
        except TypeError:
            pass
    error = exc_type.__new__(exc_type, *args)
    if isinstance(error, KitError):
        KitError.__init__(error, str(args[0]) if args else "")
    error.args = args
    return error
