"""From values as Thrift has them to values as the bus has them, and back: what is common.

For each pair of types a function is made once, or None where the value can stay as it is;
for the numbers and texts of most services that is so.  `inward.py` makes the functions for
what comes over Thrift, `outward.py` those for what goes there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from kitmsg.idl.model import Enum, Shape, Struct, Union
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.match import (
    Mismatch,
    check_container,
    check_items,
    check_leaf,
    is_wrapper,
    unlike,
)
from kitmsg_gateways.thrift.model import (
    EnumType,
    ListType,
    MapType,
    StructType,
    ThriftType,
)
from kitmsg_gateways.thrift.protocol import later

if TYPE_CHECKING:
    from kitmsg.idl.model import ServiceShapes

__all__ = ["Convert", "Converters"]

Convert: TypeAlias = Callable[[Any], Any] | None
"""Takes a value and returns the other form of it; None where there is no other form."""


class Converters(ABC):
    """Makes the functions of one direction for one service.

    Args:
        service: What the service says of its types; None if it does not.
        as_json: Whether values are JSON on the bus, which has no bytes.
    """

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
            item_type = check_container(type_, shape, where)
            check_items(item_type, item, where)
            return self._items(type_, self.value(item_type, item, where), where)
        return self._single(type_, shape, where)

    def struct(self, type_: StructType, name: str, where: str) -> Convert:
        """Return the function for a struct or union that the service calls `name`.

        Raises:
            Mismatch: They do not fit.
        """
        key = type_, name
        if key not in self._made:
            self._made[key] = later(self._made, key)  # it may hold itself
            named = self.named(name)
            if isinstance(named, Union) and type_.is_union:
                self._made[key] = self.union(type_, named, where)
            elif isinstance(named, Struct) and not type_.is_union:
                self._made[key] = self.fields(type_, named, where)
            else:
                kind = "a" if isinstance(named, Union) else "no"
                raise Mismatch(
                    f"{where}: {name} is {kind} union; {type_.name} in the IDL differs"
                )
        return self._made[key]

    def named(self, name: str) -> Struct | Enum | Union:
        """Return what the service calls `name`."""
        assert self._service is not None  # noqa: S101  # it told the name
        return self._service.types[name]

    def enum_of(self, shape: Shape) -> Enum:
        """Return the enum that a shape is."""
        found = self.named(shape.name)
        assert isinstance(found, Enum)  # noqa: S101  # so says the shape
        return found

    def _single(self, type_: ThriftType, shape: Shape, where: str) -> Convert:
        """Return the function for what is no container."""
        if shape.kind in ("struct", "union"):
            if not isinstance(type_, StructType):
                raise unlike(where, shape, type_)
            return self.struct(type_, shape.name, where)
        if shape.kind != "enum":
            check_leaf(type_, shape, where)
            return self.leaf(type_, shape, where)
        enum = self.enum_of(shape)
        if isinstance(type_, EnumType):
            return self.enum(type_, enum, where)
        is_text = all(isinstance(value, str) for value in enum.values)
        check_leaf(type_, Shape("str" if is_text else "int"), where)
        return None

    def _items(self, type_: ThriftType, convert: Convert, where: str) -> Convert:
        key = self._key(type_.key, where) if isinstance(type_, MapType) else None
        if convert is None and key is None:
            return None
        if not isinstance(type_, MapType):
            return lambda value: [(convert or _same)(item) for item in value]
        return lambda value: {
            (k if key is None else key(k)): (v if convert is None else convert(v))
            for k, v in value.items()
        }

    def _key(self, type_: ThriftType, where: str) -> Convert:
        if type_ is model.STRING:
            return self.text_key
        if type_ in (model.I8, model.I16, model.I32, model.I64):
            return self.number_key
        raise Mismatch(
            f"{where}: keys of a map are texts on the bus; the IDL has"
            f" {model.spell(type_)}"
        )

    def _unknown(self, type_: ThriftType, where: str) -> Convert:
        """Return the function for a value of which only the IDL knows the type."""
        if isinstance(type_, ListType):
            return self._items(type_, self.value(type_.item, None, where), where)
        if isinstance(type_, MapType):
            return self._items(type_, self.value(type_.value, None, where), where)
        if isinstance(type_, EnumType):
            names = {n: type_.aliases.get(k, k) for k, n in type_.numbers.items()}
            return self.numbers(names, type_, where)
        if not isinstance(type_, StructType):
            return self.leaf(type_, None, where)
        key = type_, ""
        if key not in self._made:
            self._made[key] = later(self._made, key)
            self._made[key] = self.any_fields(type_, where)
        return self._made[key]

    text_key: Convert
    """For a map's key that is a text in the IDL."""

    @staticmethod
    @abstractmethod
    def number_key(key: Any) -> Any:
        """Return the other form of a map's key that is a number in the IDL."""

    @abstractmethod
    def leaf(self, type_: ThriftType, shape: Shape | None, where: str) -> Convert:
        """Return the function for a value without parts."""

    @abstractmethod
    def wrapper(self, name: str, inner: Convert) -> Convert:
        """Return the function for a struct whose one field holds the value, or nothing.

        Args:
            name: Of the field.
            inner: For the value.
        """

    @abstractmethod
    def enum(self, type_: EnumType, enum: Enum, where: str) -> Convert:
        """Return the function for an enum."""

    @abstractmethod
    def numbers(self, values: dict[int, str], type_: EnumType, where: str) -> Convert:
        """Return the function for an enum whose values are known by number."""

    @abstractmethod
    def fields(self, type_: StructType, struct: Struct, where: str) -> Convert:
        """Return the function for a struct."""

    @abstractmethod
    def any_fields(self, type_: StructType, where: str) -> Convert:
        """Return the function for a struct that only the IDL knows."""

    @abstractmethod
    def union(self, type_: StructType, union: Union, where: str) -> Convert:
        """Return the function for a union."""


def _same(value: Any) -> Any:
    return value
