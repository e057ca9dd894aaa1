"""The types of an IDL as JSON Schema.

A field that the IDL does not say is required may be left out.  An enum is one of its names,
a union is an object with one of its fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from kitmsg_gateways.thrift import model
from kitmsg_gateways.thrift.model import (
    EnumType,
    ListType,
    MapType,
    StructType,
    Wire,
)

if TYPE_CHECKING:
    from kitmsg_gateways.thrift.model import Field, Method, ThriftType

__all__ = ["ERR", "describe_method", "nullable", "reply_struct"]

ERR: Final = "err"
"""Where Go kit's services put the text of a business error."""

_BITS: Final = {Wire.I8: 8, Wire.I16: 16, Wire.I32: 32}
_LEAVES: Final[dict[Wire, dict[str, Any]]] = {
    Wire.BOOL: {"type": "boolean"},
    Wire.I64: {"type": "integer", "format": "int64"},
    Wire.DOUBLE: {"type": "number"},
    Wire.STRING: {"type": "string"},
}


def describe_method(method: Method) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON Schemas of a method's request and of its result."""
    schemas = _Schemas()
    request = schemas.document(schemas.object(method.args, "the parameters"))
    schemas = _Schemas()
    return request, schemas.document(_response(schemas, method))


def nullable(field: Field) -> dict[str, Any]:
    """Return the JSON Schema of a field that may be null."""
    schema = _Schemas().of(field.type)
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def reply_struct(method: Method) -> tuple[Field, ...] | None:
    """Return the fields beside ``err`` in a result that has one; None for any other."""
    type_ = method.success
    if not isinstance(type_, StructType) or type_.is_union or type_.is_wrapper:
        return None
    others = tuple(field for field in type_.fields if field.name != ERR)
    err = [field for field in type_.fields if field.name == ERR]
    return others if err and err[0].type is model.STRING else None


def _response(schemas: _Schemas, method: Method) -> dict[str, Any]:
    if method.success is None:
        return {"type": "null"}
    others = reply_struct(method)
    if others is None:
        return schemas.of(method.success)
    if not others:
        return {"type": "null"}
    if len(others) == 1:
        return schemas.of(others[0].type)
    assert isinstance(method.success, StructType)  # noqa: S101  # it has fields
    return schemas.object(StructType(method.success.name, others), "the result")


class _Schemas:
    """Makes one JSON Schema, with the types that have names under ``$defs``."""

    def __init__(self) -> None:
        self._named: dict[str, dict[str, Any]] = {}

    def document(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return a schema with the definitions that it refers to."""
        return {**schema, "$defs": self._named} if self._named else schema

    def of(self, type_: ThriftType) -> dict[str, Any]:
        """Return the schema of a type."""
        if isinstance(type_, StructType):
            return self._struct(type_)
        if isinstance(type_, ListType):
            return {"type": "array", "items": self.of(type_.item)}
        if isinstance(type_, MapType):
            return {"type": "object", "additionalProperties": self.of(type_.value)}
        if isinstance(type_, EnumType):
            return {"enum": [type_.aliases.get(n, n) for n in type_.numbers]}
        return _leaf(type_)

    def _struct(self, type_: StructType) -> dict[str, Any]:
        if type_.is_wrapper:
            return {"anyOf": [self.of(type_.fields[0].type), {"type": "null"}]}
        if type_.name not in self._named:
            self._named[type_.name] = {}  # it may hold itself
            self._named[type_.name] = self.object(type_, type_.name)
        return {"$ref": f"#/$defs/{type_.name}"}

    def object(self, type_: StructType, title: str) -> dict[str, Any]:
        """Return the schema of an object with a struct's fields."""
        made: dict[str, Any] = {
            "type": "object",
            "properties": {field.key: self._field(field) for field in type_.fields},
            "required": [f.key for f in type_.fields if f.is_required],
            "additionalProperties": False,
        }
        if type_.is_union:
            made |= {"minProperties": 1, "maxProperties": 1}
        return {"title": title, **made} if title == type_.name else made

    def _field(self, field: Field) -> dict[str, Any]:
        schema = self.of(field.type)
        if field.is_nullable:
            return {"anyOf": [schema, {"type": "null"}]}
        return schema


def _leaf(type_: ThriftType) -> dict[str, Any]:
    if type_ is model.BINARY:
        return {"type": "string", "contentEncoding": "base64"}
    bits = _BITS.get(type_.wire)
    if bits is None:
        return dict(_LEAVES[type_.wire])
    bound = 1 << bits - 1
    return {"type": "integer", "minimum": -bound, "maximum": bound - 1}
