"""Validation beyond msgspec's own, at any depth of a request.

    unknown fields   in Structs, dataclasses, TypedDicts and pydantic models
    large integers   outside 64 bits, signed
    NaN, Infinity    as floats and as Decimals

The rules for plain parameters are built into their types (see
`kitmsg.schema.types.bounded`) and cost nothing.  Only where a request holds objects of
the user's own classes, ``Any`` or ``Decimal`` is the body decoded a second time,
untyped, and walked by the checks made here; a Struct with ``forbid_unknown_fields`` and
bounded numbers needs none.
"""

from __future__ import annotations

import enum
import functools
import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec
import msgspec.inspect as mi

from kitmsg.codec import as_step, children, join, unknown_field
from kitmsg.schema.types import INT_MAX, INT_MIN

__all__ = [
    "Check",
    "Fault",
    "choices_at",
    "compile_check",
    "field_names",
    "refuses_unknown",
]


class Fault:
    """Something that is not allowed.

    Attributes:
        steps: Where, innermost first.
        problem: What was expected.
    """

    __slots__ = ("problem", "steps")

    def __init__(self, problem: str, step: str = "") -> None:
        self.problem = problem
        self.steps = [step]

    def at(self, step: str) -> Fault:
        """Return itself, one level further out."""
        self.steps.append(step)
        return self

    @property
    def path(self) -> str:
        """Dotted path from the root of the request."""
        path = ""
        for step in reversed(self.steps):
            path = join(path, step)
        return path


Check: TypeAlias = Callable[[Any], Fault | None]
"""Takes a value decoded without types; returns what is wrong with it."""

_OBJECTS = (mi.StructType, mi.DataclassType, mi.TypedDictType)
_CLASSES = (*_OBJECTS, mi.NamedTupleType, mi.CustomType)
_LISTS = (
    mi.ListType,
    mi.SetType,
    mi.FrozenSetType,
    mi.VarTupleType,
    mi.CollectionType,
)


def compile_check(info: mi.Type, *, forbid_unknown: bool) -> Check | None:
    """Return the check for values of a type; None when msgspec's own suffices.

    Args:
        info: The type, as `msgspec.inspect` describes it.
        forbid_unknown: Refuse fields that no class in it declares.
    """
    return _Compiler(forbid_unknown).check(info)


class _Compiler:
    """Builds checks; remembers the classes it has met, since types may be recursive."""

    def __init__(self, forbid_unknown: bool) -> None:
        self._forbid = forbid_unknown
        self._made: dict[Any, Check | None] = {}

    def check(self, info: mi.Type) -> Check | None:
        if isinstance(info, (mi.IntType, mi.FloatType)):
            return _number if _open(info) else None
        if isinstance(info, mi.Metadata):
            return self.check(info.type)
        if isinstance(info, mi.EnumType) and issubclass(info.cls, enum.Flag):
            return _flags(info.cls)
        return _LEAVES.get(type(info)) or self._compound(info)

    def _compound(self, info: mi.Type) -> Check | None:
        if isinstance(info, _LISTS):
            return _each(self.check(info.item_type))
        if isinstance(info, mi.DictType):
            keys = self.check(info.key_type)
            keys = _number_key if keys is _number else keys
            return _mapping(keys, self.check(info.value_type))
        if isinstance(info, mi.TupleType):
            return _positions([self.check(item) for item in info.item_types])
        if isinstance(info, mi.UnionType):
            return self._union(info)
        return self._once(info) if isinstance(info, _CLASSES) else None

    def _once(self, info: Any) -> Check | None:
        """Return the check of a class, made once.

        While it is being made, a reference to itself gets one that looks it up later;
        so a recursive class is always walked.
        """
        # Two parametrizations of a generic class differ in their fields: both count.
        key = (info.cls, *(id(f) for f in getattr(info, "fields", ())))
        if key not in self._made:
            self._made[key] = lambda value: _run(self._made[key], value)
            self._made[key] = self._class(info)
        return self._made[key]

    def _class(self, info: Any) -> Check | None:
        if isinstance(info, mi.CustomType):
            fields = _pydantic_fields(info.cls)
            return None if fields is None else self._fields(fields, self._forbid, None)
        if isinstance(info, mi.NamedTupleType) or getattr(info, "array_like", False):
            head = [None] if getattr(info, "tag", None) is not None else []
            checks = [self.check(field.type) for field in info.fields]
            return _positions([*head, *checks], closed=self._forbid)
        fields = {field.encode_name: field.type for field in info.fields}
        forbid = self._forbid and not getattr(info, "forbid_unknown_fields", False)
        return self._fields(fields, forbid, getattr(info, "tag_field", None))

    def _fields(
        self, fields: dict[str, mi.Type], forbid: bool, tag_field: str | None
    ) -> Check | None:
        checks = {name: self.check(type_) for name, type_ in fields.items()}
        if not forbid and not any(checks.values()):
            return None
        if tag_field is not None:
            checks[tag_field] = None
        return _object(checks, forbid)

    def _union(self, info: mi.UnionType) -> Check | None:
        members = [(member, self.check(member)) for member in info.types]
        if not any(check for _, check in members):
            return None
        return lambda value: _run(_choose(members, value), value)


def _run(check: Check | None, value: Any) -> Fault | None:
    return None if check is None else check(value)


def _choose(
    members: Sequence[tuple[mi.Type, Check | None]], value: Any
) -> Check | None:
    """Return the check of the union's member that `value` was decoded as."""
    if isinstance(value, dict):
        found = (c for info, c in members if _is_map(info) and _has_tag(info, value))
        return next(found, None)
    if isinstance(value, list):
        found = (c for i, c in members if _is_array(i) and _has_array_tag(i, value))
        return next(found, None)
    leaves = (
        mi.IntType,
        mi.FloatType,
        mi.DecimalType,
        mi.AnyType,
        mi.Metadata,
        mi.EnumType,
    )
    return next((c for info, c in members if c and isinstance(info, leaves)), None)


def _is_map(info: mi.Type) -> bool:
    return isinstance(info, (*_OBJECTS, mi.DictType, mi.CustomType)) and not (
        getattr(info, "array_like", False)
    )


def _is_array(info: mi.Type) -> bool:
    lists = (*_LISTS, mi.TupleType, mi.NamedTupleType)
    return isinstance(info, lists) or getattr(info, "array_like", False)


def _has_tag(info: mi.Type, value: dict[Any, Any]) -> bool:
    tag_field = getattr(info, "tag_field", None)
    return tag_field is None or value.get(tag_field) == getattr(info, "tag", None)


def _has_array_tag(info: mi.Type, value: list[Any]) -> bool:
    tag = getattr(info, "tag", None)
    return tag is None or value[:1] == [tag]


def _open(info: mi.IntType | mi.FloatType) -> bool:
    """Tell whether a number type lets in what no peer may send."""
    return (info.ge is None and info.gt is None) or (
        info.le is None and info.lt is None
    )


def _number(value: Any) -> Fault | None:
    if isinstance(value, int):
        inside = INT_MIN <= value <= INT_MAX
        return None if inside else Fault("expected a 64-bit integer")
    if isinstance(value, float) and not math.isfinite(value):
        return Fault("expected a finite number")
    return None


def _flags(cls: type[enum.Flag]) -> Check:
    """Return the check of flags: a number of no bits but theirs.

    Python would take a negative number, and for an ``IntFlag`` any other.
    """
    whole = functools.reduce(operator.or_, (member.value for member in cls), 0)

    def check(value: Any) -> Fault | None:
        if isinstance(value, int) and not (value >= 0 and value | whole == whole):
            return Fault(f"expected flags within {whole}, got {value}")
        return None

    return check


def _decimal(value: Any) -> Fault | None:
    if isinstance(value, str) and value.lstrip("+-")[:1] not in set("0123456789."):
        return Fault("expected a finite number")
    return _number(value) if isinstance(value, float) else None


def _anything(value: Any) -> Fault | None:
    if isinstance(value, dict):
        return _ANY_MAP(value)
    if isinstance(value, (list, tuple)):
        return _ANY_LIST(value)
    return _number(value)


def _each(check: Check | None) -> Check | None:
    if check is None:
        return None

    def walk(values: Iterable[Any]) -> Fault | None:
        for index, value in enumerate(values):
            fault = check(value)
            if fault is not None:
                return fault.at(f"[{index}]")
        return None

    return walk


def _mapping(key_check: Check | None, check: Check | None) -> Check | None:
    if key_check is None and check is None:
        return None

    def walk(values: dict[Any, Any]) -> Fault | None:
        for key, value in values.items():
            fault = _run(key_check, key) or _run(check, value)
            if fault is not None:
                return fault.at(f"[{key}]")
        return None

    return walk


def _number_key(key: Any) -> Fault | None:
    """Check a key that is a number; JSON writes it as text."""
    # Python turns no more digits than these into an int.
    if isinstance(key, str) and re.fullmatch(r"-?\d{1,4300}", key):
        return _number(int(key))
    return _number(key)


def _positions(checks: Sequence[Check | None], closed: bool = False) -> Check | None:
    """Return the check of a list whose items differ; `closed` refuses more of them."""
    if not closed and not any(checks):
        return None

    def walk(values: Sequence[Any]) -> Fault | None:
        if closed and len(values) > len(checks):
            return Fault(f"expected {len(checks)} items, got {len(values)}")
        for index, (check, value) in enumerate(zip(checks, values, strict=False)):
            fault = check(value) if check is not None else None
            if fault is not None:
                return fault.at(f"[{index}]")
        return None

    return walk


def _object(checks: dict[str, Check | None], forbid: bool) -> Check:
    known = tuple(checks)

    def walk(value: dict[str, Any]) -> Fault | None:
        for name, item in value.items():
            if name not in checks:
                if forbid:
                    return Fault(unknown_field(known), as_step(str(name)))
                continue
            check = checks[name]
            fault = check(item) if check is not None else None
            if fault is not None:
                return fault.at(as_step(name))
        return None

    return walk


_LEAVES: dict[type, Check] = {
    mi.AnyType: _anything,
    mi.RawType: _anything,
    mi.DecimalType: _decimal,
}
_ANY_LIST = _each(_anything) or _number
_ANY_MAP = _mapping(_number, _anything) or _number


def _pydantic_fields(model: Any) -> dict[str, mi.Type] | None:
    """Return the fields of a pydantic model by each name they go by in a request.

    None for a model that allows extra fields, or looks its fields up by a path.
    """
    if model.model_config.get("extra") == "allow":
        return None
    fields: dict[str, mi.Type] = {}
    for name, field in model.model_fields.items():
        alias = field.validation_alias or field.alias
        if alias is not None and not isinstance(alias, str):
            return None
        info = _info(field.annotation)
        fields[alias or name] = info
        if model.model_config.get("populate_by_name"):
            fields[name] = info
    return fields


def refuses_unknown(model: Any) -> bool:
    """Tell whether an endpoint can tell which fields a pydantic model does not know."""
    return _pydantic_fields(model) is not None


def _info(annotation: Any) -> mi.Type:
    """Return the description of a pydantic field's type; Any for what msgspec lacks."""
    try:
        return mi.type_info(annotation)
    except (TypeError, NameError):
        return mi.AnyType()


_STEP = re.compile(r"\[(?:\d+|\.\.\.)\]|[^.\[\]]+")


def choices_at(info: mi.Type, path: str) -> Sequence[str]:
    """Return the field names, or the values, that `info` allows at a dotted path."""
    here = [info]
    for step in _STEP.findall(path):
        here = [child for item in _flat(here) for child in _step(item, step)]
    found = (name for item in _flat(here) for name in _choices(item))
    return tuple(dict.fromkeys(found))


def _flat(infos: Iterable[mi.Type]) -> list[mi.Type]:
    """Return `infos` with unions and annotations replaced by what they hold."""
    flat: list[mi.Type] = []
    for info in infos:
        if isinstance(info, (mi.UnionType, mi.Metadata)):
            flat += _flat(children(info))
        else:
            flat.append(info)
    return flat


def _step(info: mi.Type, step: str) -> Iterable[mi.Type]:
    fields = getattr(info, "fields", ())
    if not step.startswith("["):
        return [field.type for field in fields if field.encode_name == step]
    if fields:
        return [field.type for field in fields]
    return children(info)


def _choices(info: mi.Type) -> Iterable[str]:
    if isinstance(info, mi.LiteralType):
        return [str(value) for value in info.values]
    if isinstance(info, mi.EnumType):
        return [str(member.value) for member in info.cls]
    return field_names(info)


def field_names(info: mi.Type) -> tuple[str, ...]:
    """Return the names that an object of this type has on the wire, in order."""
    tag = getattr(info, "tag_field", None)
    names = tuple(field.encode_name for field in getattr(info, "fields", ()))
    return names if tag is None else (tag, *names)


def untyped(codec_name: str) -> Callable[[bytes], Any]:
    """Return the decoder whose result the checks walk."""
    decoder: Callable[[bytes], Any] = (
        msgspec.json.Decoder().decode
        if codec_name == "json"
        else msgspec.msgpack.Decoder().decode
    )
    return decoder
