"""The JSON Schema of a type, from `msgspec.inspect`'s description of it.

msgspec has a generator of its own.  This one keeps the order in which enums are declared,
describes pydantic models in the mode in which they travel, names generic classes without
their modules, and says no more than a service takes: no ``uniqueItems`` and no weeks, since
neither is how msgspec reads sets and durations.
"""

from __future__ import annotations

import enum
import functools
import inspect
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_origin

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import reached, schema_generator, write_model
from kitmsg.schema.components import (
    NAMED,
    literal_orders,
    models_of,
    names_of,
    title_of,
)
from kitmsg.schema.validate import refuses_unknown

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Mode", "generate"]

Mode: TypeAlias = Literal["validation", "serialization"]
"""Whether values go into a service or come out of it."""

_REF: Final = "#/$defs/{name}"
# ISO 8601 without years, months and weeks: what msgspec reads and writes.
_DURATION: Final = (
    r"^[+-]?P(?=.)(\d+(\.\d+)?D)?(T(?=\d)(\d+(\.\d+)?H)?(\d+(\.\d+)?M)?"
    r"(\d+(\.\d+)?S)?)?$"
)
_ORDINARY_DOCS: Final = ("An enumeration.",)


def generate(type_: Any, mode: Mode) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON Schema of a type, and the definitions that it refers to.

    Args:
        type_: The type.
        mode: ``validation`` for what goes into a service, ``serialization`` for what comes
            out of it.
    """
    info = mi.type_info(type_)
    parts = list(reached(info))
    models, definitions = _models(parts, mode)
    named = {each.cls: each for each in parts if isinstance(each, NAMED)}
    names = names_of(named.values(), definitions)
    generator = _Generator(mode, names, models, literal_orders(type_, parts))
    schema = generator.of(info)
    for cls, name in names.items():
        definitions[name] = generator.definition(named[cls])
    return schema, definitions


def _models(
    parts: list[mi.Type], mode: Mode
) -> tuple[dict[Any, dict[str, Any]], dict[str, Any]]:
    """Return schemas of the pydantic models, most of them references, and definitions."""
    models = models_of(parts)
    if not models:
        return {}, {}
    from pydantic.json_schema import models_json_schema

    found, rest = models_json_schema(
        [(model, mode) for model in models],
        ref_template="#/$defs/{model}",
        schema_generator=schema_generator(),
    )
    definitions = rest.get("$defs", {})
    for (model, _), schema in found.items():
        placed = definitions.get(schema.get("$ref", "").removeprefix("#/$defs/"), {})
        is_open = mode == "validation" and not refuses_unknown(model)
        if is_open and "properties" in placed:
            placed.setdefault("additionalProperties", True)
    return {model: schema for (model, _), schema in found.items()}, definitions


class _Generator:
    """Writes the schemas of one type and of the classes in it.

    Args:
        mode: As in `generate`.
        names: Names of the classes that have a definition.
        models: Schemas of the pydantic models.
        orders: Values of literals as they were written.
    """

    def __init__(
        self,
        mode: Mode,
        names: dict[Any, str],
        models: dict[Any, dict[str, Any]],
        orders: dict[Any, tuple[Any, ...]],
    ) -> None:
        self._mode = mode
        self._names = names
        self._models = models
        self._orders = orders

    def of(self, info: Any) -> dict[str, Any]:
        """Return the schema of a type; a reference for a class with a definition."""
        extra: dict[str, Any] = {}
        while isinstance(info, mi.Metadata):
            extra = _merged(extra, info.extra_json_schema or {})
            info = info.type
        if isinstance(info, NAMED):
            return {**extra, "$ref": _REF.format(name=self._names[info.cls])}
        if isinstance(info, mi.CustomType):
            return _merged(self._models.get(info.cls, {}), extra)
        return _merged(self._plain(info), extra)

    def _plain(self, info: Any) -> dict[str, Any]:
        makers: list[tuple[Any, Any]] = [
            (mi.UnionType, self._union),
            (mi.LiteralType, self._literal),
            (mi.CollectionType, self._list),
            (mi.TupleType, self._tuple),
            (mi.DictType, self._dict),
        ]
        found = (make for kind, make in makers if isinstance(info, kind))
        schema: dict[str, Any] = next(found, _leaf)(info)
        return schema

    def _literal(self, info: mi.LiteralType) -> dict[str, Any]:
        key = frozenset(v for v in info.values if v is not None)
        values = self._orders.get(key, info.values)
        none = [None] if None in info.values else []
        return {"enum": [*(v for v in values if v is not None), *none]}

    def _tuple(self, info: mi.TupleType) -> dict[str, Any]:
        places = [self.of(item) for item in info.item_types]
        return _places(places, len(places), len(places))

    def _list(self, info: Any) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "array", "items": self.of(info.item_type)}
        return schema | _given(minItems=info.min_length, maxItems=info.max_length)

    def _dict(self, info: Any) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object"}
        key = info.key_type
        while isinstance(key, mi.Metadata):
            key = key.type
        if isinstance(key, mi.StrType):
            names = {k: v for k, v in self.of(info.key_type).items() if k != "type"}
            schema |= {"propertyNames": names} if names else {}
        if not isinstance(info.value_type, mi.AnyType):
            schema["additionalProperties"] = self.of(info.value_type)
        return schema | _given(
            minProperties=info.min_length, maxProperties=info.max_length
        )

    def _union(self, info: mi.UnionType) -> dict[str, Any]:
        options = [(self.of(each), _bare(each)) for each in info.types]
        tagged = [each for each in options if _has_tag(each[1])]
        null = [each for each in options if isinstance(each[1], mi.NoneType)]
        rest = [each for each in options if each not in tagged and each not in null]
        if len(tagged) < len("ab"):
            return {"anyOf": [schema for schema, _ in (*rest, *tagged, *null)]}
        union = {
            "anyOf": [schema for schema, _ in tagged],
            "discriminator": {
                "propertyName": tagged[0][1].tag_field,
                "mapping": {each.tag: schema["$ref"] for schema, each in tagged},
            },
        }
        if not rest and not null:
            return union
        outer = [schema for schema, _ in rest]
        return {"anyOf": [*outer, union, *(schema for schema, _ in null)]}

    def definition(self, info: Any) -> dict[str, Any]:
        """Return the schema of a class."""
        if isinstance(info, mi.EnumType):
            return _enum(info)
        head: dict[str, Any] = {"title": title_of(info.cls), **_doc(info)}
        names, fields, required = self._fields(info)
        if isinstance(info, mi.NamedTupleType) or getattr(info, "array_like", False):
            closed = isinstance(info, mi.NamedTupleType) or info.forbid_unknown_fields
            most = len(fields) if closed else None
            return head | _places(fields, _least(names, required), most)
        schema: dict[str, Any] = {
            "type": "object",
            "properties": dict(zip(names, fields, strict=True)),
            "required": required,
        }
        if getattr(info, "forbid_unknown_fields", False):
            schema["additionalProperties"] = False
        return head | schema

    def _fields(self, info: Any) -> tuple[list[str], list[dict[str, Any]], list[str]]:
        """Return names and schemas of the fields, and the names of the required ones."""
        names: list[str] = []
        fields: list[dict[str, Any]] = []
        required: list[str] = []
        tag_field = getattr(info, "tag_field", None)
        if tag_field is not None:
            names, fields = [tag_field], [{"enum": [info.tag]}]
            required = [tag_field]
        computed = _computed(info) if self._mode == "validation" else frozenset()
        for field in info.fields:
            names.append(field.encode_name)
            fields.append(self.of(field.type) | _default(field))
            if field.required and field.name not in computed:
                required.append(field.encode_name)
        return names, fields, required


def _bare(info: Any) -> Any:
    while isinstance(info, mi.Metadata):
        info = info.type
    return info


def _has_tag(info: Any) -> bool:
    return (
        isinstance(info, mi.StructType)
        and info.tag_field is not None
        and not info.array_like
    )


def _least(names: list[str], required: list[str]) -> int:
    """Return how many places an array needs: up to the last that is required."""
    return max((at for at, name in enumerate(names, 1) if name in required), default=0)


def _places(
    places: list[dict[str, Any]], least: int, most: int | None
) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "minItems": least, "items": {}}
    if places:
        schema["prefixItems"] = places
    return schema if most is None else {**schema, "maxItems": most}


def _computed(info: Any) -> frozenset[str]:
    fields = getattr(get_origin(info.cls) or info.cls, "__dataclass_fields__", {})
    return frozenset(name for name, field in fields.items() if not field.init)


def _default(field: Any) -> dict[str, Any]:
    """Return the default of a field as its schema says it; nothing if that is unknown."""
    default, factory = field.default, field.default_factory
    if default is msgspec.NODEFAULT and factory in (list, dict, set, bytearray):
        default = factory()
    elif default is msgspec.NODEFAULT and isinstance(factory, functools.partial):
        default = factory.args[0]  # of a parameter; see `kitmsg.schema.reading`
    if default is msgspec.NODEFAULT or default is msgspec.UNSET:
        return {}
    plain = msgspec.to_builtins(default, str_keys=True, enc_hook=write_model)
    return {"default": plain}


def _enum(info: mi.EnumType) -> dict[str, Any]:
    """Return the schema of an enum, its values in the order of their declaration.

    Flags are numbers: any of them may stand together.
    """
    cls: Any = info.cls
    head: dict[str, Any] = {"title": cls.__name__, **_doc(info)}
    if issubclass(cls, enum.Flag):
        bits = {member.name: member.value for member in cls}
        whole = functools.reduce(lambda a, b: a | b, bits.values(), 0)
        return head | {
            "type": "integer",
            "minimum": 0,
            "maximum": whole,
            "x-flags": bits,
        }
    values = [member.value for member in cls]
    if all(isinstance(value, int) for value in values):
        head["x-enum-varnames"] = [member.name for member in cls]
    return head | {"enum": values}


def _doc(info: Any) -> dict[str, Any]:
    cls = get_origin(info.cls) or info.cls
    doc = inspect.cleandoc(cls.__doc__ or "").strip("\r\n")
    is_made = doc.startswith(f"{cls.__name__}(") and doc.endswith(")")
    return {} if not doc or is_made or doc in _ORDINARY_DOCS else {"description": doc}


def _given(**words: Any) -> dict[str, Any]:
    return {key: value for key, value in words.items() if value is not None}


def _merged(schema: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    merged = dict(schema)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _leaf(info: Any) -> dict[str, Any]:
    make = _LEAVES.get(type(info))
    if make is None:
        raise TypeError(f"{type(info).__name__} has no JSON Schema")
    return make(info)


def _fixed(**words: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda _: dict(words)


def _number(kind: str) -> Callable[[Any], dict[str, Any]]:
    return lambda info: {
        "type": kind,
        **_given(
            minimum=info.ge,
            exclusiveMinimum=info.gt,
            maximum=info.le,
            exclusiveMaximum=info.lt,
            multipleOf=info.multiple_of,
        ),
    }


def _text(info: mi.StrType) -> dict[str, Any]:
    return {"type": "string"} | _given(
        maxLength=info.max_length, minLength=info.min_length, pattern=info.pattern
    )


def _bytes(info: Any) -> dict[str, Any]:
    def encoded(length: int | None) -> int | None:
        return None if length is None else 4 * ((length + 2) // 3)

    return {"type": "string", "contentEncoding": "base64"} | _given(
        maxLength=encoded(info.max_length), minLength=encoded(info.min_length)
    )


def _time(name: str, local: str, example: str) -> Callable[[Any], dict[str, Any]]:
    # Without an offset it is no time of RFC 3339, and has a format of its own.
    def make(info: Any) -> dict[str, Any]:
        if info.tz is False:
            return {"type": "string", "format": local, "examples": [example]}
        return {"type": "string", "format": name}

    return make


_LEAVES: Final[dict[Any, Callable[[Any], dict[str, Any]]]] = {
    mi.AnyType: _fixed(),
    mi.RawType: _fixed(),
    mi.NoneType: _fixed(type="null"),
    mi.BoolType: _fixed(type="boolean"),
    mi.IntType: _number("integer"),
    mi.FloatType: _number("number"),
    mi.StrType: _text,
    mi.BytesType: _bytes,
    mi.ByteArrayType: _bytes,
    mi.MemoryViewType: _bytes,
    mi.DateTimeType: _time("date-time", "date-time-local", "2030-01-31T12:00:00"),
    mi.TimeType: _time("time", "time-local", "12:00:00"),
    mi.DateType: _fixed(type="string", format="date"),
    mi.TimeDeltaType: _fixed(
        type="string", format="duration", pattern=_DURATION, examples=["PT1H"]
    ),
    mi.UUIDType: _fixed(type="string", format="uuid"),
    mi.DecimalType: _fixed(type="string", format="decimal"),
}
