"""Encodes values that came over the bus into values as Thrift has them.

Fields that the IDL does not name are left out, nulls are absent.  A value that does not fit
its type raises one of `UNFIT`, here or when it is written.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from kitmsg.idl.model import Enum, Struct
from kitmsg.idl.naming import fold
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.convert import Convert, Converters, is_wrapper

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.idl.model import Shape, Union
    from kitmsg_gateways.thrift.convert import BoundField, BoundOption
    from kitmsg_gateways.thrift.model import EnumType, StructType, ThriftType

__all__ = ["UNFIT", "Encoders"]

UNFIT: Final = (
    TypeError,
    ValueError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
    binascii.Error,
    struct.error,
)
"""Exceptions of a value that is not of its type."""

_Fields: TypeAlias = list[tuple[str, str, Convert, bool]]
_Test: TypeAlias = Callable[[Any], bool]


class Encoders(Converters):
    """Makes functions from the bus's values to Thrift's."""

    direction = "out"

    @staticmethod
    def _number_key(key: Any) -> Any:
        return int(key)

    @staticmethod
    def _text_key(key: Any) -> Any:
        # msgpack may have it as what it is.
        return key if isinstance(key, str) else str(msgspec.to_builtins(key))

    def _leaf(self, type_: ThriftType, shape: Shape | None, where: str) -> Convert:
        if shape is not None and shape.kind == "any":
            return _to_json
        return base64.b64decode if type_ is model.BINARY and self.as_json else None

    def wrapper(self, name: str, inner: Convert) -> Convert:
        """Return the function for a struct around a value."""

        def wrap(value: Any) -> Any:
            if value is None:
                return {}
            return {name: value if inner is None else inner(value)}

        return wrap

    def _enum(
        self, values: Mapping[int, str | int], type_: EnumType, where: str
    ) -> Convert:
        return {value: number for number, value in values.items()}.__getitem__

    def _constant(self, value: str | int, sent: str | int, where: str) -> Convert:
        del value, where
        return lambda _: sent

    def _fields(self, struct: Struct, fields: Sequence[BoundField]) -> Convert:
        steps: _Fields = [
            (
                field.name,
                partner.name,
                convert,
                partner.shape.kind == "any" or is_wrapper(field.type, partner.shape),
            )
            for field, partner, convert in fields
        ]
        if struct.is_array:
            return _from_array(steps)
        if all(
            name == key and convert is None and not takes_null
            for name, key, convert, takes_null in steps
        ):
            return None
        return _object(steps)

    def any_fields(self, type_: StructType, where: str) -> Convert:
        """Return the function for an object whose keys are matched when it comes."""
        fields = {}
        for field in type_.fields:
            convert = self.value(field.type, None, f"{where}: {field.name!r}")
            fields[fold(field.key)] = field.name, convert

        def build(value: Any) -> Any:
            made = {}
            for name, found in value.items():
                known = fields.get(fold(name))
                if known is not None and found is not None:
                    made[known[0]] = found if known[1] is None else known[1](found)
            return made

        return build

    def _union(
        self, union: Union, options: Sequence[BoundOption], where: str
    ) -> Convert:
        tagged: dict[Any, tuple[str, Convert]] = {}
        others: list[tuple[_Test, str, Convert]] = []
        for field, option, convert in options:
            if option.tag is None:
                others.append((self._test(option.shape), field.name, convert))
            else:
                tagged[option.tag] = field.name, convert
        # A whole number is the integer's, so the integer comes before the number.
        others.sort(key=lambda other: other[0] is _is_number)
        return _choice(union.tag_field, tagged, others)

    def _test(self, shape: Shape) -> _Test:
        """Return what tells whether a value is of a shape, beside others in a union."""
        named = self.named(shape.name) if shape.name else None
        if isinstance(named, Enum):
            values = named.values
            return lambda value: not isinstance(value, bool) and value in values
        if isinstance(named, Struct):
            return _is_list if named.is_array else _is_object
        return _TESTS.get(shape.kind, _is_text)


def _object(fields: _Fields) -> Callable[[Any], Any]:
    def build(value: Any) -> Any:
        made = {}
        for name, key, convert, takes_null in fields:
            found = value.get(key)
            if found is not None or (takes_null and key in value):
                made[name] = found if convert is None else convert(found)
        return made

    return build


def _from_array(fields: _Fields) -> Callable[[Any], Any]:
    build = _object(fields)

    def unpack(value: Any) -> Any:
        return build({f"item_{n}": item for n, item in enumerate(value, 1)})

    return unpack


def _choice(
    tag_field: str,
    tagged: dict[Any, tuple[str, Convert]],
    others: Iterable[tuple[_Test, str, Convert]],
) -> Callable[[Any], Any]:
    def choose(value: Any) -> Any:
        tag = _tag(value, tag_field) if tagged else None
        if tag is not None and tag in tagged:
            name, convert = tagged[tag]
            return {name: value if convert is None else convert(value)}
        for test, name, convert in others:
            if test(value):
                return {name: value if convert is None else convert(value)}
        raise ValueError(f"{type(value).__name__} is none of the union's options")

    return choose


def _tag(value: Any, tag_field: str) -> Any:
    if isinstance(value, dict):
        return value.get(tag_field)
    return value[0] if isinstance(value, list) and value else None


def _is_text(value: Any) -> bool:
    return isinstance(value, (str, bytes, datetime))


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TESTS: Final[dict[str, _Test]] = {
    "bool": lambda value: isinstance(value, bool),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": _is_number,
    "list": _is_list,
    "map": _is_object,
}


def _to_json(value: Any) -> Any:
    return msgspec.json.encode(value).decode()
