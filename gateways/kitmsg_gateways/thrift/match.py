"""What of an IDL is what of a live schema: by annotation, by name, by name across styles.

``kit.name`` decides where it is annotated; else equal names; else names that differ only in
case, underscores and hyphens, if that is clear.  What does not fit is a `Mismatch` that
names the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.model import (
    EnumType,
    Field,
    ListType,
    MapType,
    StructType,
    Wire,
    fold,
    spell,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kitmsg.idl import model as idl_model
    from kitmsg_gateways.thrift.model import ThriftType

__all__ = [
    "WHOLE",
    "Mismatch",
    "check_container",
    "check_items",
    "check_leaf",
    "check_numbers",
    "find",
    "is_wrapper",
    "match_enum",
    "match_fields",
    "match_options",
    "unlike",
]

WHOLE: Final = frozenset({Wire.I8, Wire.I16, Wire.I32, Wire.I64})
"""What an integer may be in an IDL; a value that does not fit is refused when it comes."""

_I32_MIN: Final = -(2**31)
_I32_MAX: Final = 2**31 - 1
_BASIC: Final = {
    "bool": model.BOOL,
    "float": model.DOUBLE,
    "bytes": model.BINARY,
}
_TEXTS: Final = frozenset(
    {"str", "datetime", "date", "time", "duration", "decimal", "uuid", "any"}
)


class Mismatch(ValueError):
    """An IDL and a service do not fit; the text names the field."""


class Aliased(Protocol):
    """Something with a name in an IDL."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def alias(self) -> str | None:
        """Its name on the bus, where that is annotated."""
        ...


T = TypeVar("T")


def find(item: Aliased, known: Mapping[str, T]) -> T | None:
    """Return what `item` is among `known`, by their names on the bus; None if nothing."""
    if item.alias is not None:
        return known.get(item.alias)
    if item.name in known:
        return known[item.name]
    alike = [value for name, value in known.items() if fold(name) == fold(item.name)]
    return alike[0] if len(alike) == 1 else None


def unlike(where: str, shape: idl_model.Shape, type_: ThriftType) -> Mismatch:
    """Return the error for a type that a value cannot have."""
    kind = f"{shape.kind} {shape.name}".strip()
    return Mismatch(f"{where}: the service has {kind}, the IDL {spell(type_)}")


def check_leaf(type_: ThriftType, shape: idl_model.Shape, where: str) -> None:
    """Check the type of a value without parts.

    Raises:
        Mismatch: It cannot have that type.
    """
    if shape.kind in _TEXTS:
        is_fit = type_ is model.STRING
    elif shape.kind == "int":
        is_fit = type_.wire in WHOLE and not isinstance(type_, EnumType)
    else:
        is_fit = type_ is _BASIC.get(shape.kind)
    if not is_fit:
        raise unlike(where, shape, type_)


def is_wrapper(type_: ThriftType, shape: idl_model.Shape | None) -> bool:
    """Tell whether a struct only holds a value, or nothing."""
    if not isinstance(type_, StructType) or type_.is_union or len(type_.fields) != 1:
        return False
    if type_.is_wrapper:
        return True
    return shape is not None and shape.kind not in ("struct", "union")


def match_fields(
    type_: StructType, struct: idl_model.Struct, where: str
) -> list[tuple[Field, idl_model.Field]]:
    """Return the fields of both sides in pairs.

    Raises:
        Mismatch: The IDL has a field that the service has not.
    """
    known = {field.name: field for field in struct.fields}
    pairs = []
    for field in type_.fields:
        partner = find(field, known)
        if partner is None:
            raise Mismatch(
                f"{where}: the IDL has a field {field.name!r} in {type_.name}, which"
                f" the service has not; it has {_listed(known)}"
            )
        pairs.append((field, partner))
    _check_once(where, type_.name, [partner.name for _, partner in pairs])
    return pairs


def match_options(
    type_: StructType, union: idl_model.Union, where: str
) -> list[tuple[Field, idl_model.Option]]:
    """Return the fields of an IDL's union with the options that they stand for.

    Raises:
        Mismatch: They do not fit.
    """
    known: dict[str, idl_model.Option] = {}
    for option in union.options:
        known[option.name] = option
        known.setdefault(option.shape.name or option.name, option)
        known.setdefault(str(option.tag or option.name), option)
    pairs = []
    for field in type_.fields:
        by_type = field.type.name if isinstance(field.type, StructType) else ""
        option_ = find(field, known) or known.get(by_type)
        if option_ is None:
            raise Mismatch(
                f"{where}: the IDL's union {type_.name} has {field.name!r}, which the"
                f" service has not; it has {_listed(o.name for o in union.options)}"
            )
        pairs.append((field, option_))
    _check_once(where, type_.name, [option.name for _, option in pairs])
    return pairs


def match_enum(
    type_: EnumType, enum: idl_model.Enum, where: str
) -> dict[int, str | int]:
    """Return the service's values by the IDL's numbers.

    Raises:
        Mismatch: One side has an item that the other has not.
    """
    if check_numbers(enum.values):
        found: dict[int, str | int] = {n: n for n in type_.numbers.values()}
    else:
        known = {str(value): value for value in enum.values}
        found = {}
        for name, number in type_.numbers.items():
            item = Field(number, name, model.I32, alias=type_.aliases.get(name))
            value = find(item, known)
            if value is None:
                raise Mismatch(
                    f"{where}: the IDL's enum {type_.name} has {name}, which the service"
                    f" has not; it has {_listed(known)}"
                )
            found[number] = value
    missing = [str(value) for value in enum.values if value not in found.values()]
    if missing or len(found) > len(enum.values):
        raise Mismatch(
            f"{where}: the IDL's enum {type_.name} does not have the service's values"
            f" {_listed(map(str, enum.values))}"
        )
    return found


def check_numbers(values: Sequence[str | int]) -> bool:
    """Tell whether enum values are numbers, and can be those on the wire too."""
    return all(
        isinstance(value, int) and _I32_MIN <= value <= _I32_MAX for value in values
    )


def check_container(
    type_: ThriftType, shape: idl_model.Shape, where: str
) -> ThriftType:
    """Return the type of a container's items, or of a map's values.

    Raises:
        Mismatch: The type is no such container.
    """
    if shape.kind == "list" and isinstance(type_, ListType):
        return type_.item
    if shape.kind == "map" and isinstance(type_, MapType):
        return type_.value
    raise unlike(where, shape, type_)


def check_items(type_: ThriftType, item: idl_model.Shape, where: str) -> None:
    """Check that a container whose items may be null can hold those.

    Raises:
        Mismatch: It cannot.
    """
    if item.is_nullable and item.kind != "any" and not is_wrapper(type_, item):
        raise Mismatch(
            f"{where}: items may be null, for which Thrift needs a struct with one"
            " optional field around each"
        )


def _check_once(where: str, name: str, partners: list[str]) -> None:
    twice = [each for each in partners if partners.count(each) > 1]
    if twice:
        raise Mismatch(f"{where}: two fields of {name} in the IDL are {twice[0]!r}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
