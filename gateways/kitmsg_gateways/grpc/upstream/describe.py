"""The messages of a gRPC service as JSON Schemas.

A message is an object with its fields by their own names.  An enum is the name of its
value, 64-bit integers are numbers, bytes are base64 in JSON, ``google.protobuf.Value`` is
anything, a ``Timestamp`` or ``Duration`` text.  Fields that a message may leave out are
left out; others are always there in what the server says, and zero when a caller does not
give them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor

from kitmsg_gateways.grpc.bind import map_entry
from kitmsg_gateways.grpc.layout import VALUE
from kitmsg_gateways.grpc.values import DURATION, TIMESTAMP

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, MethodDescriptor

__all__ = ["describe_method"]

_F: Final = FieldDescriptor
_TIMES: Final = {TIMESTAMP: "date-time", DURATION: "duration"}
_NUMBER: Final = {"type": "number"}
_SCALARS: Final[dict[int, dict[str, Any]]] = {
    _F.CPPTYPE_BOOL: {"type": "boolean"},
    _F.CPPTYPE_STRING: {"type": "string"},
    _F.CPPTYPE_DOUBLE: _NUMBER,
    _F.CPPTYPE_FLOAT: _NUMBER,
    _F.CPPTYPE_INT32: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    _F.CPPTYPE_INT64: {"type": "integer", "format": "int64"},
    _F.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
    _F.CPPTYPE_UINT64: {"type": "integer", "minimum": 0},
}


def describe_method(
    method: MethodDescriptor,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the JSON Schemas of a method's request and of its reply.

    Raises:
        ValueError: A field has no form in JSON.
    """
    return (
        _Schema(is_reply=False).of(method.input_type),
        _Schema(is_reply=True).of(method.output_type),
    )


class _Schema:
    """Writes the JSON Schema of a message, with all that it is made of.

    Args:
        is_reply: Whether the server says it; fields without presence are there then.
    """

    def __init__(self, *, is_reply: bool) -> None:
        self._is_reply = is_reply
        self._names: dict[str, str] = {}
        self._defs: dict[str, Any] = {}

    def of(self, descriptor: Descriptor) -> dict[str, Any]:
        """Return the schema of a message, a document of its own."""
        return {**self._message(descriptor), "$defs": self._defs}

    def _message(self, descriptor: Descriptor) -> dict[str, Any]:
        full = descriptor.full_name
        if full == VALUE:
            return {}
        if full not in self._names:
            taken = self._names.values()
            short = descriptor.name
            name = short if short not in taken else full.replace(".", "_")
            self._names[full] = name
            self._defs[name] = self._object(descriptor, name)
        return {"$ref": f"#/$defs/{self._names[full]}"}

    def _object(self, descriptor: Descriptor, name: str) -> dict[str, Any]:
        required = [
            fd.name
            for fd in descriptor.fields
            if fd.is_required or (self._is_reply and not fd.has_presence)
        ]
        return {
            "title": name,
            "type": "object",
            "properties": {fd.name: self._field(fd) for fd in descriptor.fields},
            "required": required,
            **({} if self._is_reply else {"additionalProperties": False}),
        }

    def _field(self, fd: FieldDescriptor) -> dict[str, Any]:
        entry = map_entry(fd)
        if entry is not None:
            if entry.fields_by_name["key"].type != _F.TYPE_STRING:
                raise ValueError(
                    f"{fd.full_name}: only a map with text for keys is JSON"
                )
            value = entry.fields_by_name["value"]
            return {"type": "object", "additionalProperties": self._single(value)}
        if fd.is_repeated:
            return {"type": "array", "items": self._single(fd)}
        return self._single(fd)

    def _single(self, fd: FieldDescriptor) -> dict[str, Any]:
        if fd.message_type is not None:
            known = _TIMES.get(fd.message_type.full_name)
            if known is not None:
                return {"type": "string", "format": known}
            if fd.type == _F.TYPE_GROUP:
                raise ValueError(f"{fd.full_name}: it is a group")
            return self._message(fd.message_type)
        if fd.enum_type is not None:
            return {"enum": [value.name for value in fd.enum_type.values]}
        if fd.type == _F.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return _SCALARS[fd.cpp_type]
