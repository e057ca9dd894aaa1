"""One JSON Schema, with the definitions in it, as a shape and types with names.

Each thing that can be said has one form afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from kitmsg.idl.model import (
    MISSING,
    Enum,
    Field,
    Named,
    Option,
    Shape,
    Struct,
    Union,
    names_in,
    parts_of,
)
from kitmsg.idl.naming import camel, plain, snake, unique
from kitmsg.schema.pointers import lookup

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Part", "SchemaReader"]

_MAX_DEPTH: Final = 64
_MAX_SHAPES: Final = 20_000
_FORMATS: Final = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "duration",
    "decimal": "decimal",
    "uuid": "uuid",
}
_LEAVES: Final = {"boolean": "bool", "integer": "int", "number": "float"}
_UNREAD: Final = frozenset({"allOf", "not", "if", "items", "prefixItems"})
_STEP: Final = ", "
_FIRST: Final = "item_1"
_WIRE: Final = {
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "list": "array",
    "map": "object",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A shape read from one schema, with the named types that it is made of."""

    shape: Shape
    types: Mapping[str, Named]


class SchemaReader:
    """Reads one schema, with the definitions in it.

    Args:
        where: The endpoint, for messages.
        document: The schema.
    """

    def __init__(self, where: str, document: Any) -> None:
        self._where = where
        self._document = document
        self._types: dict[str, Named] = {}
        self._names: dict[str, str] = {}
        self._taken: set[str] = set()
        self._open: list[str] = []
        self._referred_shapes: dict[str, Shape] = {}
        self._read_shapes = 0

    def object(self, name: str, what: str) -> Part:
        """Return the part read from a schema that has to be an object.

        Args:
            name: Its name, if the schema has none or one that ends so.
            what: It, for messages.

        Raises:
            ValueError: It cannot be carried.
        """
        part = self.anything(name, what)
        if part.shape.kind != "struct" or part.shape.is_nullable:
            raise self._refuse(what, "it is not an object with named fields")
        return part

    def anything(self, name: str, what: str) -> Part:
        """Return the part read from any schema; arguments and errors as in `object`."""
        if isinstance(self._document, dict):
            self._name_definitions(name)
        shape = self._shape(self._document, name, what)
        return Part(shape, self._reached(shape))

    def _reached(self, shape: Shape) -> dict[str, Named]:
        """Return the types that `shape` is made of; some were read in vain."""
        reached: set[str] = set()
        waiting = names_in(shape)
        while waiting:
            at = waiting.pop()
            if at not in reached:
                reached.add(at)
                waiting += parts_of(self._types[at])
        return {name: t for name, t in self._types.items() if name in reached}

    def _name_definitions(self, root: str) -> None:
        """Choose names, so that none depends on what is read first."""
        own = self._document.get("$ref")
        for section in ("$defs", "definitions"):
            definitions = self._document.get(section)
            for key in definitions if isinstance(definitions, dict) else ():
                reference = f"#/{section}/{key}"
                name = camel(key)
                if reference == own and name.endswith(root):
                    name = root
                self._names[reference] = self._claim(name)

    def _claim(self, name: str) -> str:
        chosen = unique(name, self._taken)
        self._taken.add(plain(chosen))
        return chosen

    def _refuse(self, what: str, why: str) -> ValueError:
        return ValueError(f"{self._where}: {what}: {why}")

    def _shape(self, schema: Any, name: str, what: str) -> Shape:
        """Return the shape of any schema.

        Args:
            schema: It.
            name: Its name, if it needs one and has none.
            what: Where it is, for messages.
        """
        self._read_shapes += 1
        if self._read_shapes > _MAX_SHAPES or what.count(_STEP) > _MAX_DEPTH:
            raise self._refuse(what[:200], "the schema is too large or too deep")
        if schema is True:
            return Shape("any")
        if not isinstance(schema, dict):
            raise self._refuse(what, "its schema allows nothing")
        if "$ref" in schema:
            return self._referred(schema["$ref"], name, what)
        if len(schema.get("allOf", ())) == 1:
            return self._shape(schema["allOf"][0], name, what)
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._either(schema, schema[key], name, what)
        return self._own(schema, name, what)

    def _own(self, schema: dict[str, Any], name: str, what: str) -> Shape:
        """Return the shape of a schema that does not send us elsewhere."""
        if "const" in schema or "enum" in schema:
            return self._enum(schema, name, what)
        kind = schema.get("type")
        if isinstance(kind, list):
            bare = {key: value for key, value in schema.items() if key != "default"}
            options = [{**bare, "type": each} for each in kind]
            return self._either(schema, options, name, what)
        if kind == "array":
            return self._array(schema, name, what)
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, name, what)
        return self._leaf(schema, kind, what)

    def _leaf(self, schema: dict[str, Any], kind: Any, what: str) -> Shape:
        if kind == "string":
            if schema.get("contentEncoding") == "base64":
                return Shape("bytes")
            return Shape(_FORMATS.get(schema.get("format", ""), "str"))
        if kind in _LEAVES:
            return Shape(_LEAVES[kind])
        if kind == "null":
            raise self._refuse(what, "it is always null; leave it out")
        if kind is None and not schema.keys() & _UNREAD:
            return Shape("any")
        raise self._refuse(what, "its schema has no form outside JSON")

    def _referred(self, reference: Any, name: str, what: str) -> Shape:
        known = self._referred_shapes.get(reference)
        if known is not None:
            return known
        schema = self._resolve(reference, what)
        own = self._names.get(reference)
        if reference in self._open:
            # A struct may hold itself, since it is known by its name.
            if own is not None and own in self._types:
                return _reference(self._types[own])
            raise self._refuse(what, f"{reference} is made of nothing but itself")
        self._open.append(reference)
        shape = self._shape(schema, own or name, what)
        self._open.pop()
        self._referred_shapes[reference] = shape
        return shape

    def _resolve(self, reference: Any, what: str) -> Any:
        found = lookup(reference, self._document)
        if found is None:
            raise self._refuse(what, f"there is no {reference!r} in its schema")
        return found

    def _keep(self, type_: Named) -> Shape:
        self._types[type_.name] = type_
        return _reference(type_)

    def _called(self, name: str) -> str:
        """Return the name for a type: a definition's own, or `name` if it is free."""
        is_definition = bool(self._open) and self._names.get(self._open[-1]) == name
        return name if is_definition else self._claim(name)

    def _enum(self, schema: dict[str, Any], name: str, what: str) -> Shape:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if not isinstance(values, list):
            raise self._refuse(what, "its enum is not a list")
        kept = tuple(value for value in values if value is not None)
        for value in kept:
            if isinstance(value, bool) or not isinstance(value, (int, str)):
                raise self._refuse(what, f"an enum cannot hold {value!r}")
        if not kept:
            raise self._refuse(what, "it allows nothing")
        called = self._called(name)
        unlike = tuple(dict.fromkeys(kept))
        names = _varnames(schema, unlike)
        shape = self._keep(Enum(called, unlike, names, _doc(schema)))
        return replace(shape, is_nullable=len(kept) < len(values))

    def _array(self, schema: dict[str, Any], name: str, what: str) -> Shape:
        items = schema.get("prefixItems")
        if not items:
            rest = schema.get("items", True)
            item = self._shape(rest, f"{name}Item", f"{what}{_STEP}each item")
            return Shape("list", item=item)
        if schema.get("items", False) not in (False, True, {}):
            raise self._refuse(what, "it has items behind those that have a place")
        called = self._called(name)
        required = schema.get("minItems", 0)
        places = [(f"item_{n}", item) for n, item in enumerate(items, 1)]
        needed = {place for place, _ in places[:required]}
        return self._struct(called, schema, places, needed, what, is_array=True)

    def _object(self, schema: dict[str, Any], name: str, what: str) -> Shape:
        properties = schema.get("properties")
        rest = schema.get("additionalProperties")
        is_open = properties == {} and bool(rest) and "title" not in schema
        if properties is None or is_open:
            values = True if rest is None else rest
            item = self._shape(values, f"{name}Value", f"{what}{_STEP}each value")
            return Shape("map", item=item)
        if not isinstance(properties, dict):
            raise self._refuse(what, "its properties are not an object")
        called = self._called(name)
        needed = set(schema.get("required", ()))
        return self._struct(called, schema, list(properties.items()), needed, what)

    def _struct(
        self,
        name: str,
        schema: dict[str, Any],
        properties: list[tuple[str, Any]],
        required: set[str],
        what: str,
        *,
        is_array: bool = False,
    ) -> Shape:
        constants = tuple(
            (key, constant)
            for key, property_ in properties
            if (constant := _constant(property_)) is not None
            and (key in required or property_.get("default") == constant)
        )
        struct = Struct(name, (), constants, is_array, _doc(schema))
        self._keep(struct)  # its fields may hold it
        fixed = dict(constants)
        fields = [
            self._field(name, key, property_, key in required, what)
            for key, property_ in properties
            if key not in fixed
        ]
        return self._keep(replace(struct, fields=tuple(fields)))

    def _field(
        self, owner: str, key: str, schema: Any, is_required: bool, what: str
    ) -> Field:
        shape = self._shape(schema, owner + camel(key), f"{what}{_STEP}field {key!r}")
        said = schema if isinstance(schema, dict) else {}
        default = MISSING if is_required else said.get("default", MISSING)
        return Field(key, shape, is_required, default, _doc(said))

    def _either(
        self, schema: dict[str, Any], options: Any, name: str, what: str
    ) -> Shape:
        """Return the shape of ``anyOf``: something or null, or a union."""
        if not isinstance(options, list):
            raise self._refuse(what, "its options are not a list")
        kept = [option for option in options if not _is_null(option)]
        if not kept:
            raise self._refuse(what, "it is always null; leave it out")
        if len(kept) == 1:
            shape = self._shape(kept[0], name, what)
            is_nullable = shape.is_nullable or len(kept) < len(options)
            return replace(shape, is_nullable=is_nullable)
        called = self._called(name)
        shapes = [
            self._shape(option, f"{called}{n}", f"{what}{_STEP}option {n}")
            for n, option in enumerate(kept, 1)
        ]
        is_nullable = len(kept) < len(options) or any(s.is_nullable for s in shapes)
        union = self._union(called, _doc(schema), shapes, what)
        if union is None:
            return Shape("any", is_nullable=is_nullable)
        return replace(self._keep(union), is_nullable=is_nullable)

    def _union(
        self, name: str, doc: str, shapes: list[Shape], what: str
    ) -> Union | None:
        """Return a union of `shapes`; None if one of them is anything at all."""
        flat = [
            replace(s, is_nullable=False) for shape in shapes for s in self._flat(shape)
        ]
        flat = list(dict.fromkeys(flat))
        if any(shape.kind == "any" for shape in flat):
            return None
        alike: dict[str, list[Shape]] = {}
        for shape in flat:
            alike.setdefault(self._wire(shape, what), []).append(shape)
        tag_field, tags = "", dict[str, str | int]()
        for wire, several in alike.items():
            if len(several) > 1:
                key, found = self._tags(several)
                if not key:
                    raise self._refuse(
                        what, f"two of its options are {wire}s; give each a tag"
                    )
                tag_field = key if wire == "object" or not tag_field else tag_field
                tags |= found
        taken: set[str] = set()
        made: list[Option] = []
        for shape in flat:
            label = unique(snake(shape.name or shape.kind), taken)
            taken.add(plain(label))
            made.append(Option(label, shape, tags.get(shape.name)))
        return Union(name, tuple(made), tag_field, doc)

    def _flat(self, shape: Shape) -> list[Shape]:
        """Return a shape, or the options of the union that it is."""
        union = self._types.get(shape.name)
        if not isinstance(union, Union):
            return [shape]
        return [option.shape for option in union.options]

    def _wire(self, shape: Shape, what: str) -> str:
        """Return the JSON type of a shape."""
        type_ = self._types.get(shape.name)
        if isinstance(type_, Struct):
            return "array" if type_.is_array else "object"
        if isinstance(type_, Enum):
            kinds = {type(value) for value in type_.values}
            if len(kinds) > 1:
                raise self._refuse(
                    what, "one of its options is an enum of texts and integers"
                )
            return "string" if kinds == {str} else "integer"
        return _WIRE.get(shape.kind, "string")

    def _tags(self, shapes: list[Shape]) -> tuple[str, dict[str, str | int]]:
        """Return the key that tells structs apart, and its value by their names.

        The key is "" if they are not all structs, or none tells them apart.
        """
        structs = [self._types.get(shape.name) for shape in shapes]
        found = [
            dict(struct.constants) if isinstance(struct, Struct) else {}
            for struct in structs
        ]
        is_array = self._wire(shapes[0], "") == "array"
        for key in (_FIRST,) if is_array else found[0]:
            values = {each.get(key) for each in found}
            if None not in values and len(values) == len(shapes):
                return key, {
                    shape.name: constants[key]
                    for shape, constants in zip(shapes, found, strict=True)
                }
        return "", {}


def _reference(type_: Named) -> Shape:
    kind = {Struct: "struct", Enum: "enum", Union: "union"}[type(type_)]
    return Shape(kind, type_.name)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _constant(schema: Any) -> str | int | None:
    """Return the one value that a schema allows."""
    if not isinstance(schema, dict) or not schema.keys() & {"const", "enum"}:
        return None
    values = [schema["const"]] if "const" in schema else schema["enum"]
    if not isinstance(values, list) or len(values) != 1:
        return None
    (value,) = values
    is_tag = isinstance(value, (str, int)) and not isinstance(value, bool)
    return value if is_tag else None


def _varnames(schema: dict[str, Any], values: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the names of an enum's values; () if the schema has not one for each."""
    names = schema.get("x-enum-varnames")
    if not isinstance(names, list) or len(names) != len(values):
        return ()
    is_text = all(isinstance(each, str) for each in names)
    return tuple(names) if is_text and len(set(names)) == len(names) else ()


def _doc(schema: dict[str, Any]) -> str:
    text = schema.get("description", "")
    return text if isinstance(text, str) else ""
