"""Converters between values as Thrift has them and as the bus has them: what is common.

For each pair of types a function is made once, or None where the value can stay as it is;
for the numbers and texts of most services that is so.  The names of the IDL are bound to
those of the live schema on the way; what does not fit is a `Mismatch` that names the field.
`decode.py` makes the functions for what comes over Thrift, `encode.py` those for what goes
there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, TypeAlias

from kitmsg.idl.binding import (
    Bound,
    Direction,
    Mismatch,
    bind_fields,
    bind_options,
    bind_values,
    constant_number,
)
from kitmsg.idl.model import KINDS, Enum, Option, Shape, Struct, Union
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.model import (
    EnumType,
    Field,
    ListType,
    MapType,
    StructType,
    ThriftType,
    Wire,
)
from kitmsg_gateways.thrift.protocol.base import later

if TYPE_CHECKING:
    from kitmsg.idl import model as idl_model
    from kitmsg.idl.model import ServiceShapes

__all__ = [
    "INTEGERS",
    "BoundField",
    "BoundOption",
    "Convert",
    "Converters",
    "is_wrapper",
    "or_same",
]

INTEGERS: Final = frozenset({Wire.I8, Wire.I16, Wire.I32, Wire.I64})
"""An integer's types in an IDL; a value out of range is refused when it comes."""

_THE_SERVICE: Final = "the service"

Convert: TypeAlias = Callable[[Any], Any] | None
"""Takes a value and returns the other form of it; None where there is no other form."""


class BoundField(NamedTuple):
    """A field of an IDL's struct, the one on the bus, and the converter between the two."""

    field: Field
    partner: idl_model.Field
    convert: Convert


class BoundOption(NamedTuple):
    """A field of an IDL's union, the option on the bus, and the converter between the two."""

    field: Field
    option: Option
    convert: Convert


class Converters(ABC):
    """Makes the functions of one direction for one service.

    Args:
        service: The definition of the service; None if unknown.
        as_json: Whether values are JSON on the bus, which has no bytes.
    """

    direction: ClassVar[Direction]

    def __init__(self, service: ServiceShapes | None, *, as_json: bool) -> None:
        self.as_json = as_json
        self._service = service
        self._made: dict[tuple[StructType, str], Convert] = {}

    def value(self, type_: ThriftType, shape: Shape | None, where: str) -> Convert:
        """Return the function for values of a type.

        Args:
            type_: As the IDL has it.
            shape: As the service has it; None if unknown.
            where: For messages, such as ``addsvc.sum: field 'a'``.

        Raises:
            Mismatch: The two do not fit.
        """
        if isinstance(type_, StructType) and is_wrapper(type_, shape):
            (field,) = type_.fields
            return self.wrapper(field.name, self.value(field.type, shape, where))
        if shape is None or (shape.kind == "any" and type_ is not model.STRING):
            return self._unknown(type_, where)
        if shape.kind in ("list", "map"):
            item = shape.item or Shape("any")
            item_type = _item_type(type_, shape, where)
            _check_items(item_type, item, where)
            return self._items(type_, self.value(item_type, item, where), where)
        return self._single(type_, shape, where)

    def struct(self, type_: StructType, name: str, where: str) -> Convert:
        """Return the function for a struct or union.

        Args:
            type_: As the IDL has it.
            name: Its name in the service; "" if only the IDL knows it.
            where: As in `value`.

        Raises:
            Mismatch: They do not fit.
        """
        key = type_, name
        if key not in self._made:
            self._made[key] = later(self._made, key)  # it may hold itself
            self._made[key] = self._bound(type_, name, where)
        return self._made[key]

    def _bound(self, type_: StructType, name: str, where: str) -> Convert:
        if not name:
            return self.any_fields(type_, where)
        named = self.types[name]
        if isinstance(named, Union) and type_.is_union:
            return self._bound_union(type_, named, where)
        if isinstance(named, Struct) and not type_.is_union:
            return self._bound_fields(type_, named, where)
        kind = "a" if isinstance(named, Union) else "no"
        raise Mismatch(
            f"{where}: {name} is {kind} union; {type_.name} in the IDL differs"
        )

    @property
    def types(self) -> Mapping[str, Struct | Enum | Union]:
        """The named types of the service."""
        return {} if self._service is None else self._service.types

    def _bound_fields(self, type_: StructType, struct: Struct, where: str) -> Convert:
        bound = bind_fields(_by_name(type_), struct, self.direction, _aliases(type_))
        _check(bound, type_.name, where)
        fields = [
            BoundField(
                field,
                partner,
                self._field(field.type, partner, f"{where}: field {partner.name!r}"),
            )
            for field, partner in bound.pairs
        ]
        return self._fields(struct, fields)

    def _field(
        self, type_: ThriftType, partner: idl_model.Field, where: str
    ) -> Convert:
        if partner.constant is None:
            return self.value(type_, partner.shape, where)
        value = expected = partner.constant
        if isinstance(type_, EnumType):
            number = constant_number(type_.numbers, value, type_.aliases, type_.name)
            if number is None:
                raise Mismatch(
                    f"{where}: the service has {value!r}, which {type_.name} lacks"
                )
            expected = number
        else:
            _check_leaf(type_, partner.shape, where)
        return self._constant(value, expected, where)

    def _bound_union(self, type_: StructType, union: Union, where: str) -> Convert:
        types = {
            field.name: field.type.name
            for field in type_.fields
            if isinstance(field.type, StructType)
        }
        bound = bind_options(
            _by_name(type_), union, self.direction, _aliases(type_), types
        )
        _check(bound, type_.name, where)
        options = [
            BoundOption(
                field,
                option,
                self.value(
                    field.type, option.shape, f"{where}: option {option.name!r}"
                ),
            )
            for field, option in bound.pairs
        ]
        return self._union(union, options, where)

    def _single(self, type_: ThriftType, shape: Shape, where: str) -> Convert:
        """Return the function for what is no container."""
        if shape.kind in ("struct", "union"):
            if not isinstance(type_, StructType):
                raise _unlike(where, shape, type_)
            return self.struct(type_, shape.name, where)
        if shape.kind != "enum":
            _check_leaf(type_, shape, where)
            return self._leaf(type_, shape, where)
        enum = self.types[shape.name]
        assert isinstance(enum, Enum)  # noqa: S101  # so says the shape
        if isinstance(type_, EnumType):
            bound = bind_values(
                type_.numbers, enum, self.direction, type_.aliases, type_.name
            )
            _check(bound, type_.name, where)
            return self._enum(dict(bound.pairs), type_, where)
        is_text = all(isinstance(value, str) for value in enum.values)
        _check_leaf(type_, Shape("str" if is_text else "int"), where)
        return None

    def _items(self, type_: ThriftType, convert: Convert, where: str) -> Convert:
        key = self._key(type_.key, where) if isinstance(type_, MapType) else None
        if convert is None and key is None:
            return None
        each, key = or_same(convert), or_same(key)
        if not isinstance(type_, MapType):
            return lambda value: [each(item) for item in value]
        return lambda value: {key(k): each(v) for k, v in value.items()}

    def _key(self, type_: ThriftType, where: str) -> Convert:
        if type_ is model.STRING:
            return self._text_key
        if type_ in (model.I8, model.I16, model.I32, model.I64):
            return self._number_key
        raise Mismatch(
            f"{where}: keys of a map are texts on the bus; the IDL has"
            f" {model.spell(type_)}"
        )

    def _unknown(self, type_: ThriftType, where: str) -> Convert:
        """Return the function for a value of which only the IDL knows the type."""
        if isinstance(type_, ListType | MapType):
            item = type_.item if isinstance(type_, ListType) else type_.value
            return self._items(type_, self.value(item, None, where), where)
        if isinstance(type_, EnumType):
            names = {n: type_.aliases.get(k, k) for k, n in type_.numbers.items()}
            return self._enum(names, type_, where)
        if isinstance(type_, StructType):
            return self.struct(type_, "", where)
        return self._leaf(type_, None, where)

    _text_key: Convert
    """For a map's key that is a text in the IDL."""

    @staticmethod
    @abstractmethod
    def _number_key(key: Any) -> Any:
        """Return the other form of a map's key that is a number in the IDL."""

    @abstractmethod
    def _leaf(self, type_: ThriftType, shape: Shape | None, where: str) -> Convert:
        """Return the function for a value without parts."""

    @abstractmethod
    def wrapper(self, name: str, inner: Convert) -> Convert:
        """Return the function for a struct whose one field holds the value, or nothing.

        Args:
            name: Of the field.
            inner: For the value.
        """

    @abstractmethod
    def _enum(
        self, values: Mapping[int, str | int], type_: EnumType, where: str
    ) -> Convert:
        """Return the function for an enum, by its values by number."""

    @abstractmethod
    def _constant(self, value: str | int, sent: str | int, where: str) -> Convert:
        """Return the function for a field that has only one value.

        Args:
            value: On the bus.
            sent: Over Thrift.
            where: As in `value`.
        """

    @abstractmethod
    def _fields(self, struct: Struct, fields: Sequence[BoundField]) -> Convert:
        """Return the function for a struct."""

    @abstractmethod
    def any_fields(self, type_: StructType, where: str) -> Convert:
        """Return the function for a struct that only the IDL knows."""

    @abstractmethod
    def _union(
        self, union: Union, options: Sequence[BoundOption], where: str
    ) -> Convert:
        """Return the function for a union."""


def is_wrapper(type_: ThriftType, shape: Shape | None) -> bool:
    """Tell whether a struct only holds a value, or nothing."""
    if not isinstance(type_, StructType) or type_.is_union or len(type_.fields) != 1:
        return False
    if type_.is_wrapper:
        return True
    return shape is not None and shape.kind not in ("struct", "union")


def _by_name(type_: StructType) -> dict[str, Field]:
    return {field.name: field for field in type_.fields}


def _aliases(type_: StructType) -> dict[str, str | None]:
    return {field.name: field.alias for field in type_.fields}


def _check(bound: Bound[Any, Any], owner: str, where: str) -> None:
    for problem in bound.problems(owner, _THE_SERVICE):
        raise Mismatch(f"{where}: {problem}")


def _unlike(where: str, shape: Shape, type_: ThriftType) -> Mismatch:
    """Return the error for a type that a value cannot have."""
    kind = f"{shape.kind} {shape.name}".strip()
    return Mismatch(f"{where}: the service has {kind}, the IDL {model.spell(type_)}")


def _check_leaf(type_: ThriftType, shape: Shape, where: str) -> None:
    """Check the type of a value without parts."""
    is_fit = isinstance(type_, model.Basic) and (
        type_.name == KINDS[shape.kind].thrift
        or (shape.kind == "int" and type_.wire in INTEGERS)
    )
    if not is_fit:
        raise _unlike(where, shape, type_)


def _item_type(type_: ThriftType, shape: Shape, where: str) -> ThriftType:
    """Return the type of a container's items, or of a map's values."""
    if shape.kind == "list" and isinstance(type_, ListType):
        return type_.item
    if shape.kind == "map" and isinstance(type_, MapType):
        return type_.value
    raise _unlike(where, shape, type_)


def _check_items(type_: ThriftType, item: Shape, where: str) -> None:
    """Check that a container whose items may be null can hold those."""
    if item.is_nullable and item.kind != "any" and not is_wrapper(type_, item):
        raise Mismatch(
            f"{where}: items may be null, for which Thrift needs a struct with one"
            " optional field around each"
        )


def or_same(convert: Convert) -> Callable[[Any], Any]:
    """Return the function itself, or one that returns what it is given."""
    return _same if convert is None else convert


def _same(value: Any) -> Any:
    return value
