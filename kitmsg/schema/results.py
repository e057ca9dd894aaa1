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
    encode = codec.encoder(type_)
    info = mi.type_info(type_)
    plain = _named(encode, type_)
    if codec.name == RAW.name or isinstance(info, mi.AnyType):
        return plain
    check = _checker(codec, type_, info)
    if is_pydantic(type_):
        return _model_encoder(type_, strict_encoder(codec, type_), plain, check)
    whole = _whole(info)

    def write(value: Any) -> bytes:
        data = plain(value)
        if type(value) not in whole:
            check(data)
        return data

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


def _named(encode: Callable[[Any], bytes], type_: Any) -> Callable[[Any], bytes]:
    what = types.spell(type_)

    def write(value: Any) -> bytes:
        try:
            return encode(value)
        except ENCODE_ERRORS as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            actual = types.spell(type(value))
            raise kind(f"cannot encode {actual} as {what}: {error}") from error

    return write


def _checker(codec: Codec, type_: Any, info: mi.Type) -> Callable[[bytes], None]:
    decode = response_decoder(codec, type_)
    describe = functools.partial(validate.choices_at, info)
    what = types.spell(type_)

    def check(data: bytes) -> None:
        try:
            decode(data)
        except DECODE_ERRORS as error:
            problem = translate(error, codec.name, describe)
            raise ValueError(f"the result does not fit {what}: {problem}") from error

    return check


def _model_encoder(
    model: Any,
    strictly: Callable[[Any], bytes],
    plain: Callable[[Any], bytes],
    check: Callable[[bytes], None],
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
        data = plain(value)
        check(data)
        return data

    return write
