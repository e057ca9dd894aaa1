"""Service definitions as a small tree: the same for protobuf and for Thrift.

A JSON Schema says one thing in many ways; here each thing has one form.  `KINDS` is the
one table of types: what each is in JSON, in protobuf and in Thrift.  `reader.py` reads
schemas into these values; nothing here knows a wire format.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "KINDS",
    "MISSING",
    "Enum",
    "Field",
    "Kind",
    "Method",
    "Named",
    "Option",
    "ServiceShapes",
    "Shape",
    "Struct",
    "Union",
    "kinds_in",
    "members_of",
    "names_in",
    "parts_of",
    "renamed_shape",
    "renamed_type",
]

MISSING: Final[Any] = type("MISSING", (), {"__repr__": lambda _: "MISSING"})()
"""The default of a field that has none, or none that its schema tells."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table of types.

    Attributes:
        json: Its type in JSON and in a message on the bus.
        protobuf: Its type there; "" for one made by the generator.
        thrift: Its type there; "" for one made by the generator.
    """

    json: str
    protobuf: str = ""
    thrift: str = ""


KINDS: Final[Mapping[str, Kind]] = {
    "bool": Kind("boolean", "bool", "bool"),
    "int": Kind("integer", "int64", "i64"),
    "float": Kind("number", "double", "double"),
    "str": Kind("string", "string", "string"),
    "bytes": Kind("base64 text; bin in msgpack", "bytes", "binary"),
    # Text, as in JSON: it alone keeps a zone, its absence, and every digit.
    "datetime": Kind("RFC 3339 text", "string", "string"),
    "date": Kind("RFC 3339 text", "string", "string"),
    "time": Kind("RFC 3339 text", "string", "string"),
    "duration": Kind("ISO 8601 text", "string", "string"),
    "decimal": Kind("decimal text", "string", "string"),
    "uuid": Kind("UUID text", "string", "string"),
    "any": Kind("anything", "google.protobuf.Value", "string"),
    "list": Kind("array"),
    "map": Kind("object; keys are text"),
    "struct": Kind("object, or array if `Struct.is_array`"),
    "enum": Kind("one of some texts or integers"),
    "union": Kind("one of its options"),
}
"""Every kind of shape.  Thrift has no type for ``any``: it is JSON in a string."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The type of a value in one place.

    Attributes:
        kind: One of `KINDS`.
        name: Of the struct, enum or union that it is, in `ServiceShapes.types`.
        item: The type of a list's items or a map's values.
        is_nullable: Whether it may be null.
    """

    kind: str
    name: str = ""
    item: Shape | None = None
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a struct.

    Attributes:
        name: Its key in JSON; any text.
        shape: Its type.
        is_required: Whether it must be there.
        default: Its value when it is left out; `MISSING` if the schema tells none.
        doc: For people.
        constant: The only value it has, where a user's IDL has a field for one of
            `Struct.constants`; None for any other field.
    """

    name: str
    shape: Shape
    is_required: bool = True
    default: Any = MISSING
    doc: str = field(default="", compare=False)
    constant: str | int | None = None

    @property
    def has_three_states(self) -> bool:
        """Whether being left out differs from being null, and both can be."""
        return (
            self.shape.is_nullable and not self.is_required and self.default is not None
        )


@dataclass(frozen=True, slots=True)
class Struct:
    """An object with named fields, or an array with an item at each position.

    Attributes:
        name: A CamelCase identifier, unique in its service.
        fields: In the order they were declared; ``item_1``, ``item_2`` ... of an array.
        constants: Keys whose value is always the same, such as a union's tag.  They are
            no fields, but are in every message; an array's key is its position.
        is_array: Whether it travels as an array.
        doc: For people.
    """

    name: str
    fields: tuple[Field, ...] = ()
    constants: tuple[tuple[str, str | int], ...] = ()
    is_array: bool = False
    doc: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Enum:
    """One of some values, all different; texts, integers or both.

    Attributes:
        name: A CamelCase identifier, unique in its service.
        values: As they travel; in the order of their declaration.
        names: Names of the values; () where the values are names themselves.
        doc: For people.
    """

    name: str
    values: tuple[str | int, ...]
    names: tuple[str, ...] = field(default=(), compare=False)
    doc: str = field(default="", compare=False)

    def title(self, value: str | int) -> str:
        """Return what generated code calls a value: its name, or itself as text."""
        return dict(zip(self.values, self.names, strict=False)).get(value, str(value))


@dataclass(frozen=True, slots=True)
class Option:
    """One of a union's options.

    Attributes:
        name: An identifier in snake case, unique in its union.
        shape: Its type; never null.
        tag: Value of the tag field for this option; None in a union without.
    """

    name: str
    shape: Shape
    tag: str | int | None = None


@dataclass(frozen=True, slots=True)
class Union:
    """One of several things, told apart by a tag or by what they are in JSON.

    Attributes:
        name: A CamelCase identifier, unique in its service.
        options: Without a `tag_field`, no two are the same type in JSON, but for an
            integer beside a number: there, whole numbers are the integer.  Options with
            tags are structs; they may stand beside others without.
        tag_field: Key of the tag in each option that has one; "" if none has.  An
            array's tag is its first item.
        doc: For people.
    """

    name: str
    options: tuple[Option, ...]
    tag_field: str = ""
    doc: str = field(default="", compare=False)


Named: TypeAlias = Struct | Enum | Union
"""A type with a name of its own."""


@dataclass(frozen=True, slots=True)
class Method:
    """An endpoint's types.

    Attributes:
        endpoint: The endpoint's name on the bus.
        name: A CamelCase identifier, unique in its service.
        request: Name of the struct that a request is.
        response: Type of the result; None for nothing.  With a stream out, each item.
        items: Type of the items of a stream in; None without.
        stream: ``out``, ``in``, ``both``, or "" for one request and one response.
        codec: In which codec to call it: ``msgpack``, but ``json`` where a map goes in:
            generated types have text for keys, and only JSON reads text as any key.
        errors: Structs of the declared errors, by the errors' names.
        doc: For people.
        is_single: Whether the request is a struct of the service's own, not one made of
            parameters.
    """

    endpoint: str
    name: str
    request: str
    response: Shape | None
    items: Shape | None = None
    stream: str = ""
    codec: str = "msgpack"
    errors: Mapping[str, str] = field(default_factory=dict)
    doc: str = field(default="", compare=False)
    is_single: bool = False


@dataclass(frozen=True, slots=True)
class ServiceShapes:
    """The definition of one service, for generators and converters.

    Attributes:
        service: Its name on the bus.
        name: A CamelCase identifier, the name of no type.
        methods: Sorted by endpoint.
        types: Every type with a name, by name.
        refused: Why an endpoint has no form outside, by the endpoint's name.
        doc: For people.
    """

    service: str
    name: str
    methods: tuple[Method, ...]
    types: Mapping[str, Named]
    refused: Mapping[str, str] = field(default_factory=dict)
    doc: str = field(default="", compare=False)

    def struct(self, name: str) -> Struct:
        """Return the struct of that name.

        Raises:
            KeyError: There is none.
        """
        found = self.types[name]
        if not isinstance(found, Struct):
            raise KeyError(name)
        return found


def parts_of(type_: Named) -> list[str]:
    """Return the names of the types that `type_` is directly made of."""
    return [name for member in members_of(type_) for name in names_in(member.shape)]


def members_of(type_: Named) -> tuple[Field, ...] | tuple[Option, ...]:
    """Return the fields of a struct or the options of a union; an enum has none."""
    if isinstance(type_, Enum):
        return ()
    return type_.fields if isinstance(type_, Struct) else type_.options


def kinds_in(shape: Shape) -> list[str]:
    """Return the kind of `shape` and of what it holds."""
    inner = [] if shape.item is None else kinds_in(shape.item)
    return [shape.kind, *inner]


def renamed_type(type_: Named, rename: Callable[[str], str]) -> Named:
    """Return `type_` with `rename` applied to its name and to those it refers to."""
    name = rename(type_.name)
    if isinstance(type_, Enum):
        return replace(type_, name=name)
    if isinstance(type_, Union):
        options = tuple(
            replace(option, shape=renamed_shape(option.shape, rename))
            for option in type_.options
        )
        return replace(type_, name=name, options=options)
    fields = tuple(
        replace(field, shape=renamed_shape(field.shape, rename))
        for field in type_.fields
    )
    return replace(type_, name=name, fields=fields)


def names_in(shape: Shape) -> list[str]:
    """Return the names of the types that `shape` refers to."""
    inner = [] if shape.item is None else names_in(shape.item)
    return [shape.name, *inner] if shape.name else inner


def renamed_shape(shape: Shape, rename: Callable[[str], str]) -> Shape:
    """Return `shape` with `rename` applied to each name that it refers to."""
    return replace(
        shape,
        name=rename(shape.name) if shape.name else "",
        item=None if shape.item is None else renamed_shape(shape.item, rename),
    )
