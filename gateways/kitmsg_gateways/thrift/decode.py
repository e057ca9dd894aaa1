"""Decodes values that came over Thrift into values as the bus has them.

Absent fields stay absent: the service knows its defaults, and refuses what it needs and
does not get.  A value that does not fit raises `InvalidArgument`.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.convert import Convert, Converters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from kitmsg.idl.model import Shape, Struct, Union
    from kitmsg_gateways.thrift.convert import BoundField, BoundOption
    from kitmsg_gateways.thrift.model import EnumType, StructType, ThriftType

__all__ = ["Decoders"]

_Fields = list[tuple[str, str, Convert, bool]]


class Decoders(Converters):
    """Makes functions from Thrift's values to the bus's."""

    direction = "in"

    @staticmethod
    def _number_key(key: Any) -> Any:
        return str(key)

    _text_key = None

    def _leaf(self, type_: ThriftType, shape: Shape | None, where: str) -> Convert:
        if shape is not None and shape.kind == "any":
            return _from_json(where)
        return _to_base64 if type_ is model.BINARY and self.as_json else None

    def wrapper(self, name: str, inner: Convert) -> Convert:
        """Return the function for a struct around a value."""

        def unwrap(value: Any) -> Any:
            found = value.get(name)
            return found if found is None or inner is None else inner(found)

        return unwrap

    def _enum(
        self, values: Mapping[int, str | int], type_: EnumType, where: str
    ) -> Convert:

        def look(number: Any) -> Any:
            if number not in values:
                raise InvalidArgument(f"{where}: {number} is no {type_.name}")
            return values[number]

        return look

    def _constant(self, value: str | int, sent: str | int, where: str) -> Convert:

        def check(found: Any) -> Any:
            if found and found != sent:  # it is filled where it is zero
                raise InvalidArgument(f"{where} has to be {value!r}")
            return value

        return check

    def _fields(self, struct: Struct, fields: Sequence[BoundField]) -> Convert:
        steps: _Fields = [
            (
                field.name,
                partner.name,
                convert,
                partner.is_required and partner.shape.is_nullable,
            )
            for field, partner, convert in fields
        ]
        if struct.is_array:
            return _array(struct, steps)
        if not struct.constants and all(
            name == key and convert is None and not is_null
            for name, key, convert, is_null in steps
        ):
            return None
        return _object(dict(struct.constants), steps)

    def any_fields(self, type_: StructType, where: str) -> Convert:
        """Return the function for a struct that only the IDL knows."""
        fields: _Fields = []
        for field in type_.fields:
            convert = self.value(field.type, None, f"{where}: {field.name!r}")
            fields.append((field.name, field.key, convert, field.is_nullable))
        return _object({}, fields)

    def _union(
        self, union: Union, options: Sequence[BoundOption], where: str
    ) -> Convert:
        choices = {field.name: convert for field, _, convert in options}

        def choose(value: Any) -> Any:
            if len(value) != 1:
                raise InvalidArgument(f"{where}: exactly one option has to be there")
            ((name, found),) = value.items()
            convert = choices[name]
            return found if convert is None else convert(found)

        return choose


def _object(constants: dict[str, Any], fields: _Fields) -> Callable[[Any], Any]:
    def build(value: Any) -> Any:
        made = dict(constants)
        for name, key, convert, is_null in fields:
            found = value.get(name)
            if found is not None:
                made[key] = found if convert is None else convert(found)
            elif is_null:
                made[key] = None
        return made

    return build


def _array(struct: Struct, fields: _Fields) -> Callable[[Any], Any]:
    """Return the function for a struct that travels as an array, its places in order."""
    build = _object(dict(struct.constants), fields)
    keys = [key for key, _ in struct.constants] + [f.name for f in struct.fields]
    keys.sort(key=lambda key: int(key.removeprefix("item_")))

    def pack(value: Any) -> Any:
        made = build(value)
        last = max((n for n, key in enumerate(keys, 1) if key in made), default=0)
        return [made.get(key) for key in keys[:last]]

    return pack


def _to_base64(value: Any) -> Any:
    return base64.b64encode(value).decode()


def _from_json(where: str) -> Callable[[Any], Any]:
    def read(text: Any) -> Any:
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise InvalidArgument(f"{where}: it has to be JSON: {exc}") from exc

    return read
