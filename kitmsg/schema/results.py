"""Encodes results, and refuses one that does not fit its annotation.

A caller could do nothing about such a result: it is the service's fault, and is told there,
with the field.  The check is the caller's own: what was encoded is decoded once.  A result
whose class says all (text, a number, a pydantic model) needs no second look.

The functions made here run for every reply: flat on purpose.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec.inspect as mi

from kitmsg.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    RAW,
    Codec,
    is_pydantic,
    response_decoder,
    strict_encoder,
    translate,
)
from kitmsg.schema import types, validate

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["result_encoder"]

_WHOLE: Final[dict[type[mi.Type], type]] = {
    mi.NoneType: type(None),
    mi.BoolType: bool,
    mi.IntType: int,
    mi.StrType: str,
    mi.BytesType: bytes,
}


def result_encoder(codec: Codec, type_: Any) -> Callable[[Any], bytes]:
    """Return a function from a result to its bytes.

    It raises `TypeError` or `ValueError`, naming the field, for a value that does not fit
    `type_` or has no form on the wire.

    Raises:
        TypeError: The codec cannot carry `type_`.
    """
    encode, info = codec.encoder(type_), mi.type_info(type_)
    misfit = _misfit(type_)
    if codec.name == RAW.name or isinstance(info, mi.AnyType):
        return _unchecked(encode, misfit)
    decode, fault = response_decoder(codec, type_), _fault(codec, type_, info)
    whole = _whole(info)

    def write(value: Any) -> bytes:
        try:
            data = encode(value)
        except ENCODE_ERRORS as error:
            raise misfit(value, error) from error
        if type(value) not in whole:
            try:
                decode(data)
            except DECODE_ERRORS as error:
                raise fault(error) from error
        return data

    if is_pydantic(type_):
        return _model_encoder(type_, strict_encoder(codec, type_), write)
    return write


def _whole(info: mi.Type) -> frozenset[type]:
    """Return the classes whose instances fit without another look."""
    options = info.types if isinstance(info, mi.UnionType) else (info,)
    return frozenset(
        _WHOLE[type(each)]
        for each in options
        if type(each) in _WHOLE and each == _unconstrained(each)
    )


def _unconstrained(info: mi.Type) -> mi.Type:
    return type(info)()


def _unchecked(
    encode: Callable[[Any], bytes], misfit: Callable[[Any, Exception], Exception]
) -> Callable[[Any], bytes]:
    def write(value: Any) -> bytes:
        try:
            return encode(value)
        except ENCODE_ERRORS as error:
            raise misfit(value, error) from error

    return write


def _misfit(type_: Any) -> Callable[[Any, Exception], Exception]:
    """Return what makes the error of a value that has no form on the wire."""
    what = types.spell(type_)

    def make(value: Any, error: Exception) -> Exception:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        return kind(f"cannot encode {types.spell(type(value))} as {what}: {error}")

    return make


def _fault(codec: Codec, type_: Any, info: mi.Type) -> Callable[[Exception], Exception]:
    """Return what makes the error of a result that a caller could not read."""
    describe = functools.partial(validate.choices_at, info)
    what = types.spell(type_)

    def make(error: Exception) -> Exception:
        problem = translate(error, codec.name, describe)
        return ValueError(f"the result does not fit {what}: {problem}")

    return make


def _model_encoder(
    model: Any,
    strictly: Callable[[Any], bytes],
    checked: Callable[[Any], bytes],
) -> Callable[[Any], bytes]:
    """Return the encoder of a model, which pydantic checks while it serializes.

    What it finds odd is looked at again: its own default of an enum, kept as text by
    ``use_enum_values``, is odd and fits.
    """

    def write(value: Any) -> bytes:
        if isinstance(value, model):
            try:
                return strictly(value)
            except ENCODE_ERRORS:
                pass
        return checked(value)

    return write
