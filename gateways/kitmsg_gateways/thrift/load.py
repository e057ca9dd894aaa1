"""A ``.thrift`` file or text to an `Idl`; thriftpy2 parses it.

Refused with a sentence: what thriftpy2 cannot read, and maps whose keys are structs or
containers, which have no form on the bus.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from kitmsg.errors import InvalidArgument
from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.model import (
    EnumType,
    Field,
    Idl,
    ListType,
    MapType,
    Method,
    ServiceType,
    StructType,
    ThriftType,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["load", "parse"]

_BASIC: Final[dict[int, ThriftType]] = {
    2: model.BOOL,
    3: model.I8,
    4: model.DOUBLE,
    6: model.I16,
    8: model.I32,
    10: model.I64,
    11: model.STRING,
    18: model.BINARY,
}
_SET, _MAP = 14, 13
_NAME: Final = "kit.name"
_WRAPPER: Final = "kit.optional"
_NULL: Final = "kit.null"
_WITH_SPEC: Final = 4  # fields of a thriftpy2 field: wire type, name, spec, required
_counter: Final = itertools.count()


def load(path: str | Path, include: Sequence[str | Path] = ()) -> Idl:
    """Return the IDL in a file.

    Args:
        path: The file.
        include: Folders where files that it includes are looked for, beside its own.

    Raises:
        InvalidArgument: The file cannot be read or understood; the message says where.
    """
    from thriftpy2.parser.parser import parse as parse_file

    file = Path(path)
    try:
        module = parse_file(  # type: ignore[no-untyped-call]  # it has no types
            str(file),
            f"{file.stem}_thrift",
            include_dirs=[str(folder) for folder in include],
            enable_cache=False,
        )
    except OSError as exc:
        raise InvalidArgument(f"{file} cannot be read: {exc.strerror}") from exc
    except Exception as exc:  # thriftpy2 raises what its grammar actions ran into
        raise InvalidArgument(f"{file} is no Thrift IDL: {exc}") from exc
    return _idl(module, file.stem)


def parse(text: str, name: str) -> Idl:
    """Return the IDL in a text, which includes no other.

    Raises:
        InvalidArgument: The text cannot be understood; the message says where.
    """
    from thriftpy2.parser.parser import parse_fp

    # The name must be new: thriftpy2 finds a module by it.
    module_name = f"kitmsg_{next(_counter)}_thrift"
    try:
        module = parse_fp(  # type: ignore[no-untyped-call]  # it has no types
            io.StringIO(text), module_name, enable_cache=False
        )
    except Exception as exc:  # as in `load`
        raise InvalidArgument(f"the Thrift IDL of {name} is wrong: {exc}") from exc
    return _idl(module, name)


def _idl(module: Any, name: str) -> Idl:
    reader = _Reader(_unions(module))
    services = {
        service.__name__: reader.service(service)
        for service in module.__thrift_meta__["services"]
    }
    if not services:
        raise InvalidArgument(f"the Thrift IDL {name} has no service")
    return Idl(name, services)


def _unions(module: Any) -> set[type]:
    found: set[type] = set()
    for part in _with_includes(module):
        found.update(part.__thrift_meta__["unions"])
    return found


def _with_includes(module: Any) -> Iterator[Any]:
    yield module
    for included in module.__thrift_meta__["includes"]:
        yield from _with_includes(included)


class _Reader:
    """Turns thriftpy2's classes into the model; each class once."""

    def __init__(self, unions: set[type]) -> None:
        self._unions = unions
        self._made: dict[type, Any] = {}

    def service(self, cls: Any) -> ServiceType:
        methods = {}
        for name in sorted(cls.thrift_services):
            args = self._struct(getattr(cls, f"{name}_args"))
            result_class = getattr(cls, f"{name}_result")
            result = StructType(result_class.__name__)
            # A oneway method has the specification of a method without result.
            result.fields = self._fields(result_class)
            methods[name] = Method(
                name,
                args,
                result,
                bool(result_class.oneway),
                _unescaped(_inherited(cls, name).get(_NAME)),
            )
        return ServiceType(cls.__name__, methods, _alias(cls))

    def _struct(self, cls: Any) -> StructType:
        if cls not in self._made:
            made = StructType(
                cls.__name__,
                is_union=cls in self._unions,
                is_wrapper=_WRAPPER in getattr(cls, "__thrift_annotations__", {}),
                alias=_alias(cls),
            )
            self._made[cls] = made
            made.fields = self._fields(cls)
        struct: StructType = self._made[cls]
        return struct

    def _fields(self, cls: Any) -> tuple[Field, ...]:
        defaults = dict(getattr(cls, "default_spec", ()))
        notes = getattr(cls, "__thrift_field_annotations__", {})
        fields = []
        for id_, item in (cls.thrift_spec or {}).items():
            name = item[1]
            detail = item[2] if len(item) == _WITH_SPEC else None
            type_ = self._type(item[0], detail, f"{cls.__name__}.{name}")
            noted = notes.get(name) or {}
            fields.append(
                Field(
                    id_,
                    name,
                    type_,
                    is_required=bool(item[-1]),
                    default=defaults.get(name),
                    alias=_unescaped(noted.get(_NAME)),
                    is_nullable=_NULL in noted,
                )
            )
        return tuple(fields)

    def _type(self, wire: int, detail: Any, where: str) -> ThriftType:
        if wire == _MAP:
            key, value = (self._part(part, where) for part in detail)
            if not isinstance(key, model.Basic | EnumType):
                raise InvalidArgument(
                    f"{where} is a map with keys of type {model.spell(key)}, which has"
                    " no form on the bus; use a list of structs"
                )
            return MapType(key, value)
        if wire in (_SET, model.Wire.LIST):
            return ListType(self._part(detail, where), wire == _SET)
        if wire == model.Wire.STRUCT:
            return self._struct(detail)
        return self._enum(detail) if detail is not None else _BASIC[wire]

    def _part(self, part: Any, where: str) -> ThriftType:
        wire, detail = part if isinstance(part, tuple) else (part, None)
        return self._type(wire, detail, where)

    def _enum(self, cls: Any) -> EnumType:
        if cls not in self._made:
            notes = getattr(cls, "__thrift_item_annotations__", {})
            found = {k: _unescaped((v or {}).get(_NAME)) for k, v in notes.items()}
            aliases = {k: v for k, v in found.items() if v is not None}
            numbers = dict(cls._NAMES_TO_VALUES)
            self._made[cls] = EnumType(cls.__name__, numbers, aliases)
        enum: EnumType = self._made[cls]
        return enum


def _alias(cls: type) -> str | None:
    return _unescaped(getattr(cls, "__thrift_annotations__", {}).get(_NAME))


def _unescaped(text: str | None) -> str | None:
    """Return a name as it was before `generate.py` escaped it; "%" is no text."""
    if text is None:
        return None
    return "" if text == "%" else unquote(text)


def _inherited(cls: type, method: str) -> dict[str, str]:
    """Return the annotations of a method, which may be a parent's."""
    for owner in cls.__mro__:
        notes = vars(owner).get("__thrift_function_annotations__", {}).get(method)
        if notes:
            found: dict[str, str] = notes
            return found
    return {}
