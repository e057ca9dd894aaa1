"""Encodes values that came over the bus into values as Thrift has them.

Fields that the IDL does not name are left out, nulls are absent.  A value that does not fit
its type raises one of `UNFIT`, here or when it is written.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from kitmsg.idl.choice import chooser, plain_types
from kitmsg.idl.naming import fold
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.convert import Convert, Converters, is_wrapper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kitmsg.idl.model import Shape, Struct, Union
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
        types = self.types
        choose = chooser(
            ((f.name, plain_types(o.shape, types), o.tag) for f, o, _ in options),
            union.tag_field,
        )
        converters = {field.name: convert for field, _, convert in options}

        def build(value: Any) -> Any:
            name = choose(value)
            if name is None:
                kind = type(value).__name__
                raise ValueError(f"{kind} is none of the union's options")
            convert = converters[name]
            return {name: value if convert is None else convert(value)}

        return build


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


def _to_json(value: Any) -> Any:
    return msgspec.json.encode(value).decode()
