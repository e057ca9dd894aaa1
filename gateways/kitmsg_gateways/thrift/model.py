"""The types, methods and services of a Thrift IDL, as plain values.  No I/O here.

A struct compares by identity, because structs may hold themselves.  The wire numbers are
those of the binary protocol.  Source: thrift.apache.org, "Thrift interface description
language" and "Thrift binary protocol".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "BINARY",
    "BOOL",
    "DOUBLE",
    "I8",
    "I16",
    "I32",
    "I64",
    "STRING",
    "Basic",
    "EnumType",
    "Field",
    "Idl",
    "ListType",
    "MapType",
    "Method",
    "ServiceType",
    "StructType",
    "ThriftType",
    "Wire",
    "spell",
]


class Wire(IntEnum):
    """Number of a type on the wire of the binary protocol."""

    STOP = 0
    BOOL = 2
    I8 = 3
    DOUBLE = 4
    I16 = 6
    I32 = 8
    I64 = 10
    STRING = 11
    STRUCT = 12
    MAP = 13
    SET = 14
    LIST = 15


@dataclass(frozen=True, slots=True)
class Basic:
    """A type without parts; `name` is the IDL's word for it."""

    name: str
    wire: Wire


BOOL: Final = Basic("bool", Wire.BOOL)
I8: Final = Basic("i8", Wire.I8)
I16: Final = Basic("i16", Wire.I16)
I32: Final = Basic("i32", Wire.I32)
I64: Final = Basic("i64", Wire.I64)
DOUBLE: Final = Basic("double", Wire.DOUBLE)
STRING: Final = Basic("string", Wire.STRING)
BINARY: Final = Basic("binary", Wire.STRING)


@dataclass(frozen=True, eq=False)
class EnumType:
    """Named numbers.

    Attributes:
        name: Its name.
        numbers: By the items' names.
        aliases: Names of items on the bus, where annotated.
    """

    name: str
    numbers: Mapping[str, int]
    aliases: Mapping[str, str]
    wire: Wire = Wire.I32


@dataclass(frozen=True, slots=True)
class ListType:
    """A list, or a set."""

    item: ThriftType
    is_set: bool = False

    @property
    def wire(self) -> Wire:
        """`SET` or `LIST`."""
        return Wire.SET if self.is_set else Wire.LIST


@dataclass(frozen=True, slots=True)
class MapType:
    """A map; its keys are no structs and no containers."""

    key: ThriftType
    value: ThriftType
    wire: Wire = Wire.MAP


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a struct, or one parameter.

    Attributes:
        id: Its number on the wire.
        name: Its name.
        type: Its type.
        is_required: Whether a message without it is refused.
        default: Its value where it is absent; None for nothing.
        alias: Its name on the bus, where that is annotated.
        is_nullable: Whether its absence is null on the bus, by annotation.
    """

    id: int
    name: str
    type: ThriftType
    is_required: bool = False
    default: Any = None
    alias: str | None = None
    is_nullable: bool = False

    @property
    def key(self) -> str:
        """Its name on the bus."""
        return self.name if self.alias is None else self.alias


@dataclass(eq=False)
class StructType:
    """A struct, a union, an exception, or the parameters of a method.

    Attributes:
        name: Its name.
        fields: In the order of the IDL.
        is_union: Whether exactly one field is there.
        is_wrapper: Whether it only tells something from nothing, by annotation.
        alias: Its name on the bus, where that is annotated.
    """

    name: str
    fields: tuple[Field, ...] = ()
    is_union: bool = False
    is_wrapper: bool = False
    alias: str | None = None
    wire: Wire = field(default=Wire.STRUCT, repr=False)

    def __getitem__(self, name: str) -> Field:
        return next(item for item in self.fields if item.name == name)

    def __repr__(self) -> str:
        return f"StructType({self.name!r})"


ThriftType: TypeAlias = Basic | EnumType | ListType | MapType | StructType


@dataclass(frozen=True, eq=False)
class Method:
    """One method of a service.

    Attributes:
        name: Its name on the wire.
        args: Its parameters.
        result: The fields of an answer: field 0, ``success``, unless it is void, and the
            exceptions.
        is_oneway: Whether nothing comes back.
        alias: Its name on the bus, where that is annotated.
    """

    name: str
    args: StructType
    result: StructType
    is_oneway: bool = False
    alias: str | None = None

    @property
    def success(self) -> ThriftType | None:
        """Type of the result; None for void."""
        found = [item.type for item in self.result.fields if item.id == 0]
        return found[0] if found else None

    @property
    def throws(self) -> tuple[Field, ...]:
        """The exceptions, in order."""
        return tuple(item for item in self.result.fields if item.id != 0)


@dataclass(frozen=True, eq=False)
class ServiceType:
    """One service, with the methods that it inherits.

    Attributes:
        name: Its name.
        methods: By name.
        alias: Its name on the bus, where that is annotated.
    """

    name: str
    methods: Mapping[str, Method]
    alias: str | None = None


@dataclass(frozen=True, eq=False)
class Idl:
    """The services of one IDL; `name` is its file's, without the ending."""

    name: str
    services: Mapping[str, ServiceType]

    def __iter__(self) -> Iterator[ServiceType]:
        return iter(self.services.values())


def spell(type_: ThriftType) -> str:
    """Return a type as the IDL writes it."""
    if isinstance(type_, ListType):
        return f"{'set' if type_.is_set else 'list'}<{spell(type_.item)}>"
    if isinstance(type_, MapType):
        return f"map<{spell(type_.key)}, {spell(type_.value)}>"
    return type_.name
